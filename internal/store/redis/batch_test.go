package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// silent is a Redis that does not answer, and a store that has sent it one command.
type silent struct {
	t      *testing.T
	server *storetest.Redis
	proxy  *proxy
	s      *redis.Store
	first  <-chan error
	writes int64                   // up to the command
	cancel context.CancelCauseFunc // of the command
}

func newSilent(t *testing.T, c redis.Config) *silent {
	server := storetest.NewRedis(t)
	p := newProxy(t, server.Addr)
	c.Addresses, c.Timeout = []string{p.addr}, time.Minute
	q := &silent{t: t, server: server, proxy: p, s: open(t, c)}
	register(t, q.s, storetest.Registration("dave@example.com", 4)) // connects, and sends the script
	server.Pause()
	t.Cleanup(server.Resume)
	q.writes = p.writes.Load()
	ctx, cancel := context.WithCancelCause(context.Background())
	q.cancel = cancel
	t.Cleanup(func() { cancel(nil) })
	q.first = q.asking(ctx)
	eventually(t, "the first command is on its way", func() bool { return p.writes.Load() > q.writes })
	q.writes++
	return q
}

func (q *silent) ask(ctx context.Context) error {
	_, err := q.s.Bindings(ctx, wake.Query{AOR: "alice@example.com"})
	return err
}

// answer returns what comes, or fails the test if nothing does.
func answer(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("no answer, and no error")
		return nil
	}
}

func (q *silent) asking(ctx context.Context) <-chan error {
	waiting := q.s.Waiting()
	done := make(chan error, 1)
	go func() { done <- q.ask(ctx) }()
	if q.first != nil {
		eventually(q.t, "a command waits", func() bool { return q.s.Waiting() > waiting })
	}
	return done
}

// What comes while Redis works on something goes to it in one write.
func TestBatch(t *testing.T) {
	q := newSilent(t, redis.Config{})
	all := []<-chan error{q.first}
	for range 20 {
		all = append(all, q.asking(context.Background()))
	}
	q.server.Resume()
	for _, done := range all {
		if err := answer(t, done); err != nil {
			t.Error(err)
		}
	}
	if n := q.proxy.writes.Load() - q.writes; n != 1 {
		t.Errorf("20 commands took %d writes, want 1", n)
	}
}

// Whoever gives up returns, whether his command is on its way or waits, and Redis'
// answer to it goes to nobody else.
func TestBatchGivenUp(t *testing.T) {
	q := newSilent(t, redis.Config{})
	cause := errors.New("hung up")
	ctx, cancel := context.WithCancelCause(context.Background())
	late, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	waits, patient := q.asking(ctx), q.asking(context.Background())
	cancel(cause)
	q.cancel(cause)
	for name, done := range map[string]<-chan error{"on its way": q.first, "waits": waits} {
		if err := answer(t, done); !errors.Is(err, wake.ErrUnavailable) || !errors.Is(err, cause) {
			t.Errorf("%s: %v", name, err)
		}
	}
	carol := make(chan error, 1)
	go func() {
		_, err := q.s.Register(late, storetest.Registration("carol@example.com", 3))
		carol <- err
	}()
	if err := answer(t, carol); !errors.Is(err, wake.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at its deadline: %v", err)
	}
	bob := make(chan error, 1)
	go func() {
		got, err := q.s.Register(context.Background(), storetest.Registration("bob@example.com", 2))
		if err == nil && got.Status != wake.StatusStored {
			err = fmt.Errorf("registered: %s", got.Status)
		}
		bob <- err
	}()
	q.server.Resume()
	for name, done := range map[string]<-chan error{"patient": patient, "bob": bob} {
		if err := answer(t, done); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n, aor := range map[int]string{2: "bob@example.com", 3: "carol@example.com"} {
		list, err := q.s.Bindings(context.Background(), wake.Query{AOR: aor})
		if want := storetest.Registration(aor, n); err != nil || len(list) != 1 || list[0].Contact != want.Contact {
			t.Errorf("%s: %v %v, want %s", aor, list, err, want.Contact)
		}
	}
}

// No more commands wait than may, those on their way included.
func TestBatchFull(t *testing.T) {
	q := newSilent(t, redis.Config{Queue: 3})
	all := []<-chan error{q.first, q.asking(context.Background()), q.asking(context.Background())}
	soon, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := q.ask(soon); !errors.Is(err, wake.ErrUnavailable) || !strings.Contains(err.Error(), "too many commands") {
		t.Errorf("one too many: %v", err)
	}
	q.server.Resume()
	for _, done := range all {
		if err := answer(t, done); err != nil {
			t.Error(err)
		}
	}
	if err := q.ask(context.Background()); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// Close lets those who wait have their answers, and accepts nothing new.
func TestBatchClosed(t *testing.T) {
	q := newSilent(t, redis.Config{})
	next := q.asking(context.Background())
	closed := make(chan error, 1)
	go func() { closed <- q.s.Close() }()
	eventually(t, "the store is closed", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		err := q.ask(ctx)
		return err != nil && strings.Contains(err.Error(), "the store is closed")
	})
	q.server.Resume()
	for _, done := range []<-chan error{q.first, next, closed} {
		if err := answer(t, done); err != nil {
			t.Error(err)
		}
	}
}

// What waited when the connection broke fails at once, and what comes later connects again.
func TestBatchBroken(t *testing.T) {
	q := newSilent(t, redis.Config{})
	next := q.asking(context.Background())
	q.server.Resume()
	q.server.Stop()
	for _, done := range []<-chan error{q.first, next} {
		if err := answer(t, done); err != nil && !errors.Is(err, wake.ErrUnavailable) {
			t.Error(err)
		}
	}
	q.server.Start()
	eventually(t, "it connects again", func() bool { return q.ask(context.Background()) == nil })
}
