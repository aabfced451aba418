// Package trace remembers what happened to the last calls, so that an operator can
// see why a phone did not ring. A timeline never holds a token or a credential.
package trace

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Head says which call a timeline is about.
type Head struct {
	ID        string // the wake's UUID
	AOR       string
	Node      string
	CallID    string
	Kind      string // "call" or "chat"
	StartedAt time.Time
}

// Timeline is what happened to one call: the answer to "why did this phone not
// ring?".
type Timeline struct {
	Head
	Outcome string // what wake.start answered
	Reason  string // why the call ended; empty while it is open
	Events  []Event
	// Omitted counts events that were left out because there were too many.
	Omitted int
}

// Event is one step of a Timeline. Device is empty where the step concerns the
// whole call.
type Event struct {
	At     time.Time
	Name   EventName
	Device string
	Detail string
}

// EventName says what happened.
type EventName string

// The events.
const (
	Held       EventName = "held"        // wake.start came; detail is the node
	Cached     EventName = "cached"      // the store is away: the devices are those known here
	Awake      EventName = "awake"       // the device registered a moment ago; detail is its flow
	Limited    EventName = "limited"     // one call too many: no push; detail is the limit
	Withheld   EventName = "withheld"    // the device is being rung: its push waits; detail says how long
	Answering  EventName = "answering"   // the device that is being rung answered: it is awake, no push
	Pushing    EventName = "pushing"     // a push is queued; detail is the provider
	Accepted   EventName = "accepted"    // the push service took it
	Failed     EventName = "failed"      // the push ended otherwise; detail has the reason
	Registered EventName = "registered"  // the device is back; detail is its flow
	Signalled  EventName = "signalled"   // the node answered; detail has its answer
	Lost       EventName = "unsignalled" // the node could not be told
	GaveUp     EventName = "gave up"     // the node was told to stop holding
	HoldOver   EventName = "hold over"   // the hold time is over: nobody is pushed or signalled any more
	Adopted    EventName = "adopted"     // this instance goes on with a wake that another one, or nobody, had
	Ended      EventName = "ended"       // wake.end came; detail has the reason
)

// Bounds of one timeline. A phone that registers without end uses up its own share
// only, and the end of the call is always told.
const (
	maxPerDevice = 12
	maxDevices   = 40
	maxOfCall    = 32
)

// Log remembers the last calls of this process, in memory. Safe for concurrent
// use.
type Log struct {
	mu     sync.Mutex
	byID   map[string]*Timeline
	ring   []string // the IDs in byID; decides who is forgotten
	oldest int
}

// NewLog returns a Log that remembers size calls.
func NewLog(size int) *Log {
	return &Log{byID: make(map[string]*Timeline), ring: make([]string, 0, size)}
}

// Begin begins the call's timeline, unless it has begun.
func (l *Log) Begin(h Head) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[h.ID] != nil {
		return
	}
	if len(l.ring) < cap(l.ring) {
		l.ring = append(l.ring, h.ID)
	} else {
		delete(l.byID, l.ring[l.oldest])
		l.ring[l.oldest] = h.ID
		l.oldest = (l.oldest + 1) % len(l.ring)
	}
	l.byID[h.ID] = &Timeline{Head: h}
}

// Add appends an event to the timeline of the call with that ID, if it is
// remembered.
func (l *Log) Add(id string, e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.byID[id]
	if t == nil {
		return
	}
	if !t.room(e) {
		t.Omitted++
		return
	}
	t.Events = append(t.Events, e)
}

// room reports whether the event fits.
func (t *Timeline) room(e Event) bool {
	most, ofDevice := maxOfCall, e.Name.ofDevice()
	if ofDevice {
		most = maxPerDevice
		if len(t.Events) >= maxPerDevice*maxDevices {
			return false
		}
	}
	for _, o := range t.Events {
		if o.Device == e.Device && o.Name.ofDevice() == ofDevice {
			most--
		}
	}
	return most > 0
}

// ofDevice reports whether the event concerns one device, even if nobody knows its
// name.
func (n EventName) ofDevice() bool {
	switch n {
	case Awake, Withheld, Answering, Pushing, Accepted, Failed, Registered, Signalled, Lost:
		return true
	}
	return false
}

// SetOutcome notes what wake.start answered.
func (l *Log) SetOutcome(id, outcome string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.byID[id]; t != nil {
		t.Outcome = outcome
	}
}

// SetReason notes why the call ended.
func (l *Log) SetReason(id, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.byID[id]; t != nil {
		t.Reason = reason
	}
}

// Find returns copies of the timelines of an AOR or of a Call-ID, oldest first.
func (l *Log) Find(aor, callID string) []Timeline {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := []Timeline{}
	for i := range l.ring {
		t := l.byID[l.ring[(l.oldest+i)%len(l.ring)]]
		if aor != "" && t.AOR == aor || callID != "" && t.CallID == callID {
			c := *t
			c.Events = slices.Clone(t.Events)
			found = append(found, c)
		}
	}
	return found
}

// Merge puts together what several instances saw of the same calls, oldest first.
func Merge(parts []Timeline) []Timeline {
	all := []Timeline{}
	at := make(map[string]int)
	for _, p := range parts {
		i, known := at[p.ID]
		if !known {
			at[p.ID] = len(all)
			all = append(all, p)
			continue
		}
		all[i].Events = append(all[i].Events, p.Events...)
		all[i].Outcome = cmp.Or(all[i].Outcome, p.Outcome)
		all[i].Reason = cmp.Or(all[i].Reason, p.Reason)
		all[i].Omitted += p.Omitted
	}
	for _, t := range all {
		slices.SortStableFunc(t.Events, func(a, b Event) int { return a.At.Compare(b.At) })
	}
	slices.SortStableFunc(all, func(a, b Timeline) int { return a.StartedAt.Compare(b.StartedAt) })
	return all
}
