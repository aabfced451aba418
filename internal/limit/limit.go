// Package limit limits what clients can use up: rates by key in bounded memory, such
// as requests by address or pushes by caller; connections; log lines.
package limit

import (
	"math"
	"sync"
	"time"
)

// Rate allows Burst at once, and one more after each Every. The zero Rate has no
// limit.
type Rate struct {
	Every time.Duration
	Burst int
}

// Per returns the Rate of n in the time d, with a burst of n. If n <= 0 there is no
// limit.
func Per(d time.Duration, n int) Rate {
	if n <= 0 {
		return Rate{}
	}
	return Rate{Every: max(1, d/time.Duration(n)), Burst: n}
}

// Buckets are token buckets, one for each key. A key uses memory only while its bucket
// is not full. If there are too many such keys, further keys share one bucket, so that
// a flood of keys gets no more than one key would. Safe for concurrent use.
type Buckets[K comparable] struct {
	mu    sync.Mutex
	max   int
	full  map[K]time.Time // when the key's bucket will be full again
	extra time.Time       // when the bucket that further keys share will be full again
	sweep time.Time       // no search for full buckets before then
}

// New returns Buckets for up to keys keys at a time.
func New[K comparable](keys int) *Buckets[K] {
	return &Buckets[K]{max: keys, full: make(map[K]time.Time)}
}

// sweepEvery is the shortest time between two searches for full buckets.
const sweepEvery = time.Second

// Take takes a token of the key's bucket and reports whether there was one. The
// rate may change from call to call.
func (b *Buckets[K]) Take(key K, r Rate, now time.Time) bool {
	return b.take(key, 1, r, now, r.Every*time.Duration(r.Burst-1))
}

// Has reports whether Take would find a token, without taking it.
func (b *Buckets[K]) Has(key K, r Rate, now time.Time) bool {
	if r.Every <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	full, known := b.full[key]
	if !known && !b.room(now) {
		full = b.extra
	}
	return full.Sub(now) <= r.Every*time.Duration(r.Burst-1)
}

// Owe takes n tokens even if the bucket has fewer. Take finds a token again only when
// the missing ones have been refilled.
func (b *Buckets[K]) Owe(key K, n int, r Rate, now time.Time) {
	b.take(key, n, r, now, math.MaxInt64)
}

// take takes n tokens from a bucket unless it needs more time than lacks to be full.
func (b *Buckets[K]) take(key K, n int, r Rate, now time.Time, lacks time.Duration) bool {
	if r.Every <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	full, known := b.full[key]
	shared := !known && !b.room(now)
	if shared {
		full = b.extra
	}
	if full.Before(now) {
		full = now
	}
	if full.Sub(now) > lacks {
		return false
	}
	full = full.Add(r.Every * time.Duration(n))
	if shared {
		b.extra = full
	} else {
		b.full[key] = full
	}
	return true
}

// room reports whether there is room for the bucket of one more key. If necessary it
// removes full buckets first.
func (b *Buckets[K]) room(now time.Time) bool {
	if len(b.full) < b.max {
		return true
	}
	if now.Before(b.sweep) {
		return false
	}
	b.sweep = now.Add(sweepEvery)
	for k, full := range b.full {
		if !full.After(now) {
			delete(b.full, k)
		}
	}
	return len(b.full) < b.max
}
