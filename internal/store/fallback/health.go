package fallback

import (
	"sync/atomic"
	"time"
)

const (
	// downAfter failures in a row over downFor mean that the store is away: a
	// single late answer or one lost server of a cluster does not.
	downAfter = 3
	downFor   = 500 * time.Millisecond
	// tryEvery is how often a request is sent to a store that is away. Others are
	// answered at once.
	tryEvery = 500 * time.Millisecond
)

// health reports whether the store is worth asking.
type health struct {
	failures atomic.Int64 // in a row
	since    atomic.Int64 // of the first of them, in Unix nanoseconds
	next     atomic.Int64 // the next request that is sent nevertheless
	down     atomic.Bool
}

// allow reports whether a request is to be sent to the store.
func (h *health) allow() bool {
	if !h.down.Load() {
		return true
	}
	now, next := time.Now().UnixNano(), h.next.Load()
	return now >= next && h.next.CompareAndSwap(next, now+int64(tryEvery))
}

// ok notes an answer. It reports true when the store was away until now.
func (h *health) ok() bool {
	if h.failures.Load() == 0 {
		return false
	}
	h.failures.Store(0)
	return h.down.CompareAndSwap(true, false)
}

// failed notes that the store did not answer. It reports true when that makes it
// count as away.
func (h *health) failed() bool {
	now := time.Now().UnixNano()
	n := h.failures.Add(1)
	if n == 1 {
		h.since.Store(now)
		return false
	}
	if n < downAfter || now-h.since.Load() < int64(downFor) {
		return false
	}
	if !h.down.CompareAndSwap(false, true) {
		return false
	}
	h.next.Store(now + int64(tryEvery))
	return true
}

// failing reports whether the last request failed.
func (h *health) failing() bool { return h.failures.Load() > 0 }
