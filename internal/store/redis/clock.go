package redis

import (
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// clock translates between the time of this machine and that of Redis, in which the
// times of wakes are stored: instances whose clocks differ, or are set while a call is
// held, understand the same. It goes by the monotonic clock from the last time that
// Redis told its own; before the first it translates nothing. Safe for concurrent use.
type clock struct{ last atomic.Pointer[told] }

// told is one moment in both times. here has a monotonic reading.
type told struct{ here, there time.Time }

// surely is how long Redis may have taken to tell its time: by half of that the
// translation may be wrong.
const surely = 500 * time.Millisecond

// set takes what Redis answered to a question that was asked at the time.
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

// fromRedis returns a time with a monotonic reading: it stays right when this machine's
// clock is set.
func (c *clock) fromRedis(t time.Time) time.Time {
	if l := c.last.Load(); l != nil {
		return l.here.Add(t.Sub(l.there))
	}
	return t
}

// appendWake is store.AppendWake, in Redis' time.
func (s *Store) appendWake(dst []byte, w wake.Wake) ([]byte, error) {
	w.StartedAt, w.Deadline = s.clock.toRedis(w.StartedAt), s.clock.toRedis(w.Deadline)
	return store.AppendWake(dst, &w)
}

// decodeWake is store.DecodeWake, from Redis' time.
func (s *Store) decodeWake(aor string, v []byte) (wake.Wake, error) {
	w, err := store.DecodeWake(aor, v)
	w.StartedAt, w.Deadline = s.clock.fromRedis(w.StartedAt), s.clock.fromRedis(w.Deadline)
	return w, err
}
