package webhook_test

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/push"
)

// A receiver may refuse a signature from the future and an old one.
func TestClockDiffersFromTheReceivers(t *testing.T) {
	for _, ahead := range []time.Duration{-2 * time.Hour, -6 * time.Minute, 6 * time.Minute, 2 * time.Hour} {
		s, c := start(t)
		s.ahead = ahead
		p := client(t, c)
		for range 3 {
			if r := p.Push(within(t, 10*time.Second), call()); r.Reason != push.Accepted {
				t.Errorf("the receiver's clock is ahead by %v: %+v", ahead, r)
			}
		}
	}
}
