package redis_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/store/redis"
	"github.com/sipwake/sipwake/store/storetest"
	"github.com/sipwake/sipwake/wake"
)

// load registers new phones and starts wakes, and notes what was acknowledged.
type load struct {
	t      *testing.T
	s      *redis.Store
	cancel context.CancelFunc
	wait   sync.WaitGroup
	count  atomic.Int64 // acknowledged
	failed atomic.Int64

	mu    sync.Mutex
	users []int
}

// startLoad begins; end ends it.
func startLoad(t *testing.T, s *redis.Store) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, s: s, cancel: cancel}
	t.Cleanup(l.end)
	var next atomic.Int64
	for range 8 {
		l.wait.Go(func() {
			for ctx.Err() == nil {
				l.one(int(next.Add(1)))
			}
		})
	}
	return l
}

func (l *load) end() {
	l.cancel()
	l.wait.Wait()
}

func loadUser(n int) string { return fmt.Sprintf("user%d@example.com", n) }

func loadWake(n int) wake.Wake {
	now := time.Now()
	return wake.Wake{ID: fmt.Sprint(n), AOR: loadUser(n), Node: "n", Call: "c", StartedAt: now, Deadline: now.Add(time.Hour)}
}

func (l *load) one(n int) {
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	_, err := l.s.Register(ctx, storetest.Registration(loadUser(n), n))
	if err == nil {
		_, err = l.s.Start(ctx, loadWake(n))
	}
	if err != nil {
		l.failed.Add(1)
		time.Sleep(time.Millisecond) // else refused connections are all that it does
		return
	}
	l.mu.Lock()
	l.users = append(l.users, n)
	l.mu.Unlock()
	l.count.Add(1)
}

// more waits until so many more are acknowledged.
func (l *load) more(what string, n int64) {
	l.t.Helper()
	want := l.count.Load() + n
	eventually(l.t, what, func() bool { return l.count.Load() >= want })
}

// check finds everything that was acknowledged.
func (l *load) check(s *redis.Store) {
	l.t.Helper()
	l.end()
	lost := 0
	for _, n := range l.users {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		list, err := s.Bindings(ctx, wake.Query{AOR: loadUser(n)})
		ended, err2 := s.End(ctx, loadUser(n), "n", "c")
		cancel()
		// A replica that has just found its new master may be missing for a moment:
		// the write is done then, and only not confirmed.
		unsure := err2 != nil && strings.Contains(err2.Error(), "too few replicas")
		if err != nil || err2 != nil && !unsure {
			l.t.Fatal(err, err2)
		}
		if len(list) != 1 || !ended.Known && !unsure {
			lost++
		}
	}
	l.t.Logf("%d acknowledged, %d lost, %d failed", len(l.users), lost, l.failed.Load())
	if lost > 0 {
		l.t.Errorf("%d of %d acknowledged are lost", lost, len(l.users))
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
