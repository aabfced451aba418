package wake_test

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// Requests within a dialog: for the one device that the dialog is with.

func inDialog(change func(*wake.StartParams)) func(*wake.StartParams) {
	return func(p *wake.StartParams) {
		p.Kind = push.Refresh
		change(p)
	}
}

func TestDialogWakesOneDevice(t *testing.T) {
	names := map[string]func(r *rig, p *wake.StartParams){
		"its instance":     func(_ *rig, p *wake.StartParams) { p.Instance = instance("2") },
		"its registration": func(r *rig, p *wake.StartParams) { p.Contact = r.binding("2").CallID },
		"its contact":      func(r *rig, p *wake.StartParams) { p.Contact = r.binding("2").Contact },
	}
	for name, set := range names {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.asleep(phone("1"), iPhone("2"))
				wantOutcome(r, r.start("a", inDialog(func(p *wake.StartParams) { set(r, p) })), wake.OutcomePushing, 1)
				r.wantPushes("refresh remote") // a voip token would ring
				r.register(phone("1"))
				r.wantSignals()
				r.register(iPhone("2"))
				r.wantSignals("wake sip1 2")
			})
		})
	}
}

// The call that the dialog is of may not be known to have been answered yet, and pushes
// nobody for this request.
func TestDialogIsNoFork(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		wantOutcome(r, r.start("b", inDialog(func(p *wake.StartParams) { p.Instance, p.Source, p.CallID = instance("1"), "tcp:192.0.2.1:1", "call-a" })), wake.OutcomePushing, 1)
		r.wantPushes("call token-1", "refresh token-1")
	})
}

// What shows nothing may be delivered late, or never: no binding goes for that.
func TestDialogIsNoEvidence(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.Remove.NoAnswer, c.Remove.CallFailed = 1, 1 }, func(r *rig) {
		r.asleep(phone("1"))
		for _, call := range []string{"a", "b"} {
			r.start(call, inDialog(func(p *wake.StartParams) { p.Instance = instance("1") }))
			r.end(call, wake.EndTimeout)
			r.wantBindings("1")
			r.start(call+"2", inDialog(func(p *wake.StartParams) { p.Instance = instance("1") }))
			r.register(phone("1"))
			r.end(call+"2", wake.EndFailed)
			r.wantBindings("1")
			r.sleep(r.config.Recent + time.Second)
		}
		r.wantBindings("1")
	})
}

// A REGISTER from where nobody answers now is no sign of life; one from elsewhere is.
func TestDialogRegisteredAMomentAgo(t *testing.T) {
	f := func(source string, outcome wake.Outcome, devices int, signals ...string) {
		inBubble(t, nil, func(r *rig) {
			r.register(phone("1"))
			res := r.start("a", inDialog(func(p *wake.StartParams) { p.Instance, p.Source = instance("1"), source }))
			wantOutcome(r, res, outcome, devices)
			r.wantSignals(signals...)
		})
	}
	f("tcp:192.0.2.1:5060", wake.OutcomePushing, 1)
	f("tcp:192.0.2.1:5061", wake.OutcomeAwake, 0, "wake sip1 1")
}

func TestDialogOfNobody(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		wantOutcome(r, r.start("a", inDialog(func(p *wake.StartParams) { p.Contact = "of-nobody" })), wake.OutcomeNone, 0)
		r.wantPushes()
	})
}
