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

func wantOutcome(r *rig, got wake.StartResult, outcome wake.Outcome, devices int) {
	r.t.Helper()
	if got.Outcome != outcome || got.Devices != devices {
		r.fatal("outcome is %s with %d devices, want %s with %d", got.Outcome, got.Devices, outcome, devices)
	}
	if holds := outcome != wake.OutcomeNone && outcome != wake.OutcomeShed; (got.Hold > 0) != holds {
		r.fatal("hold is %s with outcome %s", got.Hold, outcome)
	}
}

func TestStartPushesWhoSleeps(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), iPhone("2"))
		res := r.start("a", func(p *wake.StartParams) { p.Hold = 10 * time.Second; p.Media, p.Body = "video", "" })
		wantOutcome(r, res, wake.OutcomePushing, 2)
		r.wantPushes("call token-1", "call voip")
		if res.Hold != 10*time.Second {
			t.Errorf("hold is %s, not what the node can", res.Hold)
		}
		req := r.pusher.requests[0]
		if v := req.Values; v.From != alice || v.User != "alice" || v.Display != "Alice" || v.Media != "video" || v.AOR != bob || v.CallID != "call-a" || v.UUID == "" {
			t.Errorf("the push says %+v", v)
		}
		if !req.Deadline.Equal(time.Now().Add(10 * time.Second)) {
			t.Errorf("the push is to be delivered until %s", req.Deadline)
		}
		if d := len(r.others.pushed); d != 2 {
			t.Errorf("%d accepted pushes noted for other instances, want 2", d)
		}
	})
}

func TestStartHoldIsBounded(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.MaxHold = 20 * time.Second }, func(r *rig) {
		r.asleep(phone("1"))
		for call, hold := range map[string]time.Duration{"a": 0, "b": time.Minute, "c": 20 * time.Second} {
			if res := r.start(call, func(p *wake.StartParams) { p.Hold = hold }); res.Hold != 20*time.Second {
				t.Errorf("asked for %s: hold is %s", hold, res.Hold)
			}
		}
	})
}

func TestStartWithNobody(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		wantOutcome(r, r.start("a"), wake.OutcomeNone, 0)
		if r.store.ends != 1 || r.metric("sipwake_wakes_open") != 0 {
			r.fatal("a wake that is not held stays open")
		}
	})
}

// A device that the node rings is pushed only if it says nothing.
func TestStartDelaysPushToWhoRings(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		one := r.binding("1")
		wantOutcome(r, r.start("a", live(one.CallID)), wake.OutcomePushing, 2)
		r.wantPushes("call token-2")
		if !r.rings("a", one.CallID) {
			t.Error("the push to a phone that rings did not wait")
		}
		if r.rings("a", one.CallID) {
			t.Error("the push waited twice")
		}
		r.sleep(time.Minute)
		r.wantPushes("call token-2")
	})
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		wantOutcome(r, r.start("a", live(r.binding("1").Contact)), wake.OutcomeAwake, 1)
		r.sleep(r.config.PushDelay - time.Millisecond)
		r.wantPushes()
		r.sleep(time.Millisecond)
		r.wantPushes("call token-1")
		if r.rings("a", r.binding("1").CallID) {
			t.Error("a push that was sent still waited")
		}
	})
}

// A REGISTER of a moment ago is no proof of life: the phone is signalled, and
// pushed if it says nothing.
func TestStartRecentRegister(t *testing.T) {
	f := func(ringing bool, pushes ...string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.register(phone("1"))
			r.sleep(time.Second)
			wantOutcome(r, r.start("a"), wake.OutcomeAwake, 0)
			r.wantSignals("wake sip1 1")
			r.wantPushes()
			if ringing && !r.rings("a", r.binding("1").CallID) {
				t.Error("its push did not wait")
			}
			r.sleep(r.config.PushDelay)
			r.wantPushes(pushes...)
			// Only who was heard lets the node stop holding.
			r.sleep(r.config.Linger + time.Second)
			if ringing {
				r.wantSignals("wake sip1 1", "give_up sip1")
			} else {
				r.wantSignals("wake sip1 1")
			}
		})
	}
	f(true)
	f(false, "call token-1")
}

