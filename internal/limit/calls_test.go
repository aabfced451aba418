package limit

import (
	"testing"
	"time"
)

func calls(pairs, callers, aors int) *CallsConfig {
	return &CallsConfig{Pair: &pairs, Caller: &callers, AOR: &aors}
}

func TestCalls(t *testing.T) {
	f := func(cfg *CallsConfig, caller, aor string, passed int, over CallLimit) {
		t.Helper()
		c, n := NewCalls(), 0
		for ; n < 1000; n++ {
			would := c.Over(cfg, caller, aor, start)
			if did := c.Take(cfg, caller, aor, start); did != would {
				t.Fatalf("call %d: Over says %q, Take %q", n, would, did)
			} else if did != "" {
				if did != over {
					t.Errorf("call %d exceeds %q, want %q", n, did, over)
				}
				break
			}
		}
		if n != passed {
			t.Errorf("%d calls passed, want %d", n, passed)
		}
		if c.Take(cfg, caller, aor, start.Add(time.Minute)) != "" {
			t.Error("a minute later none passes")
		}
	}
	f(calls(3, 0, 0), "alice", "bob", 3, LimitPair)
	f(calls(3, 2, 0), "alice", "bob", 2, LimitCaller)
	f(calls(3, 2, 1), "alice", "bob", 1, LimitAOR)
	f(calls(0, 2, 0), "", "bob", 1000, "") // who is anonymous is no caller
	f(calls(3, 2, 0), "", "bob", 3, LimitPair)
	f(calls(0, 0, 0), "alice", "bob", 1000, "")
}

// What the narrow limit stops does not count against the others.
func TestCallsNarrowFirst(t *testing.T) {
	c, cfg := NewCalls(), calls(1, 0, 3)
	for range 100 {
		c.Take(cfg, "mallory", "bob", start)
	}
	for _, caller := range []string{"alice", "carol"} {
		if over := c.Take(cfg, caller, "bob", start); over != "" {
			t.Errorf("%s exceeds %q", caller, over)
		}
	}
	if over := c.Take(cfg, "dave", "bob", start); over != LimitAOR {
		t.Errorf("dave exceeds %q", over)
	}
}

func TestCallsConfig(t *testing.T) {
	var c CallsConfig
	c.SetDefaults()
	if *c.Pair != 20 || *c.Caller != 120 || *c.AOR != 60 {
		t.Errorf("defaults are %d, %d, %d", *c.Pair, *c.Caller, *c.AOR)
	}
	n := 0
	calls(-1, 100_001, 0).Validate(func(string, string) { n++ })
	if n != 2 || len(CallLimits()) != 3 {
		t.Errorf("%d problems", n)
	}
}

func TestFailures(t *testing.T) {
	var f Failures[string]
	if f.Add("a", 0) || f.Add("a", 2) || f.Add("b", 2) {
		t.Error("reached too early")
	}
	if !f.Add("a", 2) || f.Add("a", 2) {
		t.Error("the second in a row must reach it, and end the row")
	}
	f.Forget("a", "b")
	if f.Add("a", 2) || f.Add("b", 2) {
		t.Error("a row that has ended goes on")
	}
	for i := range 3 * maxFailures {
		f.Add(string(rune(i)), 2)
	}
	if len(f.counts) > maxFailures {
		t.Errorf("%d counts", len(f.counts))
	}
}

func TestHas(t *testing.T) {
	b, r := New[string](1), Per(time.Minute, 1)
	if !b.Has("a", r, start) || !b.Has("a", Rate{}, start) {
		t.Error("a full bucket has no token")
	}
	b.Take("a", r, start)
	if b.Has("a", r, start) || !b.Has("b", r, start) {
		t.Error("the wrong bucket is empty")
	}
	b.Take("b", r, start) // shares a bucket with all further keys
	if b.Has("c", r, start) {
		t.Error("the shared bucket is not empty")
	}
}
