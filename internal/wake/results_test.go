package wake_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// What became of each device of a call is counted once, by app.
func TestResultsOfDevices(t *testing.T) {
	f := func(want string, outcome push.Outcome, act func(r *rig)) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"))
			r.pusher.outcome = func(push.Request) push.Outcome { return outcome }
			act(r)
			r.end("a", wake.EndTimeout) // the second word changes nothing
			for _, result := range []string{"woken", "silent", "failed", "ended"} {
				n := 0.0
				if result == want {
					n = 1
				}
				if got := r.metric("sipwake_wake_devices_total", "provider=fcm", "app="+app, "result="+result); got != n {
					r.fatal("%s: %v, want %v", result, got, n)
				}
			}
		})
	}
	accepted := push.Outcome{Reply: push.Reply{Reason: push.Accepted}, Tries: 1}
	f("woken", accepted, func(r *rig) {
		r.start("a")
		r.register(phone("1"))
		r.end("a", wake.EndAnswered)
	})
	f("silent", accepted, func(r *rig) {
		r.start("a")
		r.sleep(time.Minute) // the hold time is over
		r.end("a", wake.EndCancelled)
	})
	f("silent", accepted, func(r *rig) {
		r.start("a")
		r.end("a", wake.EndTimeout)
	})
	f("ended", accepted, func(r *rig) {
		r.start("a")
		r.end("a", wake.EndCancelled)
	})
	f("failed", push.Outcome{Reply: push.Reply{Reason: push.Unavailable}, Tries: 2}, func(r *rig) {
		r.start("a")
		r.end("a", wake.EndTimeout)
	})
	f("failed", push.Outcome{Reply: push.Reply{Reason: push.BreakerOpen}}, func(r *rig) { r.start("a") })
	f("", push.Outcome{Reply: push.Reply{Reason: push.Denied}}, func(r *rig) { r.start("a") })
	f("", accepted, func(r *rig) { // it answers the call that it was rung for
		r.start("a", func(p *wake.StartParams) { p.Live = []string{"registration-" + phone("1")[len(phone("1"))-12:]} })
		r.rings("a", "registration-"+phone("1")[len(phone("1"))-12:])
		r.end("a", wake.EndAnswered)
	})
}

// Bindings are counted by app, also when no refresh wakes them.
func TestBindingsAreCounted(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		ctx, cancel := context.WithCancel(context.Background())
		go r.service.Refresh(ctx)
		want := func(n float64, labels ...string) {
			t.Helper()
			if got := r.metric("sipwake_bindings", labels...); got != n {
				r.fatal("%v bindings of %v, want %v", got, labels, n)
			}
		}
		r.service.SetApps([]push.AppInfo{{Provider: pnparam.FCM, Package: app}, {Provider: pnparam.APNs, Package: app}})
		r.asleep(phone("1"), phone("2"), iPhone("3"))
		r.sleep(time.Minute)
		want(2, "provider=fcm", "app="+app)
		want(1, "provider=apns", "app="+app)
		r.pusher.mu.Lock()
		r.pusher.unserved = true // the apps went
		r.pusher.mu.Unlock()
		r.service.SetApps(nil)
		r.sleep(6 * time.Minute)
		want(0, "provider=fcm", "app="+app)
		want(3, "provider=other", "app=other")
		cancel()
		synctest.Wait()
	})
}
