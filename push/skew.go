package push

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// leastSkew is the difference between two clocks that is more than the Date
// header's whole seconds and a slow answer make of none.
const leastSkew = 5 * time.Second

// Skew is how much the clock of a push service differs from ours, for credentials
// that name a time. It is learned from answers that refuse a credential, and from no
// others: one that is taken needs no correction, and a correction that has become
// wrong shows in the next refusal. Safe for concurrent use.
type Skew struct {
	log *slog.Logger
	app string
	by  atomic.Int64 // a time.Duration
}

// NewSkew makes one that trusts our clock. The app is named in the log.
func NewSkew(log *slog.Logger, app string) *Skew { return &Skew{log: log, app: app} }

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
	s.log.Warn("clock differs from that of the push service, whose time is used for credentials", "app", s.app, "by", by.Round(time.Second))
	return true
}
