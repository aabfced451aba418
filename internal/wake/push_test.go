package wake_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

func outcome(reason push.Reason) func(push.Request) push.Outcome {
	return func(push.Request) push.Outcome {
		return push.Outcome{Reply: push.Reply{Reason: reason, Detail: "says the service"}, Tries: 1}
	}
}

// A dead token goes at once, with its binding if it is the last one.
func TestInvariant4DeadToken(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.pusher.outcome = func(q push.Request) push.Outcome {
			if q.Token.Reveal() == "token-1" {
				return push.Outcome{Reply: push.Reply{Reason: push.TokenDead}, Tries: 1}
			}
			return push.Outcome{Reply: push.Reply{Reason: push.Accepted}, Tries: 1}
		}
		r.start("a")
		r.wantBindings("2")
		r.wantEvent("a", trace.Failed)
		notes, err := r.service.Removals(r.t.Context(), bob)
		if err != nil || len(notes) != 1 || notes[0].Reason != "token_dead" {
			t.Errorf("noted is %v, %v", notes, err)
		}
		if _, err := r.service.Removals(r.t.Context(), ""); err == nil {
			t.Error("no error without an AOR")
		}
	})
	inBubble(t, nil, func(r *rig) { // the phone has registered since: it lives
		r.asleep(phone("1"))
		r.pusher.outcome = func(push.Request) push.Outcome {
			return push.Outcome{Reply: push.Reply{Reason: push.TokenDead, DeadSince: time.Now().Add(-time.Hour)}, Tries: 1}
		}
		r.start("a")
		r.wantBindings("1")
	})
	inBubble(t, nil, func(r *rig) { // a remote token that is dead costs no voip token
		r.asleep(iPhone("1"))
		r.pusher.outcome = func(q push.Request) push.Outcome {
			if q.Kind == push.Cancel {
				return push.Outcome{Reply: push.Reply{Reason: push.TokenDead}, Tries: 1}
			}
			return push.Outcome{Reply: push.Reply{Reason: push.Accepted}, Tries: 1}
		}
		r.start("a")
		r.end("a", wake.EndCancelled)
		r.wantBindings("1")
		r.start("b")
		r.wantPushes("call voip", "cancel remote", "call voip")
	})
}

// What was never sent, for want of files here, costs no device its binding.
func TestStarvedRemovesNothing(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.Remove.Failed = 2 }, func(r *rig) {
		r.asleep(phone("1"))
		r.pusher.outcome = func(push.Request) push.Outcome {
			return push.Outcome{Reply: push.Reply{Reason: push.Unavailable, Starved: true}}
		}
		for i := range 5 {
			r.start(fmt.Sprint(i))
			r.end(fmt.Sprint(i), wake.EndTimeout)
			r.sleep(time.Minute)
		}
		r.wantBindings("1")
	})
}

// Failures in a row remove a token; one that ends well ends the row.
func TestRemoveRules(t *testing.T) {
	two := 2
	f := func(name string, change func(*wake.RemoveConfig), call func(r *rig, key string, good bool)) {
		t.Helper()
		inBubble(t, func(c *wake.Config) { change(&c.Remove) }, func(r *rig) {
			r.asleep(phone("1"))
			for i, good := range []bool{false, true, false} {
				call(r, fmt.Sprint(name, i), good)
				r.sleep(time.Minute)
			}
			r.wantBindings("1")
			call(r, name+" last", false)
			r.sleep(time.Minute)
			r.wantBindings()
		})
		inBubble(t, func(c *wake.Config) {
			change(&c.Remove)
			*c = wake.Config{Remove: wake.RemoveConfig{Rejected: new(int)}}
		}, func(r *rig) {
			r.asleep(phone("1"))
			for i := range 5 { // the rule is off
				call(r, fmt.Sprint(name, i), false)
				r.sleep(time.Minute)
			}
			r.wantBindings("1")
		})
	}
	pushing := func(bad push.Reason) func(*rig, string, bool) {
		return func(r *rig, key string, good bool) {
			r.pusher.outcome = outcome(bad)
			if good {
				r.pusher.outcome = nil
			}
			r.start(key)
			r.end(key, wake.EndTimeout)
		}
	}
	f("rejected", func(c *wake.RemoveConfig) { c.Rejected = &two }, pushing(push.TokenBad))
	f("failed", func(c *wake.RemoveConfig) { c.Failed = 2 }, pushing(push.Unavailable))
	f("throttled", func(c *wake.RemoveConfig) { c.Failed = 2 }, pushing(push.Throttled))
	f("no answer", func(c *wake.RemoveConfig) { c.NoAnswer = 2 }, func(r *rig, key string, good bool) {
		r.pusher.policy.Cancel = push.CancelNever
		r.start(key)
		if good {
			r.register(phone("1"))
		}
		r.sleep(41 * time.Second) // the hold time counts it, the end does not again
		r.end(key, wake.EndTimeout)
	})
	f("call failed", func(c *wake.RemoveConfig) { c.CallFailed = 2 }, func(r *rig, key string, good bool) {
		r.pusher.policy.Cancel = push.CancelNever
		r.start(key)
		r.register(phone("1"))
		if good {
			// Nothing ends this row but a restart: the count is of failures only.
			r.end(key, wake.EndAnswered)
			return
		}
		if key == "call failed2" {
			r.end(key, wake.EndBusy)
			return
		}
		r.end(key, wake.EndFailed)
	})
}

