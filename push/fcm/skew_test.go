package fcm_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/push"
)

// Google refuses an assertion from the future or from long ago. Its own time is then
// used, until it is refused itself: a clock may be set right.
func TestClockDiffersFromGoogles(t *testing.T) {
	var by atomic.Int64
	_, c := start(t, fcmsim.Options{Clock: func() time.Time { return time.Now().Add(time.Duration(by.Load())) }})
	for _, theirs := range []time.Duration{0, -41 * time.Second, 41 * time.Second, -26 * time.Hour, 26 * time.Hour, -12 * time.Second, 0} {
		by.Store(int64(theirs))
		p := client(t, c) // without an access token
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
			t.Errorf("Google's clock differs by %v: %+v", theirs, r)
		}
	}
}
