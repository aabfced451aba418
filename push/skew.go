package push

import (
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// leastSkew is the smallest difference that counts. Whole seconds in the Date header
// and a slow answer can cause a smaller one between equal clocks.
const leastSkew = 5 * time.Second

// skewEvery is the minimum time between two log lines of one Clocks.
const skewEvery = 10 * time.Minute

// Clocks are the clocks of an app's services. They share one log line every ten
// minutes, because an untrusted party may run such a service. Safe for concurrent
// use.
type Clocks struct {
	log *slog.Logger
	app string

	mu      sync.Mutex
	said    time.Time
	dropped int
}

// NewClocks returns an empty Clocks. The log names the app.
func NewClocks(log *slog.Logger, app string) *Clocks { return &Clocks{log: log, app: app} }

// Skew returns a Skew that trusts our clock. The log names the host.
func (c *Clocks) Skew(host string) *Skew { return &Skew{clocks: c, host: host} }

// NewSkew returns a Skew for an app with a single service at the address. The log
// names its host.
func NewSkew(log *slog.Logger, app, address string) *Skew {
	host := ""
	if u, err := url.Parse(address); err == nil {
		host = u.Host
	}
	return NewClocks(log, app).Skew(host)
}

func (c *Clocks) warn(host string, by time.Duration, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.said.IsZero() && now.Sub(c.said).Abs() < skewEvery {
		c.dropped++
		return
	}
	dropped := c.dropped
	c.said, c.dropped = now, 0
	c.log.Warn("clock differs from that of the push service, whose time is used for credentials: set this machine's clock by NTP, unless the service's is wrong",
		"app", c.app, "host", host, "service_ahead_by", by.Round(time.Second), "dropped", dropped)
}

// Skew is the difference between a push service's clock and ours, for credentials
// that contain a time. It is learned only from answers that refuse a credential: an
// accepted one needs no correction, and a wrong correction shows in the next refusal.
// Safe for concurrent use.
type Skew struct {
	clocks *Clocks
	host   string
	by     atomic.Int64 // a time.Duration
}

// By returns how far the service's clock is ahead of ours.
func (s *Skew) By() time.Duration { return time.Duration(s.by.Load()) }

// At returns the service's time when ours is now.
func (s *Skew) At(now time.Time) time.Time { return now.Add(s.By()) }

// Learn takes the service's time from the Date header (RFC 9110 section 6.6.1) of an
// answer that refused a credential, received at our time now. It reports whether the
// service's time differs from what At returned, so that a new credential may be
// accepted.
func (s *Skew) Learn(date string, now time.Time) bool {
	at, err := http.ParseTime(date)
	if err != nil || at.Sub(s.At(now)).Abs() < leastSkew {
		return false
	}
	by := at.Sub(now)
	s.by.Store(int64(by))
	s.clocks.warn(s.host, by, now)
	return true
}
