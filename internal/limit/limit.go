// Package limit bounds what clients can use up: rates per key in bounded memory,
// such as requests per address or pushes per caller; connections; log lines.
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

// Per returns the Rate of n in the time d, with a burst of n; n <= 0 is no limit.
func Per(d time.Duration, n int) Rate {
	if n <= 0 {
		return Rate{}
	}
	return Rate{Every: max(1, d/time.Duration(n)), Burst: n}
}

// Buckets are token buckets, one a key. A key costs memory only while its bucket
// is not full. When there are too many such keys, further ones share one bucket,
// so that a flood of keys passes no more than one of them would. Safe for
// concurrent use.
type Buckets[K comparable] struct {
	mu    sync.Mutex
	max   int
	full  map[K]time.Time // when the key's bucket will be full again
	rest  time.Time       // the same of the bucket that further keys share
	sweep time.Time       // when looking for full buckets may pay again
}

// New returns Buckets for at most keys keys at a time.
func New[K comparable](keys int) *Buckets[K] {
	return &Buckets[K]{max: keys, full: make(map[K]time.Time)}
}

// sweepEvery bounds how often all keys are looked through.
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
		full = b.rest
	}
	return full.Sub(now) <= r.Every*time.Duration(r.Burst-1)
}

// Owe takes n tokens, whether or not they are there: what is missing has to be
// made up for before there is one to Take.
func (b *Buckets[K]) Owe(key K, n int, r Rate, now time.Time) {
	b.take(key, n, r, now, math.MaxInt64)
}

// take takes n tokens of a bucket that lacks at most so much.
func (b *Buckets[K]) take(key K, n int, r Rate, now time.Time, lacks time.Duration) bool {
	if r.Every <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	full, known := b.full[key]
	shared := !known && !b.room(now)
	if shared {
		full = b.rest
	}
	if full.Before(now) {
		full = now
	}
	if full.Sub(now) > lacks {
		return false
	}
	full = full.Add(r.Every * time.Duration(n))
	if shared {
		b.rest = full
	} else {
		b.full[key] = full
	}
	return true
}

// Len returns how many keys have a bucket of their own.
func (b *Buckets[K]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.full)
}

// room reports whether one more key can have a bucket, forgetting full ones if need
// be.
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
