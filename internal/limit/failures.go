package limit

import "sync"

// maxFailures is how many keys Failures counts for at once.
const maxFailures = 100_000

// Failures counts failures in a row, by key. It holds what this process has seen
// since it started, and begins anew when it has counted too many keys: a limit is
// then reached later, never sooner. The zero Failures is ready. Safe for
// concurrent use.
type Failures[K comparable] struct {
	mu     sync.Mutex
	counts map[K]int
}

// Add counts a failure and reports whether that was the limit-th in a row; then
// the count begins anew. A limit of 0 is never reached.
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

// Forget ends the row of each key.
func (f *Failures[K]) Forget(keys ...K) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range keys {
		delete(f.counts, k)
	}
}
