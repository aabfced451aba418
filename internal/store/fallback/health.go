package fallback

import (
	"sync/atomic"
	"time"
)

const (
	// The store counts as away after downAfter failures in a row over downFor. A
	// single late answer or the loss of one server of a cluster is not enough.
	downAfter = 3
	downFor   = 500 * time.Millisecond
	// tryEvery is how often a request is sent to a store that is away. Other
	// requests fail at once.
	tryEvery = 500 * time.Millisecond
)

// health reports whether the store is worth asking.
type health struct {
	failures atomic.Int64 // in a row
	since    atomic.Int64 // of the first of them, in Unix nanoseconds
	next     atomic.Int64 // when the next request is sent although the store is away
	down     atomic.Bool
}

// allow reports whether to send a request to the store.
func (h *health) allow() bool {
	if !h.down.Load() {
		return true
	}
	now, next := time.Now().UnixNano(), h.next.Load()
	return now >= next && h.next.CompareAndSwap(next, now+int64(tryEvery))
}

// ok records an answer. It returns true if the store was away until now.
func (h *health) ok() bool {
	if h.failures.Load() == 0 {
		return false
	}
	h.failures.Store(0)
	return h.down.CompareAndSwap(true, false)
}

// failed records that the store did not answer. It returns true if the store counts as
// away from now on.
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