// The node says that it cannot reach the phone: there is nothing to wait for.
func TestStartRecentRegisterUnsent(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.node.answer = wake.SignalUnsent
		r.register(phone("1"))
		wantOutcome(r, r.start("a"), wake.OutcomeAwake, 0)
		r.wantPushes("call token-1")
		r.sleep(time.Minute)
		r.wantPushes("call token-1")
	})
}

// A phone that was pushed because it said nothing, and registers then, is back.
func TestStartRecentRegisterComesBack(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.register(phone("1"))
		r.start("a")
		r.sleep(4 * time.Second)
		r.register(phone("1"))
		r.wantSignals("wake sip1 1", "wake sip1 1")
		r.sleep(r.config.Linger + time.Second)
		r.wantSignals("wake sip1 1", "wake sip1 1", "give_up sip1")
	})
}

// A device without push that registered a moment ago can only be signalled.
func TestStartRecentDeskPhone(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.register("<sip:desk@192.0.2.9>")
		wantOutcome(r, r.start("a"), wake.OutcomeAwake, 0)
		r.sleep(r.config.Linger + time.Second)
		r.wantSignals("wake sip1 sip:desk@192.0.2.9", "give_up sip1")
		r.wantPushes()
	})
}

func TestStartRepeated(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		if res := r.start("a"); res.Outcome != wake.OutcomeDuplicate || res.Hold <= 0 {
			t.Errorf("the second is %+v", res)
		}
		r.wantPushes("call token-1")
		r.end("a", wake.EndCancelled)
		wantOutcome(r, r.start("b"), wake.OutcomePushing, 1) // another call is pushed
	})
}

// A forked INVITE is held twice, and pushed once.
func TestStartForked(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		res := r.start("b", func(p *wake.StartParams) { p.CallID = "call-a" })
		wantOutcome(r, res, wake.OutcomeDuplicate, 1)
		r.wantPushes("call token-1")
		r.register(phone("1")) // both branches are told
		r.wantSignals("wake sip1 1", "wake sip1 1")
	})
}

func TestStartAfterItsEnd(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		if r.end("a", wake.EndCancelled) {
			t.Error("the wake was known before it started")
		}
		wantOutcome(r, r.start("a"), wake.OutcomeNone, 0)
		r.wantPushes()
	})
}

// A wake.end that comes while the store works stops the pushes.
func TestStartOvertakenByEnd(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.store.set(func(m *memory) { m.takes = 100 * time.Millisecond })
		done := make(chan wake.StartResult)
		go func() { done <- r.start("a") }()
		r.sleep(50 * time.Millisecond)
		r.end("a", wake.EndCancelled)
		<-done
		r.wantPushes()
		if r.metric("sipwake_wakes_open") != 0 {
			t.Error("the call is still open")
		}
	})
}

func TestStartFull(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.store.set(func(m *memory) { m.full = true })
		wantOutcome(r, r.start("a"), wake.OutcomeShed, 0)
		r.wantPushes()
	})
}

func TestStartStoreAway(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.store.set(func(m *memory) { m.err = fmt.Errorf("%w: gone", wake.ErrUnavailable) })
		if _, err := r.tryStart("a"); !errors.Is(err, wake.ErrUnavailable) {
			t.Fatalf("error is %v", err)
		}
		if len(r.others.recheck) != 1 || r.metric("sipwake_wakes_open") != 0 {
			t.Errorf("%d wakes are looked after", len(r.others.recheck))
		}
		r.store.set(func(m *memory) { m.err, m.cached = nil, true })
		if res := r.start("b"); !res.Cached {
			t.Error("the answer does not say that it comes from memory")
		}
		r.wantEvent("b", trace.Cached)
	})
}

