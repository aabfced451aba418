package wake

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Timeline is what happened to one wake: the answer to "why did this phone not
// ring?".
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
	eventCached     = "cached"      // the store is away: the devices are those known here
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
	eventAdopted    = "adopted"     // this instance goes on with the wake of one that ended
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

// start begins the wake's timeline, unless it has begun.
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
	w.From, w.Display, w.Media, w.Body = "", "", "", "" // nobody asks for them here
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

// tracePatience is how long the other instances are waited for.
const tracePatience = 200 * time.Millisecond

// Traces returns what is known of the wakes of an AOR or of a Call-ID, oldest
// first. Other instances that share the store are asked too; what does not come
// soon is left out.
func (s *Service) Traces(ctx context.Context, aor, callID string) ([]Timeline, error) {
	if aor == "" && callID == "" {
		return nil, &ParamError{"aor", "is missing; give aor or call_id"}
	}
	if aor != "" {
		var err error
		if aor, err = cleanAOR(aor); err != nil {
			return nil, err
		}
	}
	parts := s.traces.find(aor, callID)
	if s.peers == nil {
		return parts, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tracePatience)
	defer cancel()
	question := News{Name: newsAsk, AOR: aor, Call: callID, Detail: uuid.NewString()}
	answers := s.questions.ask(question.Detail)
	defer s.questions.forget(question.Detail)
	s.peers.Tell(question)
	for others := s.others.Load(); others > 0; others-- {
		select {
		case more := <-answers:
			parts = append(parts, more...)
		case <-ctx.Done():
			return merge(parts), nil
		}
	}
	return merge(parts), nil
}

// merge puts together what several instances saw of the same wakes.
func merge(parts []Timeline) []Timeline {
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
	}
	for _, t := range all {
		slices.SortStableFunc(t.Events, func(a, b Event) int { return a.At.Compare(b.At) })
	}
	slices.SortStableFunc(all, func(a, b Timeline) int { return a.StartedAt.Compare(b.StartedAt) })
	return all
}

// questions are those that this instance has asked the others.
type questions struct {
	mu   sync.Mutex
	open map[string]chan []Timeline
}

const maxAnswers = 64 // of one question: more instances than anybody runs

func (q *questions) ask(id string) <-chan []Timeline {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = make(map[string]chan []Timeline)
	}
	answers := make(chan []Timeline, maxAnswers)
	q.open[id] = answers
	return answers
}

func (q *questions) forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, id)
}

func (q *questions) own(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open[id] != nil
}

func (q *questions) answer(id string, found []Timeline) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case q.open[id] <- found:
	default: // not asked here, or nobody waits any more
	}
}
