package outbox

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

const bob = "bob@example.com"

// memory is a Store of the tests.
type memory struct {
	mu       sync.Mutex
	messages map[string]Message
	err      error
	putErr   error
}

func (s *memory) Put(ctx context.Context, m Message) error {
	s.mu.Lock()
	err := s.putErr
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Update(ctx, m)
}

func (s *memory) Update(_ context.Context, m Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.messages[m.ID] = m
	}
	return s.err
}

func (s *memory) Message(_ context.Context, id string) (Message, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.messages[id]
	return m, ok, s.err
}

func (s *memory) Messages(_ context.Context, cursor string, limit int) (list []Message, next string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.messages)) {
		if id < cursor {
			continue
		}
		if len(list) == limit {
			return list, id, s.err
		}
		list = append(list, s.messages[id])
	}
	return list, "", s.err
}

func (s *memory) Due(_ context.Context, now time.Time, lease time.Duration, _ int) (due []Message, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, m := range s.messages {
		if !m.Done() && !m.NextTry.After(now) {
			m.NextTry = now.Add(lease)
			s.messages[id] = m
			due = append(due, m)
		}
	}
	return due, s.err
}

// devices is a Devices with the devices of one user.
type devices struct {
	mu       sync.Mutex
	bindings []wake.Binding
	reasons  map[string]push.Reason // by token, instead of accepted
	pushed   []wake.DevicePush
	unserved bool
	scanErr  error
	busy     bool
	running  sync.WaitGroup
}

func (d *devices) Bindings(_ context.Context, aor string, _ secret.Token) (found []wake.Binding, err error) {
	for _, b := range d.bindings {
		if b.AOR == aor {
			found = append(found, b)
		}
	}
	return found, nil
}

func (d *devices) EachBinding(_ context.Context, f func([]wake.Binding) error) error {
	for some := range slices.Chunk(d.bindings, 100) {
		if d.scanErr != nil {
			return d.scanErr
		}
		if err := f(some); err != nil {
			return err
		}
	}
	return nil
}

func (d *devices) Push(p wake.DevicePush, done func(push.Outcome)) {
	d.mu.Lock()
	d.pushed = append(d.pushed, p)
	token := p.Binding.Address.Tokens[0].Value.Reveal()
	reason := push.Accepted
	if r, ok := d.reasons[token]; ok {
		reason = r
	}
	d.mu.Unlock()
	go done(push.Outcome{Reply: push.Reply{Reason: reason}, Tries: 1})
}

func (d *devices) Serves(wake.Binding) bool { return !d.unserved }

func (d *devices) Go(f func(context.Context)) error {
	if d.busy {
		return wake.ErrBusy
	}
	d.running.Go(func() { f(context.Background()) })
	return nil
}

type rig struct {
	*Service
	t       *testing.T
	store   *memory
	devices *devices
}

func inBubble(t *testing.T, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, store: &memory{messages: map[string]Message{}}, devices: &devices{reasons: map[string]push.Reason{}}}
		for _, token := range []string{"one", "two"} {
			r.devices.bindings = append(r.devices.bindings, wake.Binding{AOR: bob, Device: token, Address: pnparam.Address{
				Provider: pnparam.FCM, App: "app", Tokens: []pnparam.Token{{Value: secret.NewToken(token)}}}})
		}
		r.Service = New(r.store, r.devices, func() time.Duration { return time.Hour }, slog.New(slog.DiscardHandler))
		f(r)
	})
}

func (r *rig) send(change ...func(*SendParams)) Message {
	r.t.Helper()
	p := SendParams{AOR: bob, Kind: push.Custom, Title: "t"}
	for _, f := range change {
		f(&p)
	}
	m, err := r.Send(r.t.Context(), p)
	if err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
	return m
}

