package webpush_test

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/webpushsim"
	"github.com/sipwake/sipwake/push"
)

// RFC 8292 lets a signature be good for 24 hours at most, by the service's clock.
func TestClockDiffersFromTheServices(t *testing.T) {
	for _, theirs := range []time.Duration{-26 * time.Hour, -13 * time.Hour, -5 * time.Hour, 5 * time.Hour, 13 * time.Hour, 26 * time.Hour} {
		sim, c := start(t, webpushsim.Options{Clock: func() time.Time { return time.Now().Add(theirs) }})
		p, sub := client(t, c), subscribe(t, sim, c)
		for range 3 {
			if r := p.Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.Accepted {
				t.Errorf("the service's clock differs by %v: %+v", theirs, r)
			}
		}
		if got := sim.Requests(); got > 4 {
			t.Errorf("by %v: %d requests for three pushes", theirs, got)
		}
	}
}
