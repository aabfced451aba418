package push

import (
	"strconv"
)

// Identity names a push: the tries of one have all of this in common, and no two have
// the same deadline to the nanosecond.
func (n *Notification) Identity() string {
	const most = 32 // characters
	return Fingerprint(string(n.Kind), string(n.Service), n.Token.Reveal(), n.CollapseID,
		strconv.FormatInt(n.Deadline.UnixNano(), 10), string(n.Payload))[:most]
}
