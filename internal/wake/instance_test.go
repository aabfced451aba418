package wake_test

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
)

// Calls to a GRUU (RFC 5627): for one device of several.

func only(device string) func(*wake.StartParams) {
	return func(p *wake.StartParams) { p.Instance = device }
}

func TestField08StartOneDevice(t *testing.T) {
	for _, spelling := range []string{instance("2"), "<URN:UUID:2>", `"<urn:uuid:2>"`, "urn%3Auuid%3A2"} {
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"), phone("2"))
			wantOutcome(r, r.start("a", only(spelling)), wake.OutcomePushing, 1)
			r.wantPushes("call token-2")
			if res := r.register(phone("1")); res.Wakes != 0 {
				t.Errorf("%d wakes for the other device", res.Wakes)
			}
			r.register("<sip:desk@192.0.2.9>")
			r.wantSignals()
			if res := r.register(phone("2")); res.Wakes != 1 {
				t.Errorf("%d wakes for the device", res.Wakes)
			}
			r.sleep(r.config.Linger + time.Second)
			r.wantSignals("wake sip1 2", "give_up sip1") // nobody else is waited for
			r.wantEvent("a", trace.OneDevice)
		})
	}
}

// Who has registered a moment ago is signalled only if it is meant.
func TestField08StartOneDeviceRecent(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.register(phone("1"))
		r.register(phone("2"))
		r.register("<sip:desk@192.0.2.9>")
		wantOutcome(r, r.start("a", only(instance("1"))), wake.OutcomeAwake, 0)
		r.sleep(r.config.PushDelay)
		r.wantSignals("wake sip1 1")
		r.wantPushes("call token-1")
	})
}

func TestField08StartUnknownDevice(t *testing.T) {
	for _, unknown := range []string{instance("3"), "<>", "urn:uuid:1 or 2", "a\x00"} {
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"))
			wantOutcome(r, r.start("a", only(unknown)), wake.OutcomeNone, 0)
			r.register(phone("1"))
			r.wantPushes()
			r.wantSignals()
			const said = "nobody to wake: the call is for one device, and it has no binding"
			if got := r.timelines(trace.Query{AOR: bob, Limit: 1}); len(got) != 1 || trace.Verdict(&got[0]) != said {
				t.Errorf("the story is\n%s", r.story())
			}
			if r.metric("sipwake_wakes_open") != 0 {
				t.Error("a call is open")
			}
		})
	}
}

// An instance that goes on with such a call leaves the other devices alone too.
func TestField08AdoptOneDevice(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"), phone("3"))
		r.pusher.hold = true
		r.start("a", only(instance("2")))
		r.sleep(5 * time.Second)
		r.register(phone("3"))
		h, w := heir(r)
		defer h.stop()
		st := r.store.reread(w)
		h.service.Adopt(w, st)
		h.wantPushes("call token-2")
		h.service.Returned(w, r.store.reread(w))
		h.register(phone("1"))
		h.wantSignals()
		if len(st.Bindings) != 3 {
			t.Error("the store's answer was changed")
		}
		h.register(phone("2"))
		h.wantSignals("wake sip1 2")
	})
}

// Another branch of the same request counts as one that has pushed only if it was for
// that device too.
func TestField08ForkedToDevices(t *testing.T) {
	fork := func(p *wake.StartParams) { p.CallID = "call-a" }
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.start("a", only(instance("1")))
		r.start("b", fork, only(instance("2")))
		wantOutcome(r, r.start("c", fork, only("<URN:UUID:2>")), wake.OutcomeDuplicate, 1)
		r.wantPushes("call token-1", "call token-2")
	})
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.start("a")
		wantOutcome(r, r.start("b", fork, only(instance("2"))), wake.OutcomeDuplicate, 1)
		r.wantPushes("call token-1", "call token-2")
	})
}
