package wake_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// A call lives until its wake.end, however long after its hold time that comes.
func TestEndAfterHoldTime(t *testing.T) {
	f := func(after time.Duration, pushes ...string) {
		t.Helper()
		inBubble(t, func(c *wake.Config) { c.MaxHold = 30 * time.Second }, func(r *rig) {
			r.pusher.policy.MissedCall = true
			r.asleep(phone("1"))
			r.start("a")
			r.sleep(after)
			if !r.end("a", wake.EndTimeout) {
				t.Error("the wake was not known")
			}
			r.wantPushes(append([]string{"call token-1"}, pushes...)...)
			if r.metric("sipwake_wakes_open")+r.metric("sipwake_wakes_ringing") != 0 {
				t.Error("the call is still open")
			}
			r.end("a", wake.EndTimeout) // repeated: nobody is told twice
			r.wantPushes(append([]string{"call token-1"}, pushes...)...)
		})
	}
	f(time.Second, "cancel token-1", "custom token-1")
	f(30*time.Second, "cancel token-1", "custom token-1")
	f(31*time.Second, "cancel token-1", "custom token-1")
	f(2*time.Minute, "cancel token-1", "custom token-1")
}

// What the hold time ends: pushes and signals, not the call.
func TestHoldTimeEndsPushesAndSignals(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.MaxHold = 5 * time.Second; c.PushDelay = 10 * time.Second }, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.start("a", live(r.binding("1").CallID))
		r.sleep(5 * time.Second)
		r.register(phone("2"))
		r.sleep(time.Minute)
		r.wantPushes("call token-2")
		r.wantSignals()
		r.wantEvent("a", trace.HoldOver)
		if len(r.service.OpenWakes()) != 0 {
			t.Error("phones may still come back")
		}
		if r.metric("sipwake_wakes_open") != 0 || r.metric("sipwake_wakes_ringing") != 1 {
			t.Error("the call is not known any more")
		}
	})
}

// The end of a call whose node died is never heard: it is forgotten at last.
func TestEndThatNeverComes(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.sleep(r.config.MaxHold + wake.MaxRing - time.Second)
		if r.metric("sipwake_wakes_ringing") != 1 {
			t.Error("the call was forgotten too early")
		}
		r.sleep(2 * time.Second)
		if r.metric("sipwake_wakes_ringing") != 0 {
			t.Error("the call was not forgotten")
		}
	})
}

func TestCancelPushes(t *testing.T) {
	f := func(rule push.CancelRule, reason wake.EndReason, want ...string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.pusher.policy.Cancel = rule
			r.asleep(phone("1"), phone("2"), phone("3"))
			r.pusher.outcome = func(q push.Request) push.Outcome {
				if q.Token.Reveal() == "token-3" {
					return push.Outcome{Reply: push.Reply{Reason: push.Unavailable}, Tries: 2}
				}
				return push.Outcome{Reply: push.Reply{Reason: push.Accepted}, Tries: 1}
			}
			r.start("a")
			r.register(phone("2")) // hears the end from SIP
			before := len(r.pusher.sent())
			r.end("a", reason)
			if reason == wake.EndAnswered {
				r.sleep(time.Second) // the report of who answered may come late
			}
			got := map[string]bool{}
			for _, p := range r.pusher.sent()[before:] {
				got[p] = true
			}
			if len(got) != len(want) {
				r.fatal("%s, %s: told are %v, want %v", rule, reason, got, want)
			}
			for _, w := range want {
				if !got[w] {
					r.fatal("%s, %s: told are %v, want %v", rule, reason, got, want)
				}
			}
		})
	}
	f(push.CancelNever, wake.EndCancelled)
	f(push.CancelUnanswered, wake.EndCancelled, "cancel token-1")
	f(push.CancelUnanswered, wake.EndAnswered)
	f(push.CancelPushed, wake.EndAnswered, "cancel token-1")
	f(push.CancelAlways, wake.EndDeclined, "cancel token-1", "cancel token-2", "cancel token-3")
}

// A call ends while its push is under way: the phone hears of both.
func TestEndOvertakesPush(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.pusher.hold = true
		r.start("a")
		r.end("a", wake.EndCancelled)
		r.wantPushes("call token-1")
		r.pusher.answer()
		r.wantPushes("call token-1", "cancel token-1")
	})
}

// A phone that has registered hears the end from SIP, though the node has not yet
// said that it added it; also if it registered through another instance.
func TestCancelSparesWhoRegistered(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.pusher.policy.Cancel = push.CancelPushed
		r.asleep(phone("1"), phone("2"), phone("3"))
		r.start("a")
		r.node.set(func(n *node) { n.takes = 500 * time.Millisecond })
		r.register(phone("1"))
		other := newRig(r.t, nil, r.store)
		defer other.stop()
		other.node.takes = 500 * time.Millisecond
		other.cseq = r.cseq
		other.register(phone("2"))
		for _, e := range other.others.heard() {
			r.service.HandleEvent(e)
		}
		r.end("a", wake.EndAnswered)
		r.sleep(time.Second)
		r.wantPushes("call token-1", "call token-2", "call token-3", "cancel token-3")
	})
}

