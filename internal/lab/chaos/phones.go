package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

const (
	domain  = "example.com"
	bundle  = "org.example.phone"
	team    = "TEAM123456"
	project = "example-phone"

	apns = "apns"
	fcm  = "fcm"
	// rested is how long ago a phone must have registered to count as asleep: more than
	// wake.recent (3s) and SIPWAKE_AWAKE_S (5s).
	rested = 6500 * time.Millisecond
)

// sleeper is a phone that sleeps between its calls. Safe for concurrent use.
type sleeper struct {
	w         *world
	user      string
	provider  string
	transport string
	token     string
	phone     *phone.Phone

	mu         sync.Mutex
	busy       bool
	open       bool // its socket or connection
	registered time.Time
}

// newSleeper creates phone i. Each node has every kind of transport and provider.
func (w *world) newSleeper(i int) (*sleeper, error) {
	s := &sleeper{w: w, user: fmt.Sprintf("phone%02d", i),
		provider: apns, transport: phone.UDP, token: fmt.Sprintf("%064x", 0xc4a05000+i)}
	params := ";pn-provider=apns;pn-param=" + team + "." + bundle + ".voip;pn-prid="
	if i/2%2 == 1 {
		s.provider, s.token = fcm, fmt.Sprintf("fcm-registration-token-%04d", i)
		params = ";pn-provider=fcm;pn-param=" + project + ";pn-prid="
	}
	if i/4%2 == 1 {
		s.transport = phone.TCP
	}
	var err error
	s.phone, err = phone.New(phone.Config{
		User: s.user, Domain: domain, Proxy: w.nodes[i%len(w.nodes)].address, Transport: s.transport,
		ContactParams: params + s.token, Instance: fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012x", i),
		Behaviour: phone.Answer(100 * time.Millisecond), WakeDelay: time.Duration(50+i*37%400) * time.Millisecond,
		Keep: 200, OnEvent: s.note,
	})
	if err != nil {
		return nil, err
	}
	w.apns.OnDeliver(s.token, func(payload []byte, _ http.Header) {
		var data struct{ NType, NCallID, CallUUID string }
		_ = json.Unmarshal(payload, &data) // an invalid payload wakes no phone, and the verdict notices
		s.pushed(data.NType, data.NCallID, data.CallUUID, payload)
	})
	w.fcm.OnDeliver(s.token, func(m *fcmsim.Message) { s.pushed(m.Data["ntype"], m.Data["ncallid"], m.Data["callUUID"], nil) })
	return s, nil
}

// pushed handles a delivered push. Only the push of a call wakes the phone.
func (s *sleeper) pushed(kind, callID, wake string, payload []byte) {
	const call = "0"
	if kind != call {
		return
	}
	s.w.ledger.push(callID, pushed{time.Now(), s.provider, wake})
	s.phone.OnPush(payload)
}

// note records what decides whether the phone sleeps.
func (s *sleeper) note(e phone.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.Kind == phone.Opened:
		s.open = true
	case e.Kind == phone.Slept:
		s.open = false
	case e.Kind == phone.Registered && e.Code == 200:
		s.registered = time.Now()
	}
}

// take reserves the phone if it sleeps. A phone that a late push has woken goes to sleep
// again.
func (s *sleeper) take() bool {
	s.mu.Lock()
	busy, open := s.busy, s.open
	ready := !busy && !open && time.Since(s.registered) > rested
	s.busy = busy || ready
	s.mu.Unlock()
	if !busy && open {
		s.phone.Sleep()
	}
	return ready
}

func (s *sleeper) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
}

func (s *sleeper) aor() string { return s.user + "@" + domain }

// enrol registers the phone and waits until sipwake has its binding; then it sleeps.
func (s *sleeper) enrol(ctx context.Context) error {
	res, err := s.phone.Register(ctx, time.Hour)
	if err != nil {
		return fmt.Errorf("cannot register %s: %w", s.user, err)
	}
	if res.Code() != 200 {
		return fmt.Errorf("cannot register %s: %d", s.user, res.Code())
	}
	var found struct{ Bindings []struct{ Device string } }
	err = poll(ctx, "the binding of "+s.user, func() bool {
		err := s.w.calls.call(ctx, 0, "binding.list", map[string]string{"aor": s.aor()}, &found)
		return err == nil && len(found.Bindings) == 1
	})
	s.phone.Sleep()
	return err
}

// rest lets the phone sleep; with goodbye it ends its registration first.
func (s *sleeper) rest(ctx context.Context, goodbye bool) {
	if goodbye {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, _ = s.phone.Register(ctx, 0) // the proxy may be away
	}
	s.phone.Sleep()
}
