package wake_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

func otherRequest(p *wake.StartParams) { p.Kind = push.Refresh }

// A request that neither rings nor shows a text is held for the same phones, and its
// push is one that has them register.
func TestStartOtherRequest(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		if res := r.start("a", otherRequest); res.Outcome != wake.OutcomePushing || res.Hold == 0 {
			r.fatal("%+v", res)
		}
		r.wantPushes("refresh token-1")
		r.register(phone("1"))
		r.wantSignals("wake sip1 1")
		r.end("a", wake.EndAnswered)
		r.sleep(time.Minute)
		r.wantPushes("refresh token-1") // nobody is told that it is over
	})
}

// Apple ends an app that gets a voip push and reports no call.
func TestStartOtherRequestVoIP(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(onlyVoIP("1"))
		wantOutcome(r, r.start("a", otherRequest), wake.OutcomeNone, 1)
		r.wantPushes()
	})
	inBubble(t, nil, func(r *rig) {
		r.asleep(iPhone("1"))
		r.start("a", otherRequest)
		if p := r.pusher.requests; len(p) != 1 || p[0].Kind != push.Refresh || p[0].Service != pnparam.Remote {
			r.fatal("pushes: %+v", p)
		}
	})
}

// Strangers can send such a request as they can call.
func TestStartOtherRequestIsLimited(t *testing.T) {
	inBubble(t, func(c *wake.Config) {
		one := 1
		c.Limits.Pair, c.Limits.Caller, c.Limits.AOR = &one, &one, &one
	}, func(r *rig) {
		r.asleep(phone("1"))
		wantOutcome(r, r.start("a", otherRequest), wake.OutcomePushing, 1)
		wantOutcome(r, r.start("b", otherRequest), wake.OutcomeShed, 0)
		r.wantEvent("b", trace.Limited)
	})
}

// A request for one device, which the store must be asked for, is limited before that.
func TestStartOneDeviceIsLimited(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.Limits.AOR = new(1) }, func(r *rig) {
		r.asleep(phone("1"))
		name := r.binding("1").CallID
		toDevice := func(p *wake.StartParams) { p.Kind, p.Contact = push.Refresh, name }
		wantOutcome(r, r.start("a", toDevice), wake.OutcomePushing, 1)
		r.store.set(func(m *memory) { m.reads = 0 })
		wantOutcome(r, r.start("b", toDevice), wake.OutcomeShed, 0)
		wantOutcome(r, r.start("a", toDevice), wake.OutcomeDuplicate, 0)
		r.store.set(func(m *memory) {
			if m.reads != 0 {
				t.Errorf("%d reads", m.reads)
			}
		})
	})
}

// Such a push comes late by the platform's rules, and a phone may well refuse the
// request: neither says anything against its binding.
func TestOtherRequestCountsNoFailure(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.Remove.NoAnswer, c.Remove.CallFailed = 1, 1 }, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a", otherRequest)
		r.sleep(41 * time.Second)
		r.end("a", wake.EndTimeout)
		r.wantBindings("1")
		r.start("b", otherRequest)
		r.register(phone("1"))
		r.end("b", wake.EndFailed)
		r.sleep(time.Second)
		r.wantBindings("1")
	})
}

func TestStartKinds(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		for _, k := range push.Kinds() {
			_, err := r.tryStart(string(k), func(p *wake.StartParams) { p.Kind = k })
			var bad *wake.ParamError
			if held := k != push.Cancel && k != push.Custom; held != (err == nil) || err != nil && !errors.As(err, &bad) {
				t.Errorf("%s: %v", k, err)
			}
		}
	})
}