// A phone that answers within milliseconds: wake.end overtakes the report of its
// REGISTER. It is not told that its call is over.
func TestCancelSparesWhoAnswered(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.pusher.policy.Cancel = push.CancelPushed
		r.asleep(phone("1"), phone("2"))
		r.start("a")
		r.end("a", wake.EndAnswered)
		r.sleep(100 * time.Millisecond)
		r.register(phone("1"))
		r.sleep(time.Second)
		r.wantPushes("call token-1", "call token-2", "cancel token-2")
	})
}

func TestMissedCall(t *testing.T) {
	f := func(reason wake.EndReason, missed bool) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.pusher.policy.MissedCall, r.pusher.policy.Cancel = true, push.CancelNever
			r.asleep(phone("1"))
			r.start("a")
			r.end("a", reason)
			n := len(r.pusher.requests)
			if (n == 2) != missed {
				r.fatal("%s: %d pushes", reason, n)
			}
			if missed {
				if v := r.pusher.requests[1].Values; v.Title != "Missed call" || v.Body != "Alice" {
					t.Errorf("the push says %+v", v)
				}
			}
		})
	}
	f(wake.EndTimeout, true)
	f(wake.EndCancelled, true)
	f(wake.EndBusy, true)
	f(wake.EndFailed, true)
	f(wake.EndAnswered, false)
	f(wake.EndDeclined, false)
	inBubble(t, nil, func(r *rig) { // nobody missed a message
		r.pusher.policy.MissedCall = true
		r.asleep(phone("1"))
		r.start("a", func(p *wake.StartParams) { p.Kind = push.Chat })
		r.end("a", wake.EndTimeout)
		r.wantPushes("chat token-1")
	})
}

// Who owns the wake acts on its end; others pass it on.
func TestEndAtAnotherInstance(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		other := newRig(r.t, nil, r.store)
		defer other.stop()
		known, err := other.service.End(r.t.Context(), wake.EndParams{Node: "sip1", AOR: bob, Call: "a", Reason: wake.EndCancelled})
		if !known || err != nil {
			t.Fatalf("known %v, %v", known, err)
		}
		if len(other.others.heard()) != 1 || len(other.pusher.requests) != 0 {
			t.Fatalf("the other instance published %v, pushed %d times", other.others.heard(), len(other.pusher.requests))
		}
		r.service.HandleEvent(other.others.heard()[0])
		r.wantPushes("call token-1", "cancel token-1")
		if r.metric("sipwake_wakes_open") != 0 {
			t.Error("the call is still open")
		}
		if told := r.others.heard(); len(told) != 1 || told[0].Type != wake.EventOver {
			t.Errorf("the owner published %v", told)
		}
	})
}

func TestEndStoreAway(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.store.set(func(m *memory) { m.err = fmt.Errorf("%w: gone", wake.ErrUnavailable) })
		if _, err := r.service.End(r.t.Context(), wake.EndParams{Node: "sip1", AOR: bob, Call: "a", Reason: wake.EndCancelled}); !errors.Is(err, wake.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
		r.wantPushes("call token-1", "cancel token-1")
	})
}

func TestEndBadParams(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		f := func(field string, p wake.EndParams) {
			t.Helper()
			_, err := r.service.End(r.t.Context(), p)
			if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != field || bad.Error() != field+": "+bad.Problem {
				t.Errorf("%s: error is %v", field, err)
			}
		}
		f("node", wake.EndParams{AOR: bob, Call: "a", Reason: wake.EndBusy})
		f("aor", wake.EndParams{Node: "sip1", AOR: "a b", Call: "a", Reason: wake.EndBusy})
		f("call", wake.EndParams{Node: "sip1", AOR: bob, Reason: wake.EndBusy})
		f("reason", wake.EndParams{Node: "sip1", AOR: bob, Call: "a", Reason: "bored"})
	})
}

func TestProgressElsewhere(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		if r.rings("a", "registration") {
			t.Error("an unknown wake had a push that waited")
		}
		want := wake.Event{Type: wake.EventRings, Node: "sip1", Call: "a", AOR: bob, Detail: "registration"}
		if len(r.others.heard()) != 1 || r.others.heard()[0] != want {
			t.Errorf("published are %v", r.others.heard())
		}
		r.asleep(phone("1"))
		r.start("a", live(r.binding("1").CallID))
		want.Detail = r.binding("1").CallID
		r.service.HandleEvent(want)
		r.sleep(time.Minute)
		r.wantPushes()
		if r.rings("a", "somebody else") {
			t.Error("a stranger had a push that waited")
		}
		f := func(field string, p wake.ProgressParams) {
			t.Helper()
			_, err := r.service.Progress(r.t.Context(), p)
			if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != field {
				t.Errorf("%s: error is %v", field, err)
			}
		}
		f("node", wake.ProgressParams{AOR: bob, Call: "a", Contact: "c"})
		f("aor", wake.ProgressParams{Node: "sip1", Call: "a", Contact: "c"})
		f("call", wake.ProgressParams{Node: "sip1", AOR: bob, Contact: "c"})
		f("contact", wake.ProgressParams{Node: "sip1", AOR: bob, Call: "a"})
	})
}
