package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// bind gives n users a device of the app each.
func (r *rig) bind(n int, app string) (aors []string) {
	for i := range n {
		aor := fmt.Sprintf("%s%d@example.com", app, i)
		aors = append(aors, aor)
		r.devices.bindings = append(r.devices.bindings, wake.Binding{AOR: aor, Device: "d", Address: pnparam.Address{
			Provider: pnparam.FCM, App: app, Tokens: []pnparam.Token{{Value: secret.NewToken(app + fmt.Sprint(i))}}}})
	}
	return aors
}

func (r *rig) sendMany(p ManyParams) Message {
	r.t.Helper()
	p.Kind, p.Title = push.Custom, "t"
	m, err := r.SendMany(r.t.Context(), p)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *rig) many(id string) Many {
	r.t.Helper()
	m, ok, err := r.Message(r.t.Context(), wake.Caller{}, id)
	if !ok || err != nil || m.Many == nil {
		r.t.Fatal(ok, err, m)
	}
	return *m.Many
}

// once checks that each of n users was pushed once.
func (r *rig) once(n int) {
	r.t.Helper()
	r.devices.mu.Lock()
	defer r.devices.mu.Unlock()
	users := map[string]int{}
	for _, p := range r.devices.pushed {
		if users[p.Binding.AOR]++; users[p.Binding.AOR] > 1 {
			r.t.Errorf("%s was pushed twice", p.Binding.AOR)
		}
	}
	if len(users) != n {
		r.t.Errorf("%d users were pushed, want %d", len(users), n)
	}
}

// restart is another instance on the same store.
func (r *rig) restart() {
	r.Service = New(r.store, r.devices, func() time.Duration { return time.Hour }, slog.New(slog.DiscardHandler))
}

// A list of users is pushed at its pace, and a restart in between neither forgets nor
// repeats anybody.
func TestManyUsers(t *testing.T) {
	inBubble(t, func(r *rig) {
		aors := append(r.bind(200, "app"), "nobody@example.com", "APP7@example.com")
		m := r.sendMany(ManyParams{AORs: aors, Rate: 10})
		if len(r.devices.pushed) != 0 {
			t.Error("a push before its turn")
		}
		r.run(6*time.Second + 50*time.Millisecond)
		if n := len(r.devices.pushed); n < 40 || n > 55 {
			t.Errorf("%d pushes in five seconds", n)
		}
		if got := r.many(m.ID); got.Users != 201 || got.Sent < 40 || got.Sent > 55 || got.Ended {
			t.Errorf("progress is %+v", got)
		}
		r.restart()
		r.run(time.Minute)
		r.once(200)
		if got := r.many(m.ID); !got.Ended || got.Sent != 201 || got.None != 1 {
			t.Errorf("progress is %+v", got)
		}
		parts := 0
		for _, m := range r.store.messages {
			if len(m.Users) > 0 || !m.Done() {
				parts++
			}
		}
		if parts != 0 {
			t.Errorf("%d messages keep a place", parts)
		}
	})
}

// An instance that dies without a word is followed by another one, which begins where
// it had last said to be, and pushes nobody again.
func TestManyInstanceDies(t *testing.T) {
	inBubble(t, func(r *rig) {
		m := r.sendMany(ManyParams{AORs: r.bind(300, "app"), Rate: 10})
		ctx, cancel := context.WithCancel(r.t.Context())
		gone := make(chan struct{})
		go func() { r.Run(ctx, time.Second); close(gone) }()
		time.Sleep(18 * time.Second)
		r.store.mu.Lock()
		said := r.store.messages[m.ID]
		r.store.mu.Unlock()
		if said.Many.Sent == 0 {
			t.Error("no progress is noted meanwhile")
		}
		cancel()
		<-gone
		r.store.mu.Lock()
		r.store.messages[m.ID] = said // its last word is lost
		r.store.mu.Unlock()
		r.restart()
		r.run(3 * time.Minute)
		r.once(300)
		if got := r.many(m.ID); !got.Ended || got.Sent != 300 {
			t.Errorf("progress is %+v", got)
		}
	})
}

// A list without anybody in it is not everybody.
func TestManyNobody(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.bind(3, "app")
		_, err := r.SendMany(t.Context(), ManyParams{AORs: []string{}, SendParams: SendParams{App: "app", Kind: push.Custom}})
		if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != "aors" {
			t.Errorf("an empty list: %v", err)
		}
	})
}

// All users of an app, and of no other; a list that failed begins anew.
func TestManyOfApp(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.bind(1200, "one.app")
		r.bind(300, "other.app")
		r.devices.scanErr = wake.ErrUnavailable
		m := r.sendMany(ManyParams{SendParams: SendParams{App: "one.app", Provider: pnparam.FCM}, Rate: 1000})
		r.run(3 * time.Second)
		if got := r.many(m.ID); got.List != "" || got.Ended {
			t.Errorf("progress is %+v", got)
		}
		r.devices.scanErr = nil
		r.run(time.Minute)
		r.once(1200)
		if got := r.many(m.ID); !got.Ended || got.Users != 1200 || got.Parts != 3 {
			t.Errorf("progress is %+v", got)
		}
	})
}

