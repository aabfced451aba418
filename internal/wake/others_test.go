package wake_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// heir returns an instance that adopts the call of r, and the call's wake.
func heir(r *rig) (*rig, wake.Wake) {
	open := r.service.OpenWakes()
	if len(open) != 1 {
		r.fatal("%d calls are open", len(open))
	}
	h, w := newRig(r.t, nil, r.store), open[0]
	h.cseq = r.cseq
	w.Owner, w.Pushed = h.service.Instance(), nil
	r.store.own(w)
	for _, d := range r.others.pushed {
		w.Pushed = append(w.Pushed, instance(d))
	}
	return h, w
}

// The heir pushes whose push is not known to be accepted, with the same UUID, and
// waits for the others.
func TestAdopt(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.pusher.outcome = func(q push.Request) push.Outcome {
			if q.Token.Reveal() == "token-2" {
				return push.Outcome{Reply: push.Reply{Reason: push.ShutDown}, Tries: 1}
			}
			return push.Outcome{Reply: push.Reply{Reason: push.Accepted}, Tries: 1}
		}
		r.start("a")
		h, w := heir(r)
		defer h.stop()
		if !h.service.Adopt(w, r.store.reread(w)) {
			t.Fatal("not adopted")
		}
		h.wantPushes("call token-2")
		if h.pusher.requests[0].Values.UUID != r.pusher.requests[0].Values.UUID {
			t.Error("the push has another UUID")
		}
		if h.service.Adopt(w, r.store.reread(w)) {
			t.Error("adopted twice")
		}
		h.register(phone("1"))
		h.register(phone("2"))
		h.wantSignals("wake sip1 1", "wake sip1 2")
		r.sleep(h.config.Linger + time.Second)
		h.wantSignals("wake sip1 1", "wake sip1 2", "give_up sip1")
		if h.metric("sipwake_wakes_adopted_total") != 1 {
			t.Error("not counted")
		}
		h.wantEvent("a", trace.Adopted)
	})
}

// The phone registered before the call, through an instance whose clock is ahead: the
// store knows better, and it is pushed.
func TestAdoptClocksDiffer(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.pusher.hold = true
		r.start("a")
		h, w := heir(r)
		defer h.stop()
		st := r.store.reread(w)
		st.Bindings[0].RegisteredAt = time.Now().Add(80 * time.Second)
		h.service.Adopt(w, st)
		h.wantPushes("call token-1")
		h.wantSignals()
	})
}

// Who came back while nobody looked is signalled, and not pushed.
func TestAdoptSignalsWhoCameBack(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.pusher.hold = true
		r.start("a")
		r.sleep(5 * time.Second)
		r.node.set(func(n *node) { n.answer = wake.SignalNoContact }) // the instance dies before it can tell the node
		r.register(phone("1"))
		r.sleep(4 * time.Second) // no longer recent
		h, w := heir(r)
		defer h.stop()
		h.service.Adopt(w, r.store.reread(w))
		h.wantSignals("wake sip1 1")
		h.wantPushes("call token-2")
	})
}

// A second branch of a forked call pushes nobody, whoever owns it.
func TestAdoptForked(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		h, w := heir(r)
		defer h.stop()
		w.Call, w.ID, w.Pushed = "b", "another UUID", nil
		st := r.store.reread(w)
		st.Forked = true
		h.service.Adopt(w, st)
		h.wantPushes()
		h.register(phone("1"))
		h.wantSignals("wake sip1 1")
	})
}

// A call past its hold time is adopted too: its end is told to who was pushed.
func TestAdoptAfterHoldTime(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.start("a")
		h, w := heir(r)
		defer h.stop()
		r.sleep(r.config.MaxHold + time.Second)
		w.Pushed = []string{instance("1")}
		h.service.Adopt(w, r.store.reread(w))
		h.wantPushes()
		h.end("a", wake.EndTimeout)
		h.wantPushes("cancel token-1")
	})
}

// An emergency service that calls back stays one for the heir: no load keeps him from
// pushing.
func TestAdoptUrgent(t *testing.T) {
	for priority, want := range map[string][]string{"psap-callback": {"call token-1"}, "": nil} {
		inBubble(t, func(c *wake.Config) { c.PSAPCallback = true }, func(r *rig) {
			r.asleep(phone("1"))
			r.pusher.outcome = func(push.Request) push.Outcome {
				return push.Outcome{Reply: push.Reply{Reason: push.ShutDown}, Tries: 1}
			}
			r.start("a", func(p *wake.StartParams) { p.Priority = priority })
			h, w := heir(r)
			defer h.stop()
			h.pusher.policy.When = map[push.Kind]push.When{push.Call: push.WhenLowLoad}
			h.pusher.load = 1
			h.service.Adopt(w, r.store.reread(w))
			h.wantPushes(want...)
			if len(want) > 0 && !h.pusher.requests[0].Urgent {
				t.Error("its push is as any other")
			}
		})
	}
}

func TestAdoptUnknownNode(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		if !r.service.Adopt(wake.Wake{ID: "x", AOR: bob, Node: "sip9", Call: "a", Deadline: time.Now().Add(time.Minute)}, wake.Started{}) {
			t.Error("it would be tried for ever")
		}
		if r.metric("sipwake_wakes_open") != 0 {
			t.Error("a call is open")
		}
	})
}

// Devices that registered through an instance that died are signalled by the
// owner.
func TestReturned(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.start("a")
		r.register(phone("2"))
		other := newRig(r.t, nil, r.store)
		other.cseq = r.cseq
		other.node.answer = wake.SignalNoContact
		other.register(phone("1"))
		ended, cancel := deadline(r.t, 0)
		defer cancel()
		_ = other.service.Stop(ended)
		w := r.service.OpenWakes()[0]
		r.service.Returned(w, r.store.reread(w))
		synctest.Wait()
		told := r.node.told()
		if !slices.Equal(told, []string{"wake sip1 2", "wake sip1 1"}) {
			t.Errorf("told is %q", told)
		}
		r.service.Returned(w, wake.Started{Ended: true})
		r.service.Returned(wake.Wake{Node: "sip1", Call: "x", AOR: bob}, r.store.reread(w))
		r.wantSignals(told...)
	})
}

func TestHandleEventUnknown(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		for _, typ := range []wake.EventType{wake.EventEnded, wake.EventRings, wake.EventBack, "newer"} {
			r.service.HandleEvent(wake.Event{Type: typ, Node: "sip1", Call: "x", AOR: bob, Detail: "y"})
		}
		r.wantSignals()
		r.wantPushes()
	})
}

// Two instances believe that a wake is theirs: only the one that the store names acts
// on its end.
func TestEndWithTwoOwners(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		w := r.service.OpenWakes()[0]
		w.Owner = "another"
		r.store.own(w)
		r.end("a", wake.EndCancelled)
		r.wantPushes("call token-1")
		if e := r.others.heard(); len(e) != 1 || e[0].Type != wake.EventEnded {
			t.Errorf("published are %v", e)
		}
	})
}