// What is known to one instance alone is lost with it: a node that heard that asks again.
// The first instance says that the wake is under way, another one pushes by the same
// UUID, but nobody who rings, and leaves it to the first to give up.
func TestStartAgain(t *testing.T) {
	one := 1
	inBubble(t, func(c *wake.Config) { c.Limits.Pair = &one }, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.store.set(func(m *memory) { m.cached = true })
		first := r.start("a")
		if res := r.start("a", again()); res.Outcome != wake.OutcomeDuplicate || !res.Cached || res.Hold <= 0 {
			t.Errorf("the first instance answers %+v", res)
		}
		r.wantPushes("call token-1", "call token-2")
		if t := r.timelines(trace.Query{AOR: bob, Limit: 1}); t[0].Outcome != "pushing" {
			r.fatal("the call's outcome is %q", t[0].Outcome)
		}

		other := newRig(r.t, nil, r.store.copied())
		defer other.stop()
		other.pusher.outcome = refuse
		res := other.start("a", again("registration-"+phone("1")[len(phone("1"))-12:]))
		if res.UUID != first.UUID {
			t.Error("the push has another UUID")
		}
		other.wantPushes("call token-2")
		other.sleep(other.config.Linger + time.Second)
		other.wantSignals()
	})
	// One that is stored is known to all.
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		if res := r.start("a"); res.Outcome != wake.OutcomeDuplicate || res.Cached {
			t.Errorf("the second answer is %+v", res)
		}
	})
}

// again is a wake.start that a node repeats, while these ring.
func again(ringing ...string) func(*wake.StartParams) {
	return func(p *wake.StartParams) { p.Again, p.Ringing = true, ringing }
}

// Limits are asked before the store: a flood costs it nothing.
func TestStartLimitBeforeStore(t *testing.T) {
	two, none := 2, 0
	inBubble(t, func(c *wake.Config) { c.Limits.Pair, c.Limits.Caller, c.Limits.AOR = &two, &none, &none }, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.start("b")
		starts := r.store.starts
		wantOutcome(r, r.start("c"), wake.OutcomeShed, 0)
		if r.store.starts != starts {
			t.Error("the store was asked for a call over the limit")
		}
		r.wantEvent("c", trace.Limited)
		r.wantPushes("call token-1", "call token-1")
		wantOutcome(r, r.start("d", func(p *wake.StartParams) { p.From = "sip:carol@example.com" }), wake.OutcomePushing, 1)
		r.sleep(time.Minute)
		wantOutcome(r, r.start("e"), wake.OutcomePushing, 1)
	})
	// A call that pushes nobody costs nothing.
	inBubble(t, func(c *wake.Config) { c.Limits.Pair, c.Limits.Caller, c.Limits.AOR = &none, &none, &two }, func(r *rig) {
		for i := range 5 {
			wantOutcome(r, r.start(fmt.Sprint(i)), wake.OutcomeNone, 0)
		}
		r.asleep(phone("1"))
		wantOutcome(r, r.start("a"), wake.OutcomePushing, 1)
	})
	// Neither does one to a phone that proves to be awake; one that says nothing counts.
	inBubble(t, func(c *wake.Config) { c.Limits.Pair, c.Limits.Caller, c.Limits.AOR = &none, &none, &two }, func(r *rig) {
		r.asleep(phone("1"))
		for i := range 5 {
			call := fmt.Sprint(i)
			wantOutcome(r, r.start(call, live(r.binding("1").CallID)), wake.OutcomeAwake, 1)
			r.rings(call, r.binding("1").CallID)
		}
		for i := range 3 {
			wantOutcome(r, r.start(fmt.Sprint("silent", i), live(r.binding("1").CallID)), wake.OutcomeAwake, 1)
		}
		r.sleep(r.config.PushDelay + time.Millisecond)
		r.wantPushes("call token-1", "call token-1")
		if r.metric("sipwake_wakes_limited_total") != 1 {
			r.fatal("no call exceeded the limit")
		}
	})
	inBubble(t, func(c *wake.Config) { c.Limits.Pair, c.Limits.Caller, c.Limits.AOR = &none, &two, &none }, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.start("b")
		wantOutcome(r, r.start("c"), wake.OutcomeShed, 0)
		for i := range 5 { // who is anonymous is no caller
			call := fmt.Sprint(i)
			wantOutcome(r, r.start(call, func(p *wake.StartParams) { p.From = "sip:anonymous@anonymous.invalid" }), wake.OutcomePushing, 1)
		}
	})
}

