package wake_test

import (
	"fmt"
	"slices"
	"strings"
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
		if told := r.node.told(); len(told) == 0 || len(told) > 8 || !slices.Contains(told, "over sip1 1 call-19 cancelled") {
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
		news(r, other)
		other.register(phone("1"))
		other.sleep(time.Second)
		other.wantSignals("over sip1 1 call-a answered")
		news(r, other)
		r.sleep(time.Second)
		r.cseq = other.cseq
		r.register(phone("1"))
		r.wantSignals()
	})
}

// news has every instance hear what the others have said since.
func news(rigs ...*rig) {
	for _, from := range rigs {
		for _, e := range from.others.heard() {
			for _, to := range rigs {
				to.service.HandleEvent(e)
			}
		}
		from.others.forget()
	}
}

// The connection that it registered on is gone, and it registers again through another
// instance: that one has it told, and then nobody.
func TestLateUnsentElsewhere(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.end("a", wake.EndAnswered)
		other := newRig(r.t, nil, r.store)
		defer other.stop()
		news(r, other)
		r.sleep(time.Second)
		r.node.answers = []wake.Signal{wake.SignalUnsent}
		r.register(phone("1"))
		told := "over sip1 1 call-a answered"
		r.wantSignals(told)
		news(r, other)
		other.cseq = r.cseq
		other.register(phone("1"))
		other.wantSignals(told)
		news(r, other)
		r.cseq = other.cseq
		r.register(phone("1"))
		other.cseq = r.cseq
		other.register(phone("1"))
		r.wantSignals(told)
		other.wantSignals(told)
	})
}

// A REGISTER that several instances know of is told about by one.
func TestLateOneRegister(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		other := newRig(r.t, nil, r.store)
		defer other.stop()
		other.cseq = r.cseq
		r.end("a", wake.EndAnswered)
		news(r, other)
		other.register(phone("1")) // and the owner looks for it
		r.sleep(time.Second)
		if n := len(r.node.told()) + len(other.node.told()); n != 1 {
			r.fatal("told %d times", n)
		}
	})
}

// A node that refuses the secret is not asked quickly again, for too many wrong secrets
// shut the right one out as well; and no node has more told at once than it may have.
func TestLateTakesItsTurn(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.SignalsPerNode = 2 }, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.end("a", wake.EndAnswered)
		r.sleep(time.Second)
		r.node.set(func(n *node) { n.err = fmt.Errorf("cannot signal: %w", wake.ErrForbidden) })
		r.register(phone("1"))
		r.sleep(10 * time.Second)
		if n := len(r.node.told()); n < 2 || n > 6 {
			r.fatal("asked %d times", n)
		}
		if !strings.Contains(r.log.String(), "cannot tell a device that its call is over") {
			t.Error("it is not in the log")
		}
	})
	inBubble(t, func(c *wake.Config) { c.SignalsPerNode = 2 }, func(r *rig) {
		const users = 8
		for i := range users {
			aor, call := fmt.Sprintf("user%d@example.com", i), fmt.Sprint(i)
			r.quick(aor, phone(call), "sip1")
			r.sleep(r.config.Recent)
			r.startQuick(aor, call, "sip1")
			r.sleep(time.Second)
			if _, err := r.service.End(r.t.Context(), wake.EndParams{Node: "sip1", AOR: aor, Call: call, Reason: wake.EndCancelled}); err != nil {
				t.Fatal(err)
			}
		}
		r.sleep(time.Second)
		r.node.set(func(n *node) { n.takes = 100 * time.Millisecond })
		for i := range users {
			r.quick(fmt.Sprintf("user%d@example.com", i), phone(fmt.Sprint(i)), "sip1")
		}
		r.sleep(5 * time.Second)
		if told := r.node.told(); len(told) != users || r.node.atOnce() > 2 {
			r.fatal("%d at once of %d: %q", r.node.atOnce(), len(told), told)
		}
	})
}

// What is remembered of a call that has ended is what its devices are told.
func TestLateKeepsLittle(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a", func(p *wake.StartParams) {
			p.Headers, p.To, p.Media, p.Display = map[string]string{"X-Account": "7"}, "sip:bob@example.com", "audio", "Alice"
		})
		r.end("a", wake.EndAnswered)
		for _, e := range r.others.heard() {
			if w := e.Over.Wake; w.From != alice || w.Display != "Alice" || w.CallID != "call-a" || w.AOR != bob {
				t.Errorf("too little is kept: %+v", w)
			} else if w.Headers != nil || w.To+w.Media+w.Verstat+w.Body != "" {
				t.Errorf("too much is kept: %+v", w)
			}
		}
	})
}

// The end of a call has the devices' bindings read once, however many there are.
func TestEndReadsOnce(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.pusher.policy.Cancel = push.CancelPushed
		r.asleep(phone("1"), phone("2"), phone("3"))
		r.start("a")
		r.end("a", wake.EndAnswered)
		r.store.set(func(m *memory) { m.reads = 0 })
		r.sleep(5 * time.Second)
		r.store.set(func(m *memory) {
			if m.reads != 1 {
				t.Errorf("%d reads", m.reads)
			}
		})
		if n := len(r.pusher.sent()); n != 6 {
			t.Errorf("%d pushes", n)
		}
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
