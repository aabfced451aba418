package wake_test

import (
	"testing"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// The caller hears it once, when the first push was taken; never when nobody can be woken.
func TestAlert(t *testing.T) {
	f := func(name string, change func(*wake.Config), play func(r *rig), want ...string) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, change, func(r *rig) {
				r.asleep(phone("1"), phone("2"))
				play(r)
				r.wantSignals(want...)
			})
		})
	}
	ringing := func(c *wake.Config) { c.Alert.Code = 180 }
	f("two are pushed", ringing, func(r *rig) {
		r.start("a")
		r.wantEvent("a", trace.Alerting)
	}, "alert sip1 180 Waking")
	f("other words", func(c *wake.Config) { c.Alert = wake.AlertConfig{Code: 182, Text: "Wait"} }, func(r *rig) { r.start("a") }, "alert sip1 182 Wait")
	f("not wanted", nil, func(r *rig) { r.start("a") })
	f("nothing is taken yet", ringing, func(r *rig) {
		r.pusher.hold = true
		r.start("a")
	})
	f("the call is over by then", ringing, func(r *rig) {
		r.pusher.hold = true
		r.start("a")
		r.end("a", wake.EndCancelled)
		r.pusher.answer()
	})
	f("nobody can be woken", ringing, func(r *rig) {
		r.pusher.outcome = refuse
		r.start("a")
	}, "give_up sip1")
	f("a message", ringing, func(r *rig) { r.start("a", func(p *wake.StartParams) { p.Kind = push.Chat }) })
}
