package apns_test

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/push"
)

// Apple refuses a provider token from the future and one that is an hour old.
func TestClockDiffersFromApples(t *testing.T) {
	for _, theirs := range []time.Duration{-26 * time.Hour, -40 * time.Minute, -41 * time.Second, 41 * time.Second, 65 * time.Minute, 26 * time.Hour} {
		_, c := start(t, apnssim.Options{Clock: func() time.Time { return time.Now().Add(theirs) }})
		p := client(t, c)
		for range 3 {
			if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
				t.Errorf("Apple's clock differs by %v: %+v", theirs, r)
			}
		}
	}
}