// states returns the state of each target, and why.
func (r *rig) states(id string) string {
	r.t.Helper()
	m, ok, err := r.Message(r.t.Context(), wake.Caller{}, id)
	if !ok || err != nil {
		r.t.Fatal(ok, err)
	}
	var list []string
	for _, t := range m.Targets {
		list = append(list, string(t.State)+" "+string(t.Reason))
	}
	return strings.Join(list, ", ")
}

// run lets the outbox work for a while.
func (r *rig) run(d time.Duration) {
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	r.Run(ctx, time.Second)
	synctest.Wait()
}

func TestSend(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.devices.reasons["two"] = push.TokenDead
		m := r.send()
		if got := r.states(m.ID); got != "sent accepted, failed token_dead" {
			t.Errorf("states are %s", got)
		}
		if p := r.devices.pushed[0]; p.Kind != push.Custom || p.Values.UUID != m.ID || !p.Deadline.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("pushed is %+v", p)
		}
		r.run(2 * time.Hour)
		if len(r.devices.pushed) != 2 {
			t.Errorf("%d pushes of a message that is done", len(r.devices.pushed))
		}
	})
}

// A push that fails for a while is tried again, less and less often, until it is
// taken or its time is over.
func TestSendAgain(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.devices.reasons["two"] = push.Unavailable
		m := r.send()
		if got := r.states(m.ID); got != "sent accepted, queued unavailable" {
			t.Errorf("states are %s", got)
		}
		r.run(20 * time.Minute)
		if n := len(r.devices.pushed); n < 6 || n > 20 {
			t.Errorf("%d pushes in 20 minutes", n)
		}
		delete(r.devices.reasons, "two")
		r.run(11 * time.Minute)
		if got := r.states(m.ID); got != "sent accepted, sent accepted" {
			t.Errorf("states are %s", got)
		}
	})
	inBubble(t, func(r *rig) {
		r.devices.reasons["one"], r.devices.reasons["two"] = push.Unavailable, push.ByPolicy
		m := r.send(func(p *SendParams) { p.TTL = 10 * time.Minute })
		r.run(15 * time.Minute)
		if got := r.states(m.ID); got != "failed unavailable, failed policy" {
			t.Errorf("states are %s", got)
		}
	})
}

// What can never be delivered is final at once.
func TestSendFinal(t *testing.T) {
	f := func(reason push.Reason, state TargetState) {
		t.Helper()
		inBubble(t, func(r *rig) {
			r.devices.bindings = r.devices.bindings[:1]
			r.devices.reasons["one"] = reason
			m := r.send()
			if got := r.states(m.ID); got != string(state)+" "+string(reason) {
				t.Errorf("states are %s", got)
			}
		})
	}
	f(push.Denied, TargetFailed)
	f(push.TokenBad, TargetFailed)
	f(push.BadRequest, TargetFailed)
	f(push.ByPolicy, TargetQueued)
	f(push.Credential, TargetQueued)
	f(push.QueueFull, TargetQueued)
	f(push.Expired, TargetQueued) // the round is over, not the deadline
	inBubble(t, func(r *rig) {
		r.devices.unserved = true
		if got := r.states(r.send().ID); got != "failed no_app, failed no_app" || len(r.devices.pushed) != 0 {
			t.Errorf("states are %s", got)
		}
	})
	inBubble(t, func(r *rig) { // a voip token is for calls only
		r.devices.bindings = []wake.Binding{{AOR: bob, Device: "d", Address: pnparam.Address{Provider: pnparam.APNs,
			Tokens: []pnparam.Token{{Service: pnparam.VoIP, Value: secret.NewToken("v")}}}}}
		if got := r.states(r.send().ID); got != "failed no_token" {
			t.Errorf("states are %s", got)
		}
	})
}

func TestSendToToken(t *testing.T) {
	inBubble(t, func(r *rig) {
		m := r.send(func(p *SendParams) {
			p.AOR, p.Provider, p.App, p.Token = "", pnparam.APNs, "app", secret.NewToken("ab")
		})
		if len(m.Targets) != 1 || m.Targets[0].Address.Tokens[0].Service != pnparam.Remote {
			t.Errorf("targets are %+v", m.Targets)
		}
	})
}

