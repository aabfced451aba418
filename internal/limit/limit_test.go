package limit

import (
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// count takes until the bucket is empty.
func count(b *Buckets[string], key string, r Rate, now time.Time) int {
	for n := 0; ; n++ {
		if n > 10_000 || !b.Take(key, r, now) {
			return n
		}
	}
}

func TestTake(t *testing.T) {
	b, r := New[string](10), Per(time.Minute, 6)
	f := func(key string, after time.Duration, want int) {
		t.Helper()
		if n := count(b, key, r, start.Add(after)); n != want {
			t.Errorf("%s after %s: %d tokens, want %d", key, after, n, want)
		}
	}
	f("a", 0, 6)
	f("a", 9*time.Second, 0)
	f("b", 9*time.Second, 6) // another key has its own
	f("a", 10*time.Second, 1)
	f("a", 35*time.Second, 2)
	f("a", time.Hour, 6)   // no more than the burst is saved
	f("a", time.Second, 0) // a clock that goes back gives nothing
}

func TestOwe(t *testing.T) {
	r := Per(time.Second, 10)
	for after, want := range map[time.Duration]bool{8 * time.Second: false, 9 * time.Second: false, 9100 * time.Millisecond: true} {
		b := New[string](10)
		b.Owe("a", 50, r, start)
		b.Owe("a", 50, r, start)
		if b.Take("a", r, start.Add(after)) != want {
			t.Errorf("%s after 100 of 10 a second: %v", after, !want)
		}
	}
}

func TestNoLimit(t *testing.T) {
	b := New[string](1)
	for _, r := range []Rate{{}, Per(time.Second, 0), Per(time.Minute, -1)} {
		if n := count(b, "a", r, start); n != 10_001 || len(b.full) != 0 {
			t.Errorf("%+v: %d tokens, %d keys", r, n, len(b.full))
		}
	}
}

// A flood of keys neither costs more memory nor passes more than one bucket.
func TestMemoryIsBounded(t *testing.T) {
	b, r := New[int](100), Per(time.Minute, 5)
	passed := 0
	for k := range 100_000 {
		if b.Take(k, r, start) {
			passed++
		}
	}
	if len(b.full) != 100 || passed != 105 {
		t.Errorf("%d keys have a bucket, %d passed", len(b.full), passed)
	}
	if !b.Take(1, r, start) {
		t.Error("a key that was there before the flood is refused")
	}
	// Once the buckets are full again, others get their place.
	later := start.Add(time.Minute)
	if !b.Take(200_000, r, later) || len(b.full) != 1 {
		t.Errorf("%d keys have a bucket a minute later", len(b.full))
	}
}

func BenchmarkTake(b *testing.B) {
	l, r := New[string](1000), Per(time.Second, 1_000_000_000)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			l.Take("192.0.2.1", r, time.Now())
		}
	})
}
