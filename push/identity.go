package push

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Identity names a push: the tries of one have all of this in common, and no two have
// the same deadline to the nanosecond.
func (n *Notification) Identity() string {
	sum := sha256.New()
	for _, part := range []string{
		string(n.Kind), string(n.Service), n.Token.Reveal(), n.CollapseID, strconv.FormatInt(n.Deadline.UnixNano(), 10), string(n.Payload),
	} {
		fmt.Fprintf(sum, "%d:%s,", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}