// A push of kind call goes to a voip token, says who calls, and has lost its purpose
// soon.
func TestSendCall(t *testing.T) {
	inBubble(t, func(r *rig) {
		m := r.send(func(p *SendParams) {
			p.AOR, p.Provider, p.App, p.Token = "", pnparam.APNs, "app", secret.NewToken("ab")
			p.Kind, p.From, p.Display = push.Call, "sip:+1-555@example.com;user=phone", "Alice"
		})
		if m.Targets[0].Address.Tokens[0].Service != pnparam.VoIP || !m.Deadline.Equal(m.CreatedAt.Add(30*time.Second)) {
			t.Errorf("message is %+v", m)
		}
		want := push.Values{From: "sip:+1-555@example.com;user=phone", Display: "Alice", CallID: m.ID, UUID: m.ID, Title: "t"}
		if p := r.devices.pushed[0]; p.Kind != push.Call || !reflect.DeepEqual(p.Values, want) {
			t.Errorf("pushed is %+v, want %+v", p, want)
		}
		if m := r.send(func(p *SendParams) { p.Kind, p.TTL = push.Cancel, time.Minute }); !m.Deadline.Equal(m.CreatedAt.Add(time.Minute)) {
			t.Errorf("its own time: %+v", m)
		}
	})
}

func TestSendBadParams(t *testing.T) {
	inBubble(t, func(r *rig) {
		f := func(field string, p SendParams) {
			t.Helper()
			_, err := r.Send(r.t.Context(), p)
			if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
		token := secret.NewToken("t")
		f("kind", SendParams{AOR: bob, Kind: "ring"})
		f("kind", SendParams{AOR: bob})
		f("ttl_s", SendParams{AOR: bob, Kind: push.Custom, TTL: -1})
		f("aor", SendParams{AOR: "a b", Kind: push.Custom})
		f("aor", SendParams{Kind: push.Custom})
		f("provider", SendParams{Kind: push.Custom, Token: token})
		f("app", SendParams{Kind: push.Custom, Token: token, Provider: pnparam.FCM})
		f("token", SendParams{Kind: push.Custom, Token: token, Provider: pnparam.APNs, App: "app"})
		f("token", SendParams{Kind: push.Custom, Token: secret.NewToken(strings.Repeat("t", 4097)), Provider: pnparam.FCM, App: "app"})
		if _, _, err := r.Message(r.t.Context(), wake.Caller{}, ""); err == nil {
			t.Error("a message without an id is known")
		}
		r.store.err = ErrFull
		if _, err := r.Send(r.t.Context(), SendParams{AOR: bob, Kind: push.Custom}); !errors.Is(err, ErrFull) {
			t.Errorf("a full outbox: %v", err)
		}
	})
}

// What cannot be written is tried again when the lease is over.
func TestSendStoreAway(t *testing.T) {
	for _, broken := range []func(*rig, bool){
		func(r *rig, on bool) { r.devices.busy = on },
		func(r *rig, on bool) {
			r.store.mu.Lock()
			defer r.store.mu.Unlock()
			if r.store.err = nil; on {
				r.store.err = wake.ErrUnavailable
			}
		},
	} {
		inBubble(t, func(r *rig) {
			r.devices.reasons["one"], r.devices.reasons["two"] = push.Unavailable, push.Unavailable
			m := r.send()
			broken(r, true)
			r.run(10 * time.Second)
			broken(r, false)
			clear(r.devices.reasons)
			r.run(5 * time.Minute)
			if got := r.states(m.ID); got != "sent accepted, sent accepted" {
				t.Errorf("states are %s", got)
			}
			if !slices.ContainsFunc(r.devices.pushed, func(p wake.DevicePush) bool { return !p.TryUntil.IsZero() }) {
				t.Error("a round has no end")
			}
		})
	}
}
