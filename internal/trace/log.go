package trace

import (
	"slices"
	"sync"
	"time"
)

// Log holds the last calls of this process in memory, and knows which of them must be
// written to a Store. It never blocks. Safe for concurrent use.
type Log struct {
	mu     sync.Mutex
	byID   map[string]*entry
	ring   []*entry // those in byID; the oldest is forgotten first
	oldest int

	feed feed // of the exporters

	keep    bool     // a Keeper writes changes
	changed []*entry // to be written, in the order of their first change
	waiting int      // how many of changed have left the ring
	spare   []*entry // that nothing refers to any more, for calls to come
	dropped int      // timelines that were never written
}

// entry is a timeline and what must still be written of it.
type entry struct {
	Timeline
	since, last time.Time // the first change that is not written, and the last change
	queued      bool      // is in changed
	forgotten   bool      // has left the ring
	inHand      bool      // is being written
	feeding
}

// NewLog returns a Log that remembers size calls.
func NewLog(size int) *Log {
	return &Log{byID: make(map[string]*entry), ring: make([]*entry, 0, size)}
}

const (
	usual     = 6   // events of a call with one device
	mostSpare = 512 // entries
)

// Begin begins the call's timeline, unless it has begun.
func (l *Log) Begin(h Head) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[h.ID] != nil {
		return
	}
	e := l.entry()
	e.Head = h
	if len(l.ring) < cap(l.ring) {
		l.ring = append(l.ring, e)
	} else {
		l.forget(l.ring[l.oldest])
		l.ring[l.oldest] = e
		l.oldest = (l.oldest + 1) % len(l.ring)
	}
	l.byID[h.ID] = e
	l.touch(e)
}

// entry returns an empty entry.
func (l *Log) entry() *entry {
	n := len(l.spare)
	if n == 0 {
		return &entry{Timeline: Timeline{Events: make([]Event, 0, usual)}}
	}
	e := l.spare[n-1]
	l.spare[n-1] = nil
	l.spare = l.spare[:n-1]
	clear(e.Events)
	*e = entry{Timeline: Timeline{Events: e.Events[:0]}}
	return e
}

// reuse keeps an entry that nothing refers to any more.
func (l *Log) reuse(e *entry) {
	if e.forgotten && !e.queued && !e.inHand && !e.fed && len(l.spare) < mostSpare && cap(e.Events) <= 4*usual {
		l.spare = append(l.spare, e)
	}
}

// forget removes a call from the ring. If it must still be written, it stays in
// changed, but at most as many such calls wait as the ring holds.
func (l *Log) forget(e *entry) {
	delete(l.byID, e.ID)
	e.forgotten = true
	l.feed.forget(e, cap(l.ring))
	if !e.queued {
		l.reuse(e)
		return
	}
	if l.waiting++; l.waiting <= cap(l.ring) {
		return
	}
	// Drop some at once, because each time all entries are visited.
	most := 1 + cap(l.ring)/16
	n := 0
	l.changed = slices.DeleteFunc(l.changed, func(e *entry) bool {
		drop := e.forgotten && n < most
		if drop {
			n++
		}
		return drop
	})
	l.waiting -= n
	l.dropped += n
}

// Add appends an event to the timeline of the call with that ID, if the Log still has
// it.
func (l *Log) Add(id string, e Event) {
	e.clip()
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.byID[id]
	if t == nil {
		return
	}
	l.touch(t)
	if !t.room(&e) {
		t.Omitted++
		return
	}
	t.Events = append(t.Events, e)
}

// SetOutcome notes what wake.start answered.
func (l *Log) SetOutcome(id, outcome string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.byID[id]; t != nil {
		t.Outcome = outcome
		l.touch(t)
	}
}

// SetReason notes why the call ended.
func (l *Log) SetReason(id, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.byID[id]; t != nil {
		t.Reason = reason
		l.touch(t)
		t.ended = t.last
	}
}

// touch notes that the timeline has changed.
func (l *Log) touch(e *entry) {
	if !l.keep && !l.feed.on {
		return
	}
	e.last = time.Now()
	l.feed.add(e)
	if l.keep && !e.queued {
		e.queued, e.since = true, e.last
		l.changed = append(l.changed, e)
	}
}

// A timeline is written when nothing has happened for a moment, or at the latest some
// time after its first change.
const (
	quiet   = 200 * time.Millisecond
	longest = 500 * time.Millisecond
)

// taken is a timeline that is being written.
type taken struct {
	entry *entry
	Timeline
}

// take appends copies of up to most timelines that are due to be written to due, which
// is empty; with all, of every one that has changed. Nothing changes in them any more.
func (l *Log) take(due []taken, now time.Time, most int, all bool) []taken {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.changed[:0]
	for _, e := range l.changed {
		ready := all || e.forgotten || now.Sub(e.last) >= quiet || now.Sub(e.since) >= longest
		if !ready || len(due) == most {
			rest = append(rest, e)
			continue
		}
		e.queued, e.inHand = false, true
		if e.forgotten {
			l.waiting--
		}
		t := e.Timeline
		t.Events = slices.Clip(t.Events) // what is added to the entry comes after these
		due = append(due, taken{e, t})
	}
	clear(l.changed[len(rest):])
	l.changed = rest
	return due
}

// wrote notes that timelines that were taken have been written.
func (l *Log) wrote(list []taken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range list {
		t.entry.inHand = false
		l.reuse(t.entry)
	}
}

// putBack puts back timelines that could not be written. It drops those for which
// there is no room.
func (l *Log) putBack(list []taken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range list {
		t.entry.inHand = false
		switch e := t.entry; {
		case e.queued: // has changed since
		case e.forgotten && l.waiting >= cap(l.ring):
			l.dropped++
		default:
			if e.forgotten {
				l.waiting++
			}
			e.queued = true
			l.changed = append(l.changed, e)
		}
	}
}

// takeDropped returns how many timelines were dropped since the last call.
func (l *Log) takeDropped() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.dropped
	l.dropped = 0
	return n
}

func (e *entry) copy() Timeline {
	t := e.Timeline
	t.Events = slices.Clone(t.Events)
	return t
}

// Find returns copies of the timelines that match, the newest first, and the cursor of
// the next page, zero if there is none.
func (l *Log) Find(q Query) (found []Timeline, next Cursor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.SortedFunc(l.matching(&q), func(a, b *entry) int { return b.Cursor().compare(a.Cursor()) })
	for _, e := range list {
		if len(found) == q.Limit {
			return found, found[len(found)-1].Cursor()
		}
		found = append(found, e.copy())
	}
	return found, Cursor{}
}

func (l *Log) matching(q *Query) func(yield func(*entry) bool) {
	return func(yield func(*entry) bool) {
		for _, e := range l.ring {
			if q.Match(&e.Timeline) && !yield(e) {
				return
			}
		}
	}
}

// get returns a copy of the timeline of the call with that ID.
func (l *Log) get(id string) (Timeline, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.byID[id]; e != nil {
		return e.copy(), true
	}
	return Timeline{}, false
}

// users returns the AORs of calls in the Log that contain part.
func (l *Log) users(part string, most int) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := make(map[string]bool)
	for i := len(l.ring) - 1; i >= 0 && len(found) < most; i-- {
		if aor := l.ring[i].AOR; !seen[aor] && HasPart(aor, part) {
			seen[aor] = true
			found = append(found, aor)
		}
	}
	return found
}

// waits returns how many timelines wait to be written.
func (l *Log) waits() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.changed)
}
