package redis_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// Instances whose clocks differ understand the same by the times of a wake: one that is
// 80 s behind has a phone signalled for a call that another holds for 15 s more.
func TestClocksDiffer(t *testing.T) {
	c := redis.Config{Addresses: []string{storetest.StartRedis(t)}, Prefix: "clocks:"}
	right, behind := open(t, c), open(t, c)
	right.SetClock(0)
	behind.SetClock(-80 * time.Second)
	now := time.Now()
	start := func(s *redis.Store, call string) {
		t.Helper()
		_, err := s.Start(t.Context(), wake.Wake{ID: call, AOR: "bob@example.com", Node: "sip1", Call: call, CallID: call,
			Kind: push.Call, StartedAt: now, Deadline: now.Add(15 * time.Second), Owner: "gone"})
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, w wake.Wake, differ time.Duration) {
		t.Helper()
		for name, d := range map[string]time.Duration{"started": w.StartedAt.Sub(now), "deadline": w.Deadline.Sub(now) - 15*time.Second} {
			if off := d - differ; off.Abs() > time.Second {
				t.Errorf("%s: %s is off by %s", what, name, off)
			}
		}
		if !strings.Contains(w.Deadline.String(), " m=") {
			t.Errorf("%s: the deadline goes by the wall clock", what)
		}
	}
	registerAt := func(s *redis.Store, at time.Time) []wake.Wake {
		t.Helper()
		r, err := s.Register(t.Context(), wake.Registration{
			Binding: wake.Binding{AOR: "bob@example.com", Contact: "sip:bob@192.0.2.1", RegisteredAt: at}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Wakes
	}
	register := func(s *redis.Store) []wake.Wake { return registerAt(s, time.Time{}) }
	start(right, "one")
	for _, w := range register(behind) {
		check("told to the one that is behind", w, -80*time.Second)
	}
	// The REGISTER comes at the one that is ahead of a wake's deadline by its own clock.
	ahead := open(t, c)
	ahead.SetClock(80 * time.Second)
	if n := len(registerAt(ahead, now.Add(81*time.Second))); n != 1 {
		t.Errorf("the one that is ahead was told %d wakes", n)
	}
	err := behind.Adopt(t.Context(), "gone", "heir", func(w wake.Wake, _ wake.Started) { check("adopted by it", w, -80*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	// And back: what the heir has written is right for the others.
	found := register(right)
	if len(found) != 1 {
		t.Fatalf("%d wakes", len(found))
	}
	check("told to the right one", found[0], 0)
	if w, err := right.End(t.Context(), "bob@example.com", "sip1", "one"); err != nil || !w.Known {
		t.Fatalf("%+v %v", w, err)
	}
}

// The time is learned with each beat.
func TestBeatTellsTime(t *testing.T) {
	s := open(t, redis.Config{Addresses: []string{storetest.StartRedis(t)}, Prefix: "beats:"})
	s.SetClock(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := s.Beat(ctx, "a", time.Minute); err != nil {
		t.Fatal(err)
	}
	if off := s.ClockAhead(); off.Abs() > time.Second {
		t.Errorf("Redis here: the clock is ahead by %s", off)
	}
}