// Messages are shed under load, calls are not.
func TestStartUnderLoad(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.pusher.load = .8
		if level, reasons := r.service.Load(); level != 3 || len(reasons) == 0 {
			t.Fatalf("load is %d %v", level, reasons)
		}
		chat := func(p *wake.StartParams) { p.Kind = push.Chat }
		wantOutcome(r, r.start("a", chat), wake.OutcomeShed, 1)
		wantOutcome(r, r.start("b"), wake.OutcomePushing, 1)
		r.pusher.outcome = func(push.Request) push.Outcome { return push.Outcome{Reply: push.Reply{Reason: push.QueueFull}} }
		wantOutcome(r, r.start("c"), wake.OutcomeShed, 1)
	})
}

// A message waits for a phone that may take it, if its app says so.
func TestStartChatWaitsForWhoIsAwake(t *testing.T) {
	f := func(rule push.ChatRule, at time.Duration, pushes ...string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.pusher.policy.Chat = rule
			r.asleep(phone("1"))
			r.start("a", live("desk phone"), func(p *wake.StartParams) { p.Kind, p.Body = push.Chat, "hello" })
			r.sleep(at)
			r.wantPushes(pushes...)
		})
	}
	f(push.ChatNoAnswer, 0)
	f(push.ChatNoAnswer, time.Second, "chat token-1")
	f(push.ChatAlways, 0, "chat token-1")
}

// A message that no person reads wakes nobody; the text inside a message/cpim is what
// the push shows.
func TestStartMessage(t *testing.T) {
	f := func(contentType, priority, body, text string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"))
			res := r.start("a", func(p *wake.StartParams) {
				p.Kind, p.ContentType, p.Priority, p.Body = push.Chat, contentType, priority, body
			})
			if text == "" {
				wantOutcome(r, res, wake.OutcomeNone, 0)
				r.wantPushes()
				r.wantEvent("a", trace.Unread)
				return
			}
			wantOutcome(r, res, wake.OutcomePushing, 1)
			if got := r.pusher.requests[0].Values.Body; got != text {
				r.fatal("the push shows %q, want %q", got, text)
			}
		})
	}
	f("", "", "hello", "hello")
	f("text/plain;charset=utf-8", "", "hello", "hello")
	f("", "urgent", "hello", "hello")
	f("message/cpim", "", "From: <sip:a@b>\r\n\r\nContent-Type: text/plain\r\n\r\nhello", "hello")
	f("message/imdn+xml", "", "<imdn/>", "")
	f("application/im-iscomposing+xml", "", "<x/>", "")
	f("text/plain", "Non-Urgent", "hello", "")
	inBubble(t, nil, func(r *rig) { // a call is a call
		r.asleep(phone("1"))
		wantOutcome(r, r.start("a", func(p *wake.StartParams) { p.Priority = "non-urgent" }), wake.OutcomePushing, 1)
	})
}

