package push

import (
	"crypto/tls"
	"sync/atomic"
	"time"
)

// Chain records how long the CAs of a service's certificate are valid, as seen in the
// last TLS handshake. The service renews its own certificate; but when a CA expires
// or loses trust, clients that do not know the next one are cut off. Safe for
// concurrent use.
type Chain struct{ ends atomic.Int64 }

// Watch makes c record the handshakes made with config.
func (c *Chain) Watch(config *tls.Config) { config.VerifyConnection = c.note }

// Ends returns when the first of the CAs expires. It is zero before the first
// handshake.
func (c *Chain) Ends() time.Time {
	if c == nil || c.ends.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(c.ends.Load(), 0)
}

// note uses the chain that is valid longest, since one trusted chain is enough.
func (c *Chain) note(state tls.ConnectionState) error {
	var longest time.Time
	for _, chain := range state.VerifiedChains {
		var first time.Time
		for i, cert := range chain {
			if i == 0 && len(chain) > 1 { // the service's own certificate
				continue
			}
			if first.IsZero() || cert.NotAfter.Before(first) {
				first = cert.NotAfter
			}
		}
		if first.After(longest) {
			longest = first
		}
	}
	if !longest.IsZero() {
		c.ends.Store(longest.Unix())
	}
	return nil
}
