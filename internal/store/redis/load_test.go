package redis_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
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
	lost, unsure := 0, 0
	for _, n := range l.users {
		list, ended, err := l.find(s, loadUser(n))
		switch {
		case errors.Is(err, wake.ErrUnavailable):
			// A connection of before the failover, or a replica that has just found its
			// new master: the wake may have been ended, and only the answer is missing.
			unsure++
		case err != nil:
			l.t.Fatal(err)
		case !ended.Known:
			lost++
		}
		if len(list) != 1 {
			lost++
		}
	}
	if unsure > len(l.users)/50 {
		l.t.Errorf("%d of %d wakes were ended without an answer", unsure, len(l.users))
	}
	l.t.Logf("%d acknowledged, %d lost, %d failed", len(l.users), lost, l.failed.Load())
	if lost > 0 {
		l.t.Errorf("%d of %d acknowledged are lost", lost, len(l.users))
	}
}

// find returns the user's bindings, asked for until the store answers, and ends his
// wake, once.
func (l *load) find(s *redis.Store, user string) (list []wake.Binding, ended wake.Ended, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	eventually(l.t, "the store reads", func() bool {
		list, err = s.Bindings(ctx, wake.Query{AOR: user})
		return !errors.Is(err, wake.ErrUnavailable)
	})
	if err == nil {
		ended, err = s.End(ctx, user, "n", "c")
	}
	return list, ended, err
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