// Every device unreachable: the node is told at once.
func TestInvariant6NobodyLeft(t *testing.T) {
	for _, reason := range []push.Reason{push.TokenDead, push.TokenBad, push.Credential, push.Unavailable, push.Expired} {
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"), phone("2"))
			r.pusher.outcome = func(push.Request) push.Outcome { return push.Outcome{Reply: push.Reply{Reason: reason}, Tries: 1} }
			r.start("a")
			r.wantSignals("give_up sip1")
			r.wantEvent("a", trace.GaveUp)
		})
	}
	inBubble(t, nil, func(r *rig) { // one may still come
		r.asleep(phone("1"), phone("2"))
		r.pusher.outcome = func(q push.Request) push.Outcome {
			if q.Token.Reveal() == "token-1" {
				return push.Outcome{Reply: push.Reply{Reason: push.TokenDead}, Tries: 1}
			}
			return push.Outcome{Reply: push.Reply{Reason: push.Accepted}, Tries: 1}
		}
		r.start("a")
		r.wantSignals()
		r.register(phone("2"))
		r.sleep(r.config.Linger + time.Second)
		r.wantSignals("wake sip1 2", "give_up sip1")
	})
	inBubble(t, nil, func(r *rig) { // none was even tried
		r.asleep(phone("1"))
		r.pusher.outcome = func(push.Request) push.Outcome { return push.Outcome{Reply: push.Reply{Reason: push.BreakerOpen}} }
		wantOutcome(r, r.start("a"), wake.OutcomeNone, 1)
		r.wantSignals()
	})
}

// A push that is cut off because the service stops is for the heir.
func TestStartShutDownIsForTheHeir(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.pusher.outcome = func(push.Request) push.Outcome {
			return push.Outcome{Reply: push.Reply{Reason: push.ShutDown}, Tries: 1}
		}
		r.start("a")
		r.wantSignals()
	})
}

// A device that came back before wake.start reached it stays back, and is not
// pushed.
func TestStartDeviceBackAtOnce(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.store.set(func(m *memory) { m.takes = 100 * time.Millisecond })
		done := make(chan wake.StartResult)
		go func() { done <- r.start("a") }()
		r.sleep(50 * time.Millisecond)
		r.service.HandleEvent(wake.Event{Type: wake.EventBack, Node: "sip1", Call: "a", AOR: bob, Detail: instance("1")})
		<-done
		r.wantPushes()
		r.sleep(r.config.Linger + time.Second)
		r.wantSignals("give_up sip1")
	})
}

func TestStartBadParams(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		f := func(field string, change func(*wake.StartParams)) {
			t.Helper()
			_, err := r.tryStart("a", change)
			if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != field {
				t.Errorf("%s: error is %v", field, err)
			}
		}
		f("node", func(p *wake.StartParams) { p.Node = "" })
		f("aor", func(p *wake.StartParams) { p.AOR = "" })
		f("call", func(p *wake.StartParams) { p.Call = "" })
		f("call_id", func(p *wake.StartParams) { p.CallID = "" })
		f("kind", func(p *wake.StartParams) { p.Kind = push.Custom })
		f("hold_s", func(p *wake.StartParams) { p.Hold = -1 })
		if _, err := r.tryStart("a", func(p *wake.StartParams) { p.Node = "sip9" }); !errors.Is(err, wake.ErrUnknownNode) {
			t.Errorf("unknown node: %v", err)
		}
	})
}

// An iPhone's voip token is only ever used for a call.
func TestInvariant5VoIPTokenIsForCalls(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(iPhone("1"))
		r.start("a", func(p *wake.StartParams) { p.Kind = push.Chat })
		r.start("b")
		r.end("b", wake.EndCancelled)
		r.wantPushes("chat remote", "call voip", "cancel remote")
	})
	inBubble(t, nil, func(r *rig) { // voip only: a message cannot be pushed
		r.asleep(onlyVoIP("1"))
		wantOutcome(r, r.start("a", func(p *wake.StartParams) { p.Kind = push.Chat }), wake.OutcomeNone, 1)
		wantOutcome(r, r.start("b"), wake.OutcomePushing, 1)
		r.end("b", wake.EndCancelled)
		r.wantPushes("call voip")
	})
}

