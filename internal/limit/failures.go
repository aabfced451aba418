package limit

import "sync"

// maxFailures is the most keys that Failures counts at a time.
const maxFailures = 100_000

// Failures counts consecutive failures, by key. It counts in the memory of this
// process, and resets all counts when there are too many keys: a limit is then reached
// later, never sooner. The zero Failures is ready for use. Safe for concurrent use.
type Failures[K comparable] struct {
	mu     sync.Mutex
	counts map[K]int
}

// Add counts a failure and reports whether it was the limit-th in a row. If it was, the
// count of the key is reset. A limit of 0 is never reached.
func (f *Failures[K]) Add(key K, limit int) bool {
	if limit <= 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil || len(f.counts) >= maxFailures {
		f.counts = make(map[K]int)
	}
	f.counts[key]++
	if f.counts[key] < limit {
		return false
	}
	delete(f.counts, key)
	return true
}

// Forget resets the count of each key.
func (f *Failures[K]) Forget(keys ...K) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range keys {
		delete(f.counts, k)
	}
}
