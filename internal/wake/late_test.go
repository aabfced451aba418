package wake_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// A phone that was pushed and registers when its call is over is told so, once, by the
// node that it registers at.
func TestLate(t *testing.T) {
	for _, reason := range []wake.EndReason{wake.EndAnswered, wake.EndCancelled, wake.EndTimeout, wake.EndDeclined} {
		t.Run(string(reason), func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.asleep(phone("1"))
				r.start("a")
				r.end("a", reason)
				r.sleep(20 * time.Second)
				r.wantSignals()
				r.registerAs(wake.RegisterParams{Contact: phone("1"), Node: "sip2"})
				told := "over sip2 1 call-a " + string(reason)
				r.wantSignals(told)
				r.wantEvent("a", trace.Late)
				r.register(phone("1"))
				r.wantSignals(told)
			})
		})
	}
}

// Whoever is in the call, or was, hears its end by SIP; who was not pushed knows nothing
// of it.
func TestLateKnows(t *testing.T) {
	f := func(name string, signals int, play func(r *rig)) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.asleep(phone("1"))
				play(r)
				r.sleep(2 * time.Second)
				r.register(phone("1"))
				if told := r.node.told(); len(told) != signals {
					r.fatal("signals are %q", told)
				}
			})
		})
	}
	f("it came back", 1, func(r *rig) {
		r.start("a")
		r.register(phone("1"))
		r.end("a", wake.EndAnswered)
	})
	f("it was being added when the call ended", 1, func(r *rig) {
		r.start("a")
		r.node.set(func(n *node) { n.takes = 100 * time.Millisecond })
		r.register(phone("1"))
		r.end("a", wake.EndAnswered)
		r.sleep(200 * time.Millisecond)
		r.node.set(func(n *node) { n.takes = 0 })
	})
	f("it rang where it was", 0, func(r *rig) {
		r.start("a")
		r.rings("a", r.binding("1").CallID)
		r.end("a", wake.EndCancelled)
	})
	f("no push was accepted", 1 /* give up */, func(r *rig) {
		r.pusher.outcome = func(push.Request) push.Outcome {
			return push.Outcome{Reply: push.Reply{Reason: push.Unavailable}, Tries: 1}
		}
		r.start("a")
		r.end("a", wake.EndTimeout)
	})
	f("its app is not to be told", 0, func(r *rig) {
		r.pusher.policy.Late = push.LateNothing
		r.start("a")
		r.end("a", wake.EndTimeout)
	})
	f("a message", 0, func(r *rig) {
		r.start("a", func(p *wake.StartParams) { p.Kind = push.Chat })
		r.end("a", wake.EndTimeout)
	})
}

// The node answered that the call had just ended: the phone registered in that instant.
func TestLateGone(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.node.answers = []wake.Signal{wake.SignalGone}
		r.register(phone("1"))
		r.end("a", wake.EndAnswered)
		r.sleep(time.Second)
		r.wantSignals("wake sip1 1", "over sip1 1 call-a answered")
	})
}

// The push was accepted after the end.
func TestLateAccepted(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.pusher.hold = true
		r.asleep(phone("1"))
		r.start("a")
		r.end("a", wake.EndCancelled)
		r.pusher.answer()
		r.register(phone("1"))
		r.sleep(time.Second)
		r.wantSignals("over sip1 1 call-a cancelled")
	})
}

// What is remembered is bounded, in time and for each user.
func TestLateBounded(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.Late = 10 * time.Second }, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.end("a", wake.EndCancelled)
		r.sleep(r.config.MaxHold + r.config.Late + time.Second)
		r.register(phone("1"))
		r.wantSignals()
		r.sleep(r.config.Recent + time.Second)
		for i := range 20 {
			r.start(fmt.Sprint(i), func(p *wake.StartParams) { p.From = fmt.Sprintf("sip:caller%d@example.com", i) })
			r.end(fmt.Sprint(i), wake.EndCancelled)
		}
		r.register(phone("1"))
		r.sleep(time.Second)
		if told := r.node.told(); len(told) == 0 || len(told) > 8 || told[len(told)-1] != "over sip1 1 call-19 cancelled" {
			r.fatal("signals are %q", told)
		}
	})
}

// It registers through another instance, and one of them tells it.
func TestLateElsewhere(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.end("a", wake.EndAnswered)
		other := newRig(r.t, nil, r.store)
		other.cseq = r.cseq
		defer other.stop()
		for _, e := range r.others.heard() {
			other.service.HandleEvent(e)
			r.service.HandleEvent(e)
		}
		other.register(phone("1"))
		other.sleep(time.Second)
		other.wantSignals("over sip1 1 call-a answered")
		r.sleep(time.Second)
		r.cseq = other.cseq
		r.register(phone("1"))
		r.wantSignals()
	})
}

// A node whose location has not got the registration yet, or that cannot be reached for
// a moment, is asked again; a connection that is gone waits for the next REGISTER.
func TestLateAgain(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.end("a", wake.EndAnswered)
		r.sleep(time.Second)
		r.node.answers = []wake.Signal{wake.SignalNoContact, wake.SignalUnsent}
		r.register(phone("1"))
		r.sleep(time.Second)
		told := "over sip1 1 call-a answered"
		r.wantSignals(told, told)
		r.register(phone("1"))
		r.wantSignals(told, told, told)
	})
}