// A client says which kinds it does not want.
func TestStartDenied(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.registerAs(wake.RegisterParams{Contact: "<sip:bob@192.0.2.1>", Headers: map[string]string{
			"Portsip-Push": "device-os=android;device-uid=token-1;allow-call-push=false;allow-message-push=true;app-id=" + app}})
		r.sleep(5 * time.Second)
		wantOutcome(r, r.start("a"), wake.OutcomeNone, 1)
		wantOutcome(r, r.start("b", func(p *wake.StartParams) { p.Kind = push.Chat }), wake.OutcomePushing, 1)
		r.wantPushes("chat token-1")
	})
	inBubble(t, nil, func(r *rig) {
		r.registerAs(wake.RegisterParams{Contact: "<sip:bob@192.0.2.1>", Headers: map[string]string{
			"Portsip-Push": "device-os=android;device-uid=token-1;allow-call-push=true;allow-message-push=false;app-id=" + app}})
		r.sleep(5 * time.Second)
		wantOutcome(r, r.start("a", func(p *wake.StartParams) { p.Kind = push.Chat }), wake.OutcomeNone, 1)
		wantOutcome(r, r.start("b"), wake.OutcomePushing, 1)
	})
}

// Two instances that do not know of each other's wake push under one UUID.
func TestStartNamesTheWakeByItsRequest(t *testing.T) {
	uuid := func(change ...func(*wake.StartParams)) (id string) {
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"))
			r.start("a", change...)
			id = r.pusher.requests[0].Values.UUID
		})
		return id
	}
	first := uuid()
	if first == "" || first != uuid() {
		t.Error("another instance gives the same held request another UUID")
	}
	for what, change := range map[string]func(*wake.StartParams){
		"node":    func(p *wake.StartParams) { p.Node = "sip2" },
		"call":    func(p *wake.StartParams) { p.Call = "b" },
		"Call-ID": func(p *wake.StartParams) { p.CallID = "b" },
	} {
		if uuid(change) == first {
			t.Errorf("another %s has the same UUID", what)
		}
	}
}

// An emergency service that calls back is neither limited nor shed (RFC 7090), if the
// configuration says so.
func TestStartPSAPCallback(t *testing.T) {
	start := func(believed bool, priority string) (outcome wake.Outcome) {
		inBubble(t, func(c *wake.Config) { c.PSAPCallback = believed }, func(r *rig) {
			r.asleep(phone("1"))
			r.pusher.policy.When = map[push.Kind]push.When{push.Call: push.WhenLowLoad}
			r.pusher.load = 1
			outcome = r.start("a", func(p *wake.StartParams) { p.Priority = priority }).Outcome
		})
		return outcome
	}
	if got := start(false, "psap-callback"); got != wake.OutcomeShed {
		t.Errorf("not believed: %s", got)
	}
	if got := start(true, "psap-callback"); got != wake.OutcomePushing {
		t.Errorf("believed: %s", got)
	}
	inBubble(t, func(c *wake.Config) {
		c.PSAPCallback = true
		one := 1
		c.Limits.Pair, c.Limits.Caller, c.Limits.AOR = &one, &one, &one
	}, func(r *rig) {
		r.asleep(phone("1"))
		r.pusher.policy.When = map[push.Kind]push.When{push.Call: push.WhenLowLoad}
		r.pusher.load = 1
		for i, priority := range []string{"", " PSAP-Callback", "psap-callback", "emergency"} {
			want := wake.OutcomePushing
			if i%3 == 0 {
				want = wake.OutcomeShed
			}
			if res := r.start(fmt.Sprint(i), func(p *wake.StartParams) { p.Priority = priority }); res.Outcome != want {
				r.fatal("%q: %s", priority, res.Outcome)
			}
		}
		for _, q := range r.pusher.requests {
			if !q.Urgent {
				t.Error("its push is as any other")
			}
		}
	})
}

// RFC 8599 section 5.3: no push when the registration was ended or has run out.
func TestStartStrict(t *testing.T) {
	for _, strict := range []bool{true, false} {
		inBubble(t, func(c *wake.Config) { c.Strict, c.MinExpires = strict, time.Second }, func(r *rig) {
			r.registerAs(wake.RegisterParams{Contact: phone("1"), Expires: 60})
			r.registerAs(wake.RegisterParams{Contact: phone("2"), Expires: 600})
			r.sleep(2 * time.Minute)
			r.start("a")
			if strict {
				r.wantPushes("call token-2")
			} else {
				r.wantPushes("call token-1", "call token-2")
			}
		})
	}
}
