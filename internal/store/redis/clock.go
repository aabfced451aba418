package redis

import (
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// clock converts between this machine's time and Redis' time. Wakes are stored in Redis'
// time, so that instances agree even if their clocks differ or are set while a call is
// held. It uses the monotonic clock since the last time that Redis reported; before
// the first report it converts nothing. It is safe for concurrent use.
type clock struct{ last atomic.Pointer[told] }

// told is one instant in both times. here has a monotonic reading.
type told struct{ here, there time.Time }

// surely is how long Redis may take to report its time. The conversion can be off by
// half of that.
const surely = 500 * time.Millisecond

// set records Redis' time there, in answer to a request sent at the time asked.
func (c *clock) set(asked, there time.Time) {
	took := time.Since(asked)
	if took > surely && c.last.Load() != nil {
		return
	}
	c.last.Store(&told{asked.Add(took / 2), there})
}

func (c *clock) toRedis(t time.Time) time.Time {
	if l := c.last.Load(); l != nil {
		return l.there.Add(t.Sub(l.here))
	}
	return t
}

// fromRedis returns a time with a monotonic reading, which stays right when this
// machine's clock is set.
func (c *clock) fromRedis(t time.Time) time.Time {
	if l := c.last.Load(); l != nil {
		return l.here.Add(t.Sub(l.there))
	}
	return t
}

// appendWake is store.AppendWake with times converted to Redis' time.
func (s *Store) appendWake(dst []byte, w wake.Wake) ([]byte, error) {
	w.StartedAt, w.Deadline = s.clock.toRedis(w.StartedAt), s.clock.toRedis(w.Deadline)
	return store.AppendWake(dst, &w)
}

// decodeWake is store.DecodeWake with times converted from Redis' time.
func (s *Store) decodeWake(aor string, v []byte) (wake.Wake, error) {
	w, err := store.DecodeWake(aor, v)
	w.StartedAt, w.Deadline = s.clock.fromRedis(w.StartedAt), s.clock.fromRedis(w.Deadline)
	return w, err
}
