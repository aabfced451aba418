package push

import (
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// leastSkew is the difference between two clocks that is more than the Date
// header's whole seconds and a slow answer make of none.
const leastSkew = 5 * time.Second

// skewEvery is the least time between two lines of one Clocks.
const skewEvery = 10 * time.Minute

// Clocks are those of the services of an app, which share a line in the log every ten
// minutes: a stranger may run such a service. Safe for concurrent use.
type Clocks struct {
	log *slog.Logger
	app string

	mu      sync.Mutex
	said    time.Time
	dropped int
}

// NewClocks returns Clocks without any. The app is named in the log.
func NewClocks(log *slog.Logger, app string) *Clocks { return &Clocks{log: log, app: app} }

// Skew returns one that trusts our clock. The host is named in the log.
func (c *Clocks) Skew(host string) *Skew { return &Skew{clocks: c, host: host} }

// NewSkew makes one for an app whose one service has that address; its host is named in
// the log.
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

// Skew is how much the clock of a push service differs from ours, for credentials
// that name a time. It is learned from answers that refuse a credential, and from no
// others: one that is taken needs no correction, and a correction that has become
// wrong shows in the next refusal. Safe for concurrent use.
type Skew struct {
	clocks *Clocks
	host   string
	by     atomic.Int64 // a time.Duration
}

// By is how much the service's clock is ahead of ours.
func (s *Skew) By() time.Duration { return time.Duration(s.by.Load()) }

// At is the service's time when ours is now.
func (s *Skew) At(now time.Time) time.Time { return now.Add(s.By()) }

// Learn takes the service's time from the Date header (RFC 9110 section 6.6.1) of an
// answer that refused a credential; our time is now. It reports whether the service's
// time is another than At gave, so that a new credential may be taken.
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