// What the store does not take waits; what is too late ends.
func TestManyWaits(t *testing.T) {
	inBubble(t, func(r *rig) {
		m := r.sendMany(ManyParams{AORs: r.bind(100, "app"), Rate: 10})
		r.devices.busy = true
		r.run(3 * time.Second)
		r.store.mu.Lock()
		r.store.putErr = ErrFull
		r.store.mu.Unlock()
		r.run(20 * time.Second)
		if got := r.many(m.ID); got.Sent > 30 || got.Ended {
			t.Errorf("full: %+v", got)
		}
		r.store.putErr, r.devices.busy = nil, false
		r.run(3 * time.Minute)
		if got := r.many(m.ID); !got.Ended || got.Sent != 100 {
			t.Errorf("progress is %+v", got)
		}
	})
	inBubble(t, func(r *rig) {
		m := r.sendMany(ManyParams{SendParams: SendParams{TTL: 5 * time.Second}, AORs: r.bind(100, "app"), Rate: 10})
		r.run(2 * time.Minute)
		if got := r.many(m.ID); !got.Ended || got.Sent > 60 || len(r.devices.pushed) > 60 {
			t.Errorf("too late: %+v, %d pushes", got, len(r.devices.pushed))
		}
		for id, m := range r.store.messages {
			if !m.Done() {
				t.Errorf("%s never ends", id)
			}
		}
	})
}

func TestManyBadParams(t *testing.T) {
	inBubble(t, func(r *rig) {
		f := func(field string, p ManyParams) {
			t.Helper()
			_, err := r.SendMany(r.t.Context(), p)
			if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
		custom := SendParams{Kind: push.Custom, App: "app"}
		f("kind", ManyParams{AORs: []string{bob}})
		f("ttl_s", ManyParams{SendParams: SendParams{Kind: push.Custom, TTL: -1}, AORs: []string{bob}})
		f("aors", ManyParams{SendParams: SendParams{Kind: push.Custom}})
		f("aors", ManyParams{SendParams: custom, AORs: make([]string, 1001)})
		f("aors[1]", ManyParams{SendParams: custom, AORs: []string{bob, "a b"}})
		f("rate", ManyParams{SendParams: custom, Rate: 1001})
		f("rate", ManyParams{SendParams: custom, Rate: -1})
	})
}

// A push to many users stops on a word while it runs, also in what is queued of it,
// says how far it is, and goes on where it was: nobody is pushed twice, nobody is left
// out.
func TestManyStops(t *testing.T) {
	inBubble(t, func(r *rig) {
		aors := r.bind(200, "app")
		r.devices.reasons["app0"] = push.Unavailable
		m := r.sendMany(ManyParams{AORs: aors, Rate: 10})
		r.run(6*time.Second + 50*time.Millisecond)
		if m, ok, err := r.Stop(r.t.Context(), wake.Caller{}, m.ID); !ok || err != nil || !m.Many.Stopped {
			t.Fatalf("%+v, %v, %v", m, ok, err)
		}
		r.run(2 * time.Second)
		n := len(r.devices.pushed)
		if n < 40 || n > 75 {
			t.Errorf("%d pushes", n)
		}
		r.restart()
		r.run(5 * time.Minute)
		many := r.many(m.ID)
		if len(r.devices.pushed) != n || !many.Stopped || many.Ended || many.Sent < 40 {
			t.Errorf("%d pushes while it is stopped, %d before; %+v", len(r.devices.pushed), n, many)
		}
		list, _, err := r.List(r.t.Context(), ListParams{State: TargetQueued, Limit: 1000})
		if err != nil || len(list) != 2 { // the push to many, and that to app0
			t.Errorf("queued are %d, %v", len(list), err)
		}
		delete(r.devices.reasons, "app0")
		r.devices.mu.Lock()
		r.devices.pushed = slices.DeleteFunc(r.devices.pushed, func(p wake.DevicePush) bool { return p.Binding.AOR == "app0@example.com" })
		r.devices.mu.Unlock()
		if m, ok, err := r.Resume(r.t.Context(), wake.Caller{}, m.ID); !ok || err != nil || m.Many.Stopped {
			t.Fatalf("%+v, %v, %v", m, ok, err)
		}
		r.run(3 * time.Minute)
		if many := r.many(m.ID); !many.Ended || many.Stopped || many.Sent != 200 {
			t.Errorf("%+v", many)
		}
		r.once(200)
	})
}

// A word to stop and one to go on may come in any moment.
func TestManyStopsAndGoesOn(t *testing.T) {
	inBubble(t, func(r *rig) {
		aors := r.bind(30, "app")
		m := r.sendMany(ManyParams{AORs: aors, Rate: 1})
		for range 30 {
			if _, _, err := r.Stop(r.t.Context(), wake.Caller{}, m.ID); err != nil {
				t.Fatal(err)
			}
			r.run(1700 * time.Millisecond)
			if _, _, err := r.Resume(r.t.Context(), wake.Caller{}, m.ID); err != nil {
				t.Fatal(err)
			}
			r.run(2300 * time.Millisecond)
		}
		r.run(time.Minute)
		if many := r.many(m.ID); !many.Ended || many.Sent != 30 {
			t.Errorf("%+v", many)
		}
		r.once(30)
		if m, ok, err := r.Stop(r.t.Context(), wake.Caller{}, m.ID); !ok || err != nil || m.Many.Stopped {
			t.Errorf("one that has ended: %+v, %v", m.Many, err)
		}
	})
}
