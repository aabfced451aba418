package chaos

import (
	"sync"
	"time"
)

// The parts whose bad times are kept; instances and nodes go by their names.
const (
	partRedis   = "redis"
	partHarness = "harness"
)

// times keeps when which part did not work. Verdicts rest on it: what was promised
// is owed unless a part that is needed was away at that very time. Safe for
// concurrent use.
type times struct {
	mu    sync.Mutex
	spans map[string][]span
}

type span struct{ from, to time.Time } // to is zero while it lasts

func newTimes() *times { return &times{spans: make(map[string][]span)} }

// begin opens a bad time of the part unless one is open.
func (t *times) begin(part string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.spans[part]
	if n := len(all); n > 0 && all[n-1].to.IsZero() {
		return
	}
	t.spans[part] = append(all, span{from: time.Now()})
}

// end closes the open bad time: it is over when grace has passed.
func (t *times) end(part string, grace time.Duration) { t.endIf(part, time.Now(), grace) }

// endIf is end, if the bad time began before since.
func (t *times) endIf(part string, since time.Time, grace time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.spans[part]
	if n := len(all); n > 0 && all[n-1].to.IsZero() && !all[n-1].from.After(since) {
		all[n-1].to = time.Now().Add(grace)
	}
}

// add notes a bad time that is over.
func (t *times) add(part string, from, to time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spans[part] = append(t.spans[part], span{from, to})
}

// bad reports whether the part was away at some moment of the time.
func (t *times) bad(part string, from, to time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.spans[part] {
		if s.from.Before(to) && (s.to.IsZero() || s.to.After(from)) {
			return true
		}
	}
	return false
}

// away is how long the part was away in all between the two, graces included.
func (t *times) away(part string, from, to time.Time) (sum time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.spans[part] {
		if s.to.IsZero() || s.to.After(to) {
			s.to = to
		}
		if s.from.Before(from) {
			s.from = from
		}
		sum += max(0, s.to.Sub(s.from))
	}
	return sum
}

// calm is the longest time without a break in which ok held, as far as can be told
// from looks every 50 ms.
func calm(from, to time.Time, ok func(from, to time.Time) bool) (longest time.Duration) {
	const look = 50 * time.Millisecond
	var run time.Duration
	for at := from; at.Before(to); at = at.Add(look) {
		if !ok(at, at.Add(look)) {
			run = 0
			continue
		}
		run += look
		longest = max(longest, run)
	}
	return longest
}
