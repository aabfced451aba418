package fallback_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/fallback"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// notedStore notes REGISTERs, which it refuses while it is away.
type notedStore struct {
	wake.Store
	mu    sync.Mutex
	away  bool
	noted map[string]wake.Registration
}

func (s *notedStore) Register(_ context.Context, r wake.Registration) (wake.Registered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return wake.Registered{}, wake.ErrUnavailable
	}
	if r.Value != nil { // it is valid only here
		b, err := store.DecodeBinding(r.AOR, r.Device, r.Value)
		if err != nil {
			return wake.Registered{}, err
		}
		if r.Value = nil; !cmp.Equal(inMicroseconds(b), inMicroseconds(r.Binding), secrets) {
			return wake.Registered{}, errors.New("the encoded value is another: " + cmp.Diff(b, r.Binding, secrets))
		}
	}
	s.noted[r.AOR] = r
	return wake.Registered{Status: wake.StatusStored, Devices: 1}, nil
}

var secrets = cmp.Comparer(func(a, b secret.Token) bool { return a == b })

func inMicroseconds(b wake.Binding) wake.Binding {
	for _, t := range []*time.Time{&b.RegisteredAt, &b.CreatedAt, &b.ExpiresAt} {
		*t = t.UTC().Truncate(time.Microsecond)
	}
	return b
}

// A binding is encoded once, for the store and for what is kept here. What is kept while
// the store is away is not what came after it, although nobody has waited for the disk.
func TestEncodedOnce(t *testing.T) {
	inner := &notedStore{noted: make(map[string]wake.Registration)}
	s, err := fallback.New(fallback.Config{Spool: t.TempDir()}, inner, func(context.Context) error { return nil },
		slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	all := make(map[string]wake.Registration)
	register := func(ctx context.Context, n int) error {
		r := storetest.Registration(fmt.Sprintf("user%d@example.com", n), n)
		r.Contact += fmt.Sprint(";x=", n)
		all[r.AOR] = r
		_, err := s.Register(ctx, r)
		return err
	}
	if err := register(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	inner.away = true
	late, cancel := context.WithDeadline(context.Background(), time.Now())
	defer cancel()
	for n := range 200 {
		unavailable(t, "away", register(late, n+1))
	}
	inner.mu.Lock()
	inner.away = false
	inner.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx, func(context.Context, wake.Registration, wake.Registered) {})
	}()
	defer func() { stop(); <-done }()
	count := func() int {
		inner.mu.Lock()
		defer inner.mu.Unlock()
		return len(inner.noted)
	}
	eventually(t, "all are replayed", func() bool { return count() == len(all) })
	for aor, want := range all {
		if got := inner.noted[aor]; !cmp.Equal(inMicroseconds(got.Binding), inMicroseconds(want.Binding), secrets) {
			t.Errorf("%s: %s", aor, cmp.Diff(want.Binding, got.Binding, secrets))
		}
	}
}
