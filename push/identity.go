package push

import (
	"math"
	"strconv"
	"time"
)

// Identity names a push: the tries of one have all of this in common, and no two have
// the same deadline to the nanosecond.
func (n *Notification) Identity() string {
	const most = 32 // characters
	return Fingerprint(string(n.Kind), string(n.Service), n.Token.Reveal(), n.CollapseID,
		strconv.FormatInt(n.Deadline.UnixNano(), 10), string(n.Payload))[:most]
}

// SecondsLeft is until the deadline, rounded up; zero if it is over, or there is none.
func (n *Notification) SecondsLeft(now time.Time) int64 {
	if n.Deadline.IsZero() {
		return 0
	}
	return int64(math.Ceil(max(0, n.Deadline.Sub(now).Seconds())))
}
