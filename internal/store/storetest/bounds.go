package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// Ends of calls that never existed do not affect a user: the oldest tombstones are
// dropped, and real calls continue.
func testEndsBounded(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	w := newWake(aor, "real")
	f.start(w)
	ended := func(n int) wake.Wake { return newWake(aor, fmt.Sprint("never", n)) }
	const flood = 10_000
	parallel(t, 32, flood, func(n int) error {
		_, err := s.End(f.ctx(), aor, "edge-1", ended(n).Call)
		return err
	})
	again := ended(flood)
	f.end(again)
	for n := 1; n < store.MaxTombs; n++ {
		f.end(ended(flood + n))
	}
	f.equal(f.register(Registration(aor, 1)).Wakes, []wake.Wake{w})
	for n := range store.MaxTombs {
		if got := f.start(ended(flood + n)); !got.Ended {
			t.Fatalf("the tombstone before the last %d is forgotten", store.MaxTombs-1-n)
		}
	}
	// A tombstone that is set again counts as new.
	f.end(again)
	f.end(ended(2 * flood))
	if !f.start(again).Ended {
		t.Error("a tombstone that was renewed is forgotten")
	}
	if f.start(ended(flood + 1)).Ended {
		t.Error("the oldest tombstone is kept")
	}
	f.equal(f.end(w), wake.Ended{Known: true, Wake: w})
}

// The number of remembered phones without push is bounded: the last ones are kept.
func testRecentBounded(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	const many = 500
	parallel(t, 32, many, func(n int) error {
		r := seen(aor, n)
		if n%2 == 0 {
			r.Device = ""
		}
		_, err := s.Register(f.ctx(), r)
		return err
	})
	for n := range store.MaxRecent {
		f.status(seen(aor, many+n), wake.StatusNone, 0)
	}
	again := seen(aor, many)
	again.CSeq++
	f.status(again, wake.StatusNone, 0) // the newest from now on
	f.status(seen(aor, many+store.MaxRecent), wake.StatusNone, 0)
	got := f.start(newWake(aor, "1"))
	want := make(map[string]bool)
	for n := range store.MaxRecent + 1 {
		want[seen(aor, many+n).Device] = n != 1
	}
	if len(got.Recent) != store.MaxRecent {
		t.Errorf("%d registrations are remembered, want %d", len(got.Recent), store.MaxRecent)
	}
	for _, r := range got.Recent {
		if !want[r.Device] {
			t.Errorf("%s is remembered, want the last ones", r.Device)
		}
	}
}

// Wakes past their deadline make room for new ones, the oldest first. Until then they
// are kept.
func testWakesBounded(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	rings := func(n int) wake.Wake {
		w := newWake(aor, fmt.Sprint("rings", n))
		w.StartedAt = w.StartedAt.Add(-time.Minute).Add(time.Duration(n) * time.Millisecond)
		w.Deadline = w.StartedAt.Add(time.Second)
		return w
	}
	var all []wake.Wake
	for n := range store.MaxWakes {
		all = append(all, rings(n))
		f.start(all[n])
	}
	// Both kinds together stay within the limit.
	for n := range store.MaxWakes / 2 {
		if f.start(newWake(aor, fmt.Sprint("new", n))).Full {
			t.Fatalf("full with %d new wakes", n)
		}
	}
	for n, w := range all {
		if got := f.end(w).Known; got != (n >= store.MaxWakes/2) {
			t.Errorf("wake %d past its deadline: known %t", n, got)
		}
	}
	for n := store.MaxWakes / 2; n < store.MaxWakes; n++ {
		if f.start(newWake(aor, fmt.Sprint("new", n))).Full {
			t.Fatalf("full with %d new wakes", n)
		}
	}
	if !f.start(newWake(aor, "more")).Full {
		t.Error("not full")
	}
}
