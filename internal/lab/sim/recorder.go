package sim

import (
	"sync"
	"sync/atomic"
)

// Recorder keeps the last pushes and counts all pushes. Safe for concurrent use.
type Recorder[P any] struct {
	// Most is how many pushes are kept. Set it before the first Add.
	Most int

	accepted, refused atomic.Uint64

	mu   sync.Mutex
	ring []P
	next int
}

// Add records a push and whether it was accepted.
func (r *Recorder[P]) Add(p P, accepted bool) {
	if accepted {
		r.accepted.Add(1)
	} else {
		r.refused.Add(1)
	}
	if r.Most <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < r.Most {
		r.ring = append(r.ring, p)
		return
	}
	r.ring[r.next] = p
	r.next = (r.next + 1) % r.Most
}

// Last returns the last pushes, the oldest first.
func (r *Recorder[P]) Last() []P {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append([]P(nil), r.ring[r.next:]...), r.ring[:r.next]...)
}

// Counts returns how many pushes were accepted and refused.
func (r *Recorder[P]) Counts() (accepted, refused uint64) {
	return r.accepted.Load(), r.refused.Load()
}
