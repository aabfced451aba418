package wake

import (
	"sync"
	"time"
)

// Timeline is what happened to one wake, as far as this instance saw it: the
// answer to "why did this phone not ring?".
type Timeline struct {
	Wake
	Outcome Outcome
	Reason  EndReason // empty while the wake is open
	Events  []Event
}

// Event is one step of a Timeline. Device is empty where the step concerns the
// whole wake.
type Event struct {
	At     time.Time
	Name   string
	Device string
	Detail string
}

// The names of events.
const (
	eventHeld       = "held"        // wake.start came
	eventAwake      = "awake"       // device registered a moment ago: not pushed
	eventLimited    = "limited"     // one too many for a limit: no push; detail says which
	eventWithheld   = "withheld"    // the device is being rung: its push waits; detail says how long
	eventAnswering  = "answering"   // the device that is being rung answered: it is awake, no push
	eventPushing    = "pushing"     // push queued
	eventAccepted   = "accepted"    // the push service took it
	eventPushFailed = "failed"      // the push ended otherwise; detail has the reason
	eventRegistered = "registered"  // the device is back
	eventSignalled  = "signalled"   // the node answered; detail has its answer
	eventLost       = "unsignalled" // the node could not be told
	eventGaveUp     = "gave up"     // the node was told to stop waiting
	eventEnded      = "ended"       // wake.end came; detail has the reason
)

const maxEvents = 64 // of one wake: a phone may REGISTER without end

// traces remembers the last wakes. A ring of wake ids decides who is forgotten.
type traces struct {
	mu     sync.Mutex
	byID   map[string]*Timeline
	ring   []string
	oldest int
}

func newTraces(size int) *traces {
	return &traces{byID: make(map[string]*Timeline), ring: make([]string, 0, size)}
}

func (t *traces) start(w Wake) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[w.ID] != nil {
		return
	}
	if len(t.ring) < cap(t.ring) {
		t.ring = append(t.ring, w.ID)
	} else {
		delete(t.byID, t.ring[t.oldest])
		t.ring[t.oldest] = w.ID
		t.oldest = (t.oldest + 1) % len(t.ring)
	}
	t.byID[w.ID] = &Timeline{Wake: w}
}

// add appends an event to the wake's timeline, if it is remembered.
func (t *traces) add(w Wake, at time.Time, name, device, detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tl := t.byID[w.ID]; tl != nil && len(tl.Events) < maxEvents {
		tl.Events = append(tl.Events, Event{at, name, device, detail})
	}
}

func (t *traces) setOutcome(w Wake, o Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tl := t.byID[w.ID]; tl != nil {
		tl.Outcome = o
	}
}

func (t *traces) setReason(w Wake, r EndReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tl := t.byID[w.ID]; tl != nil {
		tl.Reason = r
	}
}

// find returns copies of the timelines of an AOR or of a Call-ID, oldest first.
func (t *traces) find(aor, callID string) []Timeline {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := []Timeline{}
	for i := range t.ring {
		tl := t.byID[t.ring[(t.oldest+i)%len(t.ring)]]
		if (aor != "" && tl.AOR == aor) || (callID != "" && tl.CallID == callID) {
			c := *tl
			c.Events = append([]Event(nil), tl.Events...)
			found = append(found, c)
		}
	}
	return found
}
