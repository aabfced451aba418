package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/upper"
)

// Upper returns the n-th registration at a PBX, due now.
func Upper(n int) upper.Registration {
	now := time.Now().UTC().Truncate(time.Microsecond)
	user := fmt.Sprintf("user%06d", n)
	return upper.Registration{AOR: user + "@example.com", Node: "edge1", Server: "sip:192.0.2.30:5060", Set: 2, Contact: "sip:x@192.0.2.10", URI: "sip:example.com",
		To: "sip:" + user + "@example.com", User: user, Realm: "pbx", Secret: []byte{0, 1, 0xff, byte(n)}, Granted: time.Hour,
		LastOK: now, Due: now, State: upper.StateFailed, Why: "no answer", Tries: 3, Silent: 2}
}

// upperIs checks the stored registration except for its stamp, which it returns.
func (f fixture) upperIs(s Store, want upper.Registration) upper.Registration {
	f.t.Helper()
	got, ok, err := s.Upper(f.ctx(), want.AOR)
	if err != nil || !ok {
		f.t.Fatalf("no registration: %v", err)
	}
	want.Stamp = got.Stamp
	f.equal(got, want)
	return got
}

func (f fixture) dueUppers(s Store, now time.Time, lease time.Duration, limit int) []upper.Registration {
	f.t.Helper()
	list, err := s.DueUppers(f.ctx(), now, lease, limit)
	return must(f.t, list, err)
}

func testUpper(t *testing.T, s Store) {
	f := fixture{t, s}
	u := Upper(1)
	if _, ok, err := s.Upper(f.ctx(), u.AOR); ok || err != nil {
		t.Fatalf("there is one already: %v", err)
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(s.RemoveUpper(f.ctx(), u.AOR))
	ok(s.PutUpper(f.ctx(), u))
	read := f.upperIs(s, u)

	// A writer that has read an older value does not overwrite a newer one.
	u.Tries, u.State, u.Why = 0, upper.StateOK, ""
	ok(s.PutUpper(f.ctx(), u))
	newer := f.upperIs(s, u)
	read.Why = "old news"
	if err := s.PutUpper(f.ctx(), read); !errors.Is(err, upper.ErrChanged) {
		t.Errorf("an older registration was stored: %v", err)
	}
	f.upperIs(s, u)
	newer.Granted = 2 * time.Hour
	ok(s.PutUpper(f.ctx(), newer))
	f.upperIs(s, newer)

	for n := range 25 {
		ok(s.PutUpper(f.ctx(), Upper(n)))
	}
	seen := map[string]bool{}
	for cursor := ""; ; {
		list, next, err := s.Uppers(f.ctx(), cursor, 10)
		ok(err)
		for _, u := range list {
			seen[u.AOR] = true
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d registrations are listed, want 25", len(seen))
	}

	ok(s.RemoveUpper(f.ctx(), u.AOR))
	if _, ok, err := s.Upper(f.ctx(), u.AOR); ok || err != nil {
		t.Errorf("it is still there: %v", err)
	}
	if err := s.PutUpper(f.ctx(), newer); !errors.Is(err, upper.ErrChanged) {
		t.Errorf("one that was removed came back: %v", err)
	}
}

// testUpperDue: of many callers, exactly one gets each due registration, oldest first.
func testUpperDue(t *testing.T, s Store) {
	f := fixture{t, s}
	now := time.Now().UTC().Truncate(time.Microsecond)
	const many = 40
	for n := range many {
		u := Upper(n)
		u.Due = now.Add(-time.Duration(n) * time.Second)
		if n%2 == 1 {
			u.Due = now.Add(time.Hour)
		}
		if err := s.PutUpper(f.ctx(), u); err != nil {
			t.Fatal(err)
		}
	}
	list := f.dueUppers(s, now, time.Minute, 1)
	if len(list) != 1 || list[0].AOR != Upper(many-2).AOR || !list[0].Due.Equal(now.Add(time.Minute)) {
		t.Fatalf("due first: %+v", list)
	}
	var mu sync.Mutex
	got := map[string]int{list[0].AOR: 1}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				list, err := s.DueUppers(f.ctx(), now, time.Minute, 3)
				if err != nil || len(list) == 0 {
					return
				}
				mu.Lock()
				for _, u := range list {
					got[u.AOR]++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(got) != many/2 {
		t.Errorf("%d were due, want %d", len(got), many/2)
	}
	for aor, n := range got {
		if n != 1 {
			t.Errorf("%s was given to %d", aor, n)
		}
	}
	// The caller that got it may write it; if it does not, the registration is due again.
	list = f.dueUppers(s, now.Add(2*time.Minute), time.Minute, 100)
	if len(list) != many/2 {
		t.Fatalf("%d are due again, want %d", len(list), many/2)
	}
	list[0].Due = now.Add(time.Hour)
	if err := s.PutUpper(f.ctx(), list[0]); err != nil {
		t.Error(err)
	}
}
