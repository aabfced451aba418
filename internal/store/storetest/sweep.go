package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

func user(n int) string {
	// Include names with characters that are special in a key.
	switch n {
	case 0:
		return "}{50%7D*@example.com"
	case 1:
		return "%@example.com"
	}
	return fmt.Sprintf("user%d@example.com", n)
}

// scanUsers is enough users, with two devices each, for at least two batches.
const scanUsers = 600

func fillUsers(t *testing.T, s wake.Store) {
	t.Helper()
	parallel(t, 32, scanUsers, func(n int) error {
		for d := range 2 {
			if _, err := s.Register(context.Background(), Registration(user(n), 2*n+d)); err != nil {
				return err
			}
		}
		return nil
	})
}

// parallel calls f with 0 to n-1 concurrently and fails the test on an error.
func parallel(t *testing.T, workers, n int, f func(i int) error) {
	t.Helper()
	work := make(chan int)
	errs := make(chan error, workers)
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			for i := range work {
				if err := f(i); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	done.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
}

type key struct{ aor, device string }

// scan returns everything that Scan finds, and how many calls it made.
func (f fixture) scan(s Store) (seen map[key]wake.Binding, calls int) {
	f.t.Helper()
	seen = make(map[key]wake.Binding)
	err := s.Scan(f.ctx(), func(list []wake.Binding) error {
		calls++
		if len(list) == 0 {
			f.t.Error("an empty slice")
		}
		for _, b := range list {
			seen[key{b.AOR, b.Device}] = b
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return seen, calls
}

func testScan(t *testing.T, s Store) {
	f := fixture{t, s}
	if seen, calls := f.scan(s); len(seen)+calls != 0 {
		t.Errorf("an empty store: %d bindings in %d calls", len(seen), calls)
	}
	fillUsers(t, s)
	fresh := Registration(user(1), 2)
	fresh.CSeq, fresh.Contact = 4711, "sip:refreshed"
	f.status(fresh, wake.StatusRefreshed, 2)
	un := Registration(user(2), 4)
	un.Action = wake.ActionUnbind
	f.status(un, wake.StatusRemoved, 1)
	moved := Registration(user(3), 6)
	moved.Address.Tokens[0].Value = token64(1_000_000)
	f.status(moved, wake.StatusStored, 2)

	seen, calls := f.scan(s)
	if calls < 2 {
		t.Error("all at once")
	}
	f.equal(len(seen), 2*scanUsers-1)
	for n := range scanUsers {
		for _, b := range f.bindings(user(n)) {
			f.equal(seen[key{b.AOR, b.Device}], b)
		}
	}
	f.equal(seen[key{fresh.AOR, fresh.Device}].Contact, "sip:refreshed")
}

func testScanEnds(t *testing.T, s Store) {
	f := fixture{t, s}
	fillUsers(t, s)
	errStop := errors.New("stop")
	calls := 0
	err := s.Scan(f.ctx(), func([]wake.Binding) error { calls++; return errStop })
	if !errors.Is(err, errStop) || calls != 1 {
		t.Errorf("f failed: %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	calls = 0
	err = s.Scan(ctx, func([]wake.Binding) error { calls++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("cancelled: %v after %d calls", err, calls)
	}
}

// While f runs, all other operations continue, even on the bindings that f was just
// given. Scan misses no binding that stays.
func testScanStallsNobody(t *testing.T, s Store) {
	f := fixture{t, s}
	fillUsers(t, s)
	seen := make(map[key]bool)
	extra := 0
	err := s.Scan(f.ctx(), func(list []wake.Binding) error {
		for i, b := range list {
			seen[key{b.AOR, b.Device}] = true
			if i%100 != 0 {
				continue
			}
			extra++
			r := Registration(b.AOR, 1_000_000+extra)
			if got := f.register(r); got.Status != wake.StatusStored {
				return fmt.Errorf("register: %s", got.Status)
			}
			if got := f.start(newWake(b.AOR, fmt.Sprint(extra))); len(got.Bindings) < 3 {
				return fmt.Errorf("start: %d bindings", len(got.Bindings))
			}
			r.Action = wake.ActionUnbind
			f.register(r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range scanUsers {
		for d := range 2 {
			if r := Registration(user(n), 2*n+d); !seen[key{r.AOR, r.Device}] {
				t.Fatalf("%s was missed", r.AOR)
			}
		}
	}
}

func testScanRetention(t *testing.T, s Store) {
	f := fixture{t, s}
	f.register(Registration("bob@example.com", 1))
	old := Registration(aor, 2)
	old.RegisteredAt = old.RegisteredAt.Add(-2 * time.Hour)
	f.register(old)
	seen, _ := f.scan(s)
	f.equal(len(seen), 1)
}

func (f fixture) claim(s Store, key string, ttl time.Duration) bool {
	f.t.Helper()
	ok, err := s.Claim(f.ctx(), key, ttl)
	return must(f.t, ok, err)
}

func testClaim(t *testing.T, s Store) {
	f := fixture{t, s}
	odd := "refresh:{}%\x00 alice@example.com"
	for _, key := range []string{"a", "b", odd} {
		f.equal(f.claim(s, key, time.Hour), true)
		f.equal(f.claim(s, key, time.Hour), false)
	}
	f.equal(f.claim(s, "short", time.Microsecond), true)
	for end := time.Now().Add(20 * time.Second); !f.claim(s, "short", time.Hour); {
		if time.Now().After(end) {
			t.Fatal("a claim does not end")
		}
	}
	f.equal(f.claim(s, "short", time.Hour), false)
	f.equal(f.claim(s, "a", time.Hour), false)
	for range 2 { // an end that is not there is none
		f.equal(s.Release(f.ctx(), odd), error(nil))
	}
	f.equal(f.claim(s, odd, time.Hour), true)
	f.equal(f.claim(s, odd, time.Hour), false)
	f.equal(f.claim(s, "b", time.Hour), false)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Release(ctx, "a"); err == nil {
		t.Error("released with a context that has ended")
	}
	for name, claim := range map[string]func() (bool, error){
		"no key":    func() (bool, error) { return s.Claim(f.ctx(), "", time.Hour) },
		"no time":   func() (bool, error) { return s.Claim(f.ctx(), "c", 0) },
		"cancelled": func() (bool, error) { return s.Claim(ctx, "c", time.Hour) },
	} {
		if ok, err := claim(); err == nil || ok {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
}

// If many claim a key, exactly one gets it.
func testClaimRace(t *testing.T, instances ...Store) {
	const keys, callers = 50, 8
	var mu sync.Mutex
	granted := make(map[string]int)
	parallel(t, 16, keys*callers, func(i int) error {
		key := fmt.Sprint("race", i/callers)
		ok, err := instances[i%len(instances)].Claim(context.Background(), key, time.Hour)
		if ok {
			mu.Lock()
			granted[key]++
			mu.Unlock()
		}
		return err
	})
	for i := range keys {
		if n := granted[fmt.Sprint("race", i)]; n != 1 {
			t.Errorf("key %d was granted %d times", i, n)
		}
	}
}
