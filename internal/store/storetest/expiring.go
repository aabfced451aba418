package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// expire returns the devices that Expiring hands out, after f has seen each.
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

func testExpiring(t *testing.T, s Store) { //nolint:funlen // one story
	f := fixture{t, s}
	now := time.Now().UTC().Truncate(time.Microsecond)
	ends := func(user string, n int, in time.Duration) wake.Registration {
		r := Registration(user, n)
		r.ExpiresAt = now.Add(in)
		return r
	}
	want := func(what string, got map[string]int, err error, list ...wake.Registration) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		wanted := make(map[string]int)
		for _, r := range list {
			wanted[r.AOR+" "+r.Device] = 1
		}
		f.equal(got, wanted)
	}
	by := now.Add(10 * time.Minute)
	was, wasLater := ends(user(0), 1, 5*time.Minute), ends(user(0), 2, time.Hour)
	f.register(was) // before anybody asks
	f.register(wasLater)
	if got, err := f.expire(s, now, never); true {
		want("nothing", got, err)
	}
	is, isLater := ends(user(1), 3, 6*time.Minute), ends(user(2), 4, time.Hour)
	gone, ended := ends(user(2), 5, 7*time.Minute), ends(user(2), 6, 8*time.Minute)
	for _, r := range []wake.Registration{is, isLater, gone, ended} {
		f.register(r)
	}
	gone.Action = wake.ActionUnbind
	f.register(gone)
	un := ended
	un.Gone, un.ExpiresAt = true, time.Time{}
	f.register(un)
	errStop := errors.New("stop")
	if _, err := f.expire(s, by, func(wake.Binding) (time.Time, error) { return now.Add(time.Hour), errStop }); !errors.Is(err, errStop) {
		t.Errorf("f failed: %v", err)
	}
	got, err := f.expire(s, by, func(b wake.Binding) (time.Time, error) {
		switch b.Device {
		case was.Device:
			return now.Add(20 * time.Minute), nil
		case is.Device: // it registers meanwhile
			r := ends(is.AOR, 3, 15*time.Minute)
			f.register(r)
		}
		return time.Time{}, nil
	})
	delete(got, ended.AOR+" "+ended.Device) // it has no end, and may come nevertheless
	want("the first", got, err, was, is)
	got, err = f.expire(s, by, never)
	want("the same again", got, err)
	got, err = f.expire(s, now.Add(16*time.Minute), never)
	want("what has registered", got, err, is)
	got, err = f.expire(s, now.Add(21*time.Minute), never)
	want("what was to come again", got, err, was)
	got, err = f.expire(s, now.Add(2*time.Hour), never)
	want("the later ones", got, err, wasLater, isLater)
	f.register(ends(was.AOR, 1, 3*time.Hour))
	late := ends(user(4), 7, 3*time.Hour)
	late.Late = true
	f.register(late)
	got, err = f.expire(s, now.Add(4*time.Hour), never)
	want("what has registered again", got, err, was, late)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.register(ends(was.AOR, 1, 5*time.Hour))
	if err := s.Expiring(ctx, now.Add(6*time.Hour), never); err == nil {
		t.Error("its context has ended: no error")
	}
}

// To find those that expire costs what they are, however many others there are. What
// is counted is objects: whoever reads a binding makes some.
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