// REGISTERs that the registrar refused count for the token that they show.
func TestRejected(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.Remove.RegisterRejected = 2 }, func(r *rig) {
		reject := func(contact string, want int) {
			t.Helper()
			n, err := r.service.Rejected(r.t.Context(), wake.RejectedParams{Node: "sip1", AOR: bob, Contact: contact})
			if n != want || err != nil {
				r.fatal("counted %d, %v, want %d", n, err, want)
			}
			r.sleep(0)
		}
		r.register(phone("1"))
		r.register(phone("2"))
		reject(phone("1"), 1)
		r.register(phone("1")) // the row ends
		reject(phone("1"), 1)
		stranger := strings.Replace(phone("1"), "token-1", "guessed", 1)
		reject(stranger, 0)
		reject(stranger, 0)
		reject("<sip:bob@192.0.2.1>", 0)
		reject("", 0)
		r.wantBindings("1", "2")
		reject(phone("1"), 1)
		r.wantBindings("2")
		for _, p := range []wake.RejectedParams{{AOR: bob}, {Node: "sip1"}} {
			if _, err := r.service.Rejected(r.t.Context(), p); err == nil {
				t.Errorf("no error for %+v", p)
			}
		}
		r.store.set(func(m *memory) { m.err = wake.ErrUnavailable })
		if _, err := r.service.Rejected(r.t.Context(), wake.RejectedParams{Node: "sip1", AOR: bob, Contact: phone("2")}); !errors.Is(err, wake.ErrUnavailable) {
			t.Errorf("a store that is away: %v", err)
		}
	})
}

func TestRemoveStoreAway(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.pusher.hold, r.pusher.outcome = true, refuse
		r.start("a")
		r.store.set(func(m *memory) { m.err = fmt.Errorf("%w: gone", wake.ErrUnavailable) })
		r.pusher.answer()
		if !strings.Contains(r.log.String(), "cannot remove binding") {
			t.Errorf("the log is %s", r.log)
		}
	})
}

// A push that belongs to no call.
func TestPush(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		f := func(contact string, k push.Kind, want push.Reason) {
			t.Helper()
			r.asleep(contact)
			list := r.bindings()
			var got push.Reason
			r.service.Push(wake.DevicePush{Binding: list[0], Kind: k, Deadline: time.Now().Add(time.Minute)}, func(o push.Outcome) { got = o.Reason })
			synctest.Wait()
			if got != want {
				t.Errorf("%s: %s, want %s", k, got, want)
			}
			if _, err := r.service.RemoveBindings(r.t.Context(), wake.Caller{}, bob, "", list[0].Address.Tokens[0].Value); err != nil {
				t.Fatal(err)
			}
		}
		f(phone("1"), push.Custom, push.Accepted)
		f(onlyVoIP("1"), push.Custom, push.NoToken)
		r.pusher.policy.When = map[push.Kind]push.When{push.Custom: push.WhenNever}
		f(phone("1"), push.Custom, push.Denied)
		if !r.service.Serves(wake.Binding{}) || r.service.SendTTL() != time.Hour {
			t.Error("what the outbox asks is wrong")
		}
	})
}

// Work that no request waits for is bounded.
func TestGo(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		release := make(chan struct{})
		n := 0
		var err error
		for ; err == nil; n++ {
			err = r.service.Go(func(context.Context) { <-release })
		}
		if !errors.Is(err, wake.ErrBusy) || n != 1025 {
			t.Errorf("%d ran, %v", n, err)
		}
		close(release)
		synctest.Wait()
		if err := r.service.Go(func(context.Context) {}); err != nil {
			t.Error(err)
		}
	})
}

// A device that gives itself no name is known by a hash of its push address, which is no
// matter of the log.
func TestLogHasNoHash(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		plain := "<sip:bob@192.0.2.1:5060;pn-provider=fcm;pn-param=" + app + ";pn-prid=token-plain>"
		r.asleep(plain, phone("1"))
		var hash string
		for _, b := range r.bindings() {
			if trace.Hashed(b.Device) {
				hash = b.Device
			}
		}
		if hash == "" {
			t.Fatal("the device has a name")
		}
		r.pusher.outcome = refuse
		r.start("a")
		r.end("a", wake.EndTimeout)
		r.sleep(time.Second)
		if text := r.log.String(); !strings.Contains(text, "binding removed") || !strings.Contains(text, instance("1")) || strings.Contains(text, hash) {
			t.Errorf("the hash is %s, the log\n%s", hash, text)
		}
	})
}
