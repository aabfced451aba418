package push

import (
	"crypto/tls"
	"sync/atomic"
	"time"
)

// Chain notes until when CAs vouch for a service, as its last handshake showed it. The
// service renews its own certificate; a CA that ends, or is no longer trusted, cuts off
// whoever does not know the next one. Safe for concurrent use.
type Chain struct{ ends atomic.Int64 }

// Watch has c note the handshakes that are made with config.
func (c *Chain) Watch(config *tls.Config) { config.VerifyConnection = c.note }

// Ends is when the first of the CAs ends; zero before the first handshake.
func (c *Chain) Ends() time.Time {
	if c == nil || c.ends.Load() == 0 {
		return time.Time{}
	}
	return time.Unix(c.ends.Load(), 0)
}

// note takes the chain that lasts longest: one is enough to be trusted.
func (c *Chain) note(state tls.ConnectionState) error {
	var longest time.Time
	for _, chain := range state.VerifiedChains {
		var first time.Time
		for i, cert := range chain {
			if i == 0 && len(chain) > 1 { // the service's own
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
