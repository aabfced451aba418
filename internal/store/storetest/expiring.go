package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// expire returns the devices that Expiring returns. It first calls f with each.
func (f fixture) expire(s Store, by time.Time, next func(wake.Binding) (time.Time, error)) (devices map[string]int, err error) {
	f.t.Helper()
	devices = make(map[string]int)
	err = s.Expiring(f.ctx(), by, func(b wake.Binding) (time.Time, error) {
		devices[b.AOR+" "+b.Device]++
		return next(b)
	})
	return devices, err
}

func never(wake.Binding) (time.Time, error) { return time.Time{}, nil }

// expiring is a test of Expiring.
type expiring struct {
	fixture
	s   Store
	now time.Time
}

func newExpiring(t *testing.T, s Store) expiring {
	return expiring{fixture{t, s}, s, time.Now().UTC().Truncate(time.Microsecond)}
}

func (e expiring) ends(user string, n int, in time.Duration) wake.Registration {
	r := Registration(user, n)
	r.ExpiresAt = e.now.Add(in)
	return r
}

// want fails the test unless Expiring returns exactly those of the list.
func (e expiring) want(in time.Duration, next func(wake.Binding) (time.Time, error), list ...wake.Registration) {
	e.t.Helper()
	got, err := e.expire(e.s, e.now.Add(in), next)
	if err != nil {
		e.t.Fatal(err)
	}
	wanted := make(map[string]int)
	for _, r := range list {
		wanted[r.AOR+" "+r.Device] = 1
	}
	e.equal(got, wanted)
}

func testExpiring(t *testing.T, s Store) {
	e := newExpiring(t, s)
	was, wasLater := e.ends(user(0), 1, 5*time.Minute), e.ends(user(0), 2, time.Hour)
	e.register(was) // before the first use of Expiring
	e.register(wasLater)
	e.want(0, never)
	is, isLater := e.ends(user(1), 3, 6*time.Minute), e.ends(user(2), 4, time.Hour)
	e.register(is)
	e.register(isLater)
	asked := 0
	e.want(6*time.Minute, func(wake.Binding) (time.Time, error) { // a next time that is due is not due in this call
		if asked++; asked > 10 {
			return time.Time{}, errors.New("it asks again and again")
		}
		return e.now, nil
	}, was, is)
	errStop := errors.New("stop")
	_, err := e.expire(s, e.now.Add(10*time.Minute), func(wake.Binding) (time.Time, error) { return e.now.Add(time.Hour), errStop })
	if !errors.Is(err, errStop) {
		t.Errorf("f failed: %v", err)
	}
	e.want(10*time.Minute, func(b wake.Binding) (time.Time, error) {
		if b.Device == was.Device {
			return e.now.Add(20 * time.Minute), nil
		}
		e.register(e.ends(is.AOR, 3, 15*time.Minute)) // it registers meanwhile
		return time.Time{}, nil
	}, was, is)
	e.want(10*time.Minute, never)
	e.want(16*time.Minute, never, is)
	e.want(21*time.Minute, never, was)
	e.want(2*time.Hour, never, wasLater, isLater)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.register(e.ends(was.AOR, 1, 5*time.Hour))
	if err := s.Expiring(ctx, e.now.Add(6*time.Hour), never); err == nil {
		t.Error("its context has ended: no error")
	}
	late := e.ends(user(4), 7, 3*time.Hour)
	late.Late = true
	e.register(late)
	e.want(6*time.Hour, never, was, late)
}

// A binding whose registration was ended does not expire.
func testExpiringEnded(t *testing.T, s Store) {
	e := newExpiring(t, s)
	e.want(0, never)
	gone, ended, stays := e.ends(user(2), 5, 7*time.Minute), e.ends(user(2), 6, 8*time.Minute), e.ends(user(2), 7, 9*time.Minute)
	for _, r := range []wake.Registration{gone, ended, stays} {
		e.register(r)
	}
	gone.Action = wake.ActionUnbind
	e.register(gone)
	un := ended
	un.Gone, un.ExpiresAt = true, time.Time{}
	e.register(un)
	got, err := e.expire(s, e.now.Add(10*time.Minute), func(b wake.Binding) (time.Time, error) {
		if b.Device != stays.Device && !b.ExpiresAt.IsZero() {
			t.Errorf("%s ends at %v", b.Device, b.ExpiresAt)
		}
		return time.Time{}, nil
	})
	if err != nil || got[stays.AOR+" "+stays.Device] != 1 || got[gone.AOR+" "+gone.Device] != 0 {
		t.Errorf("handed out: %v, %v", got, err)
	}
	e.want(10*time.Minute, never)
}

// The cost of finding expiring bindings depends on their number, not on the number of
// other bindings. The test counts allocations, because reading a binding allocates.
func testExpiringFew(t *testing.T, s Store) {
	const all, due = 20_000, 10
	now := time.Now()
	parallel(t, 256, all, func(n int) error {
		r := Registration(fmt.Sprintf("user%d@example.com", n), n)
		if r.ExpiresAt = now.Add(time.Hour); n%(all/due) == 0 {
			r.ExpiresAt = now.Add(time.Minute)
		}
		_, err := s.Register(context.Background(), r)
		return err
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := s.Expiring(ctx, now, never); err != nil { // the first one reads all
		t.Fatal(err)
	}
	by, seen := now, 0
	objects := testing.AllocsPerRun(3, func() {
		by = by.Add(time.Minute)
		err := s.Expiring(ctx, by, func(wake.Binding) (time.Time, error) {
			seen++
			return by.Add(time.Second), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if seen != 4*due || objects > 5000 {
		t.Errorf("%d bindings in 4 looks, %d are due in each, with %.0f objects", seen, due, objects)
	}
}
