package demo

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/services"
	"github.com/sipwake/sipwake/internal/lab/webpushsim"
)

const (
	demoCaller = "alice"
	impatient  = "cleo" // her caller hangs up early
)

// resident is a phone that stays in the lab. Safe for concurrent use.
type resident struct {
	name    string
	about   string
	service string // its push service; empty for a phone that never sleeps
	bundle  string // of an iOS app
	does    phone.Behaviour
	awake   bool   // at the start
	isDeaf  bool   // at the start
	failing string // behaviour of the push service to it, at the start

	*phone.Phone
	token string
	deaf  atomic.Bool // pushes do not wake it

	mu     sync.Mutex
	state  string
	pushes string // how its push service treats it
}

const ringing = 200 * time.Millisecond // before phones answer by themselves

// residents returns the phones of the lab. By default, a call to each ends in another way.
func residents() []*resident {
	answer := phone.Answer(ringing)
	return []*resident{
		{name: demoCaller, about: "calls the others", awake: true, does: answer},
		{name: "ivan", about: "sleeps, wakes and answers", service: services.APNs, bundle: demoBundle, does: answer},
		{name: "walter", about: "is awake and answers", service: services.APNs, bundle: demoBundle, does: answer, awake: true},
		{name: "anna", about: "sleeps, wakes and is busy", service: services.FCM, does: phone.Reject(486, 0)},
		{name: "dina", about: "sleeps, wakes and declines", service: services.WebPush, does: phone.Reject(603, ringing)},
		{name: "theo", about: "takes the push and never registers", service: services.APNs, bundle: demoBundle, does: answer, isDeaf: true},
		{name: impatient, about: "takes the push and does not register before the caller hangs up", service: services.APNs,
			bundle: demoBundle, does: answer, isDeaf: true},
		{name: "dora", about: "has deleted the app: its token is dead", service: services.APNs, bundle: demoBundle, does: answer, failing: "unregistered"},
		{name: "fred", about: "is pushed through Google, which is down", service: services.FCM, does: answer, failing: "unavailable"},
		{name: "sven", about: "is pushed through a Web Push service that never answers", service: services.WebPush, does: answer, failing: "silent"},
		{name: "nora", about: "has an app whose key Apple refuses", service: services.APNs, bundle: otherBundle, does: answer, failing: "credential"},
	}
}

// moveIn creates the phone, registers it, and lets it fall asleep unless it should be awake.
func (l *lab) moveIn(ctx context.Context, r *resident) (err error) {
	params, err := l.pushParams(r)
	if err != nil {
		return err
	}
	r.deaf.Store(r.isDeaf)
	r.Phone, err = phone.New(phone.Config{User: r.name, Domain: demoDomain, Proxy: l.proxy.SIPAddress(), Transport: phone.TCP,
		ContactParams: params, Behaviour: r.does, WakeDelay: 100 * time.Millisecond, Expires: time.Hour,
		WakeOn: func([]byte) bool { return !r.deaf.Load() }, OnEvent: r.see})
	if err != nil {
		return err
	}
	l.phones = append(l.phones, r)
	l.deliver(r)
	if err := registerOK(ctx, r.Phone, time.Hour); err != nil {
		return err
	}
	r.is("awake")
	if r.service == "" {
		return nil
	}
	if err := l.bound(ctx, r.name, true); err != nil {
		return err
	}
	if err := l.failFor(r, r.failing); err != nil || r.awake {
		return err
	}
	if err := l.sleep(ctx, r); err != nil {
		return err
	}
	return l.bound(ctx, r.name, false)
}

// pushParams returns the push parameters of the phone's Contact.
func (l *lab) pushParams(r *resident) (string, error) {
	switch r.service {
	case services.APNs:
		r.token = demoTokenOf(r.name)
		return ";pn-provider=apns;pn-param=" + demoTeam + "." + r.bundle + ".voip;pn-prid=" + r.token, nil
	case services.FCM:
		r.token = "fcm-registration-token-of-" + r.name
		return strings.ReplaceAll(fcmParams, "TOKEN", r.token), nil
	case services.WebPush:
		sub, err := l.services.WebPush.MakeSubscription("")
		r.token = sub.URL
		return ";pn-provider=webpush;pn-prid=" + url.QueryEscape(sub.URL), err
	}
	return "", nil
}

// deliver makes the phone's push service wake it.
func (l *lab) deliver(r *resident) {
	switch r.service {
	case services.APNs:
		l.services.APNs.OnDeliver(r.token, func(payload []byte, _ http.Header) { r.OnPush(payload) })
	case services.FCM:
		l.services.FCM.OnDeliver(r.token, func(*fcmsim.Message) { r.OnPush(nil) })
	case services.WebPush:
		l.services.WebPush.OnDeliver(r.token, func(*webpushsim.Message) { r.OnPush(nil) })
	}
}

// failFor sets how the phone's push service treats it; empty means like all others.
func (l *lab) failFor(r *resident, behaviour string) error {
	if behaviour == "" {
		behaviour = services.Works
	}
	if r.service == "" {
		return fmt.Errorf("%s has no push service", r.name)
	}
	if err := l.services.BehaveTo(r.service, r.token, behaviour); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pushes = behaviour
	return nil
}

// see records what the phone does.
func (r *resident) see(e phone.Event) {
	switch e.Kind {
	case phone.Slept:
		r.is("asleep")
	case phone.Woken:
		if e.Err == nil {
			r.is("awake")
		}
	case phone.Lost:
		r.is("awake, its connection lost")
	}
}

func (r *resident) is(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = state
}

// sleep ends the registration and closes the connection.
func (l *lab) sleep(ctx context.Context, r *resident) error {
	if r.now() != "asleep" {
		if err := registerOK(ctx, r.Phone, 0); err != nil {
			return err
		}
	}
	r.Sleep()
	return nil
}

func (r *resident) now() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// act executes a request to the control about a phone, and returns what it has done.
func (l *lab) act(ctx context.Context, r *resident, what string) (string, error) {
	behaviours := map[string]phone.Behaviour{"answer": phone.Answer(ringing), "busy": phone.Reject(486, 0),
		"decline": phone.Reject(603, ringing), "ring": phone.RingOnly()}
	if b, ok := behaviours[what]; ok {
		r.SetBehaviour(b)
		return "does so with calls from now on: " + what, nil
	}
	if r.service == "" && (what == "sleep" || what == "deaf") {
		return "", fmt.Errorf("%s has no push service, and would sleep for ever", r.name)
	}
	switch what {
	case "sleep":
		r.deaf.Store(false)
		return "has ended its registration and sleeps; a push wakes it", l.sleep(ctx, r)
	case "deaf":
		r.deaf.Store(true)
		return "sleeps; pushes to it are taken, and it never registers", l.sleep(ctx, r)
	case "wake":
		r.deaf.Store(false)
		m, err := r.Wake(ctx)
		if err == nil && m.Code() != http.StatusOK {
			err = fmt.Errorf("%s cannot register: %d", r.name, m.Code())
		}
		return "is awake and registered", err
	case "drop":
		r.deaf.Store(false)
		r.Sleep()
		return "has lost its connection without a word; a push wakes it", nil
	}
	return "", fmt.Errorf("a phone cannot %q, it can: sleep, wake, deaf, drop, answer, busy, decline, ring", what)
}
