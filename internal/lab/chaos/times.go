package chaos

import (
	"sync"
	"time"
)

// The parts whose bad times are recorded. Instances and nodes have their own names.
const (
	partRedis   = "redis"
	partHarness = "harness"
)

// times records when each part did not work. Verdicts rely on it: a promise must be kept
// unless a part that it needs was away at that time. Safe for concurrent use.
type times struct {
	mu    sync.Mutex
	spans map[string][]span
}

type span struct{ from, to time.Time } // to is zero while it lasts

func newTimes() *times { return &times{spans: make(map[string][]span)} }

// begin starts a bad time of the part, unless one is open.
func (t *times) begin(part string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.spans[part]
	if n := len(all); n > 0 && all[n-1].to.IsZero() {
		return
	}
	t.spans[part] = append(all, span{from: time.Now()})
}

// end ends the open bad time after grace.
func (t *times) end(part string, grace time.Duration) { t.endIf(part, time.Now(), grace) }

// endIf is like end, but only if the bad time began before since.
func (t *times) endIf(part string, since time.Time, grace time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.spans[part]
	if n := len(all); n > 0 && all[n-1].to.IsZero() && !all[n-1].from.After(since) {
		all[n-1].to = time.Now().Add(grace)
	}
}

// add records a bad time that is over.
func (t *times) add(part string, from, to time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spans[part] = append(t.spans[part], span{from, to})
}

// bad reports whether the part was away at any moment between the two.
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

// away returns how long the part was away in total between the two, including graces.
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

// calm returns the longest time without a break in which ok held, as far as can be told
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
