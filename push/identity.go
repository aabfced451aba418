package push

import (
	"math"
	"strconv"
	"time"
)

// Identity identifies a push: all its tries share these fields, and no two pushes
// have the same deadline to the nanosecond.
func (n *Notification) Identity() string {
	const most = 32 // characters
	return Fingerprint(string(n.Kind), string(n.Service), n.Token.Reveal(), n.CollapseID,
		strconv.FormatInt(n.Deadline.UnixNano(), 10), string(n.Payload))[:most]
}

// SecondsLeft returns the time until the deadline in seconds, rounded up. It is zero
// if the deadline has passed or there is none.
func (n *Notification) SecondsLeft(now time.Time) int64 {
	if n.Deadline.IsZero() {
		return 0
	}
	return int64(math.Ceil(max(0, n.Deadline.Sub(now).Seconds())))
}
