package wake

import (
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
)

// Others is what a Service needs of the other instances that share its store;
// cluster.Cluster is one. No method waits.
type Others interface {
	// Publish sends the event to every instance. It may be lost.
	Publish(e Event)
	// Pushed notes in the store that the device's push was accepted, so that an
	// instance that adopts the wake does not push again.
	Pushed(w Wake, device string)
	// Recheck looks after a wake whose Start got no answer: should the store have
	// it all the same, it is adopted.
	Recheck(w Wake)
}

// Event is what one instance heard about a wake of another.
type Event struct {
	Type EventType `json:"Name"`
	Node string
	Call string
	AOR  string
	// Detail is the device, with EventRegistered and EventBack; the contact that
	// rings, with EventRings; the reason, with EventEnded.
	Detail string
	// Code is the final SIP status, with EventEnded; 0 if unknown.
	Code int `json:",omitempty"`
	// Over is the call, with EventOver.
	Over *Over `json:",omitempty"`
}

// EventType says what happened to a wake.
type EventType string

// The events.
const (
	EventEnded      EventType = "ended"
	EventRings      EventType = "rings"
	EventRegistered EventType = "registered" // the device has registered
	EventBack       EventType = "back"       // and the node has added it
	EventOver       EventType = "over"       // the call has ended, and devices that were pushed do not know
)

// publish sends an event about a wake that another instance owns.
func (s *Service) publish(w Wake, t EventType, detail string) {
	s.publishEvent(Event{Type: t, Node: w.Node, Call: w.Call, AOR: w.AOR, Detail: detail})
}

func (s *Service) publishEvent(e Event) {
	if s.others != nil {
		s.others.Publish(e)
	}
}

// HandleEvent acts on an event about a wake that this instance owns; others are
// passed over.
func (s *Service) HandleEvent(e Event) {
	w := Wake{Node: e.Node, Call: e.Call, AOR: e.AOR}
	switch e.Type {
	case EventEnded:
		if cl := s.close(w.key()); cl != nil {
			s.traces.SetReason(cl.wake.ID, e.Detail)
			s.afterEnd(cl, EndReason(e.Detail), e.Code)
		}
	case EventRings:
		if cl := s.calls.get(w.key()); cl != nil {
			s.rings(cl, e.Detail)
		}
	case EventRegistered:
		if cl := s.calls.get(w.key()); cl != nil {
			cl.setRegistered(e.Detail)
		}
	case EventBack:
		s.late.heard(w.key(), e.Detail)
		if cl := s.calls.get(w.key()); cl != nil {
			s.follow(cl, cl.setBack(e.Detail))
		}
	case EventOver:
		if e.Over != nil && e.Over.Wake.Owner != s.instance {
			s.late.add(*e.Over)
		}
	}
}

// OpenWakes returns the wakes that this instance owns and that a phone may still
// come back to.
func (s *Service) OpenWakes() []Wake {
	var open []Wake
	for _, cl := range s.calls.all() {
		if cl.ctx.Err() == nil {
			open = append(open, cl.wake)
		}
	}
	return open
}

// Adopt goes on with a wake that another instance started, or whose Start got no
// answer. Devices that have come back since are signalled, those whose push is not
// known to be accepted are pushed, unless another wake of the same call has pushed
// them. Of a wake past its hold time only the end is awaited. Adopt reports whether
// the wake was not open here yet.
func (s *Service) Adopt(w Wake, st Started) bool {
	node, err := s.node(w.Node)
	if err != nil {
		s.repeats.Error("cannot adopt wake", "aor", w.AOR, "call_id", w.CallID, "node", w.Node, "err", err)
		return true
	}
	if st.Forked && len(w.Pushed) == 0 {
		return true // the wake of the other branch pushes and gives up
	}
	cl := s.open(w, node, CallerOf(w.From))
	if cl == nil {
		return false
	}
	cl.stored.Store(true)
	s.metrics.adopted.Inc()
	s.traces.Begin(w.head())
	cl.event(trace.Adopted, "", s.instance)
	st = s.registered(w.only(st))
	came := cameBack(st)
	for i := range st.Bindings {
		b := &st.Bindings[i]
		pushed := slices.Contains(w.Pushed, b.Device)
		if st.Forked && !pushed {
			continue
		}
		cl.add(b.Device, b)
		switch {
		case pushed:
			cl.accept(b.Device)
		case find(came, b.Device) == nil && cl.ctx.Err() == nil:
			s.pushForCall(cl, b)
		}
	}
	for i := range came {
		r := &came[i]
		cl.add(r.key(), bindingOf(r))
		s.signal(&cl.wake, r, true)
	}
	s.follow(cl, cl.allQueued())
	return true
}

// Returned signals the devices of st that came back to a wake of this instance and
// that its node does not know of: they registered through an instance that ended,
// maybe before it could signal them.
func (s *Service) Returned(w Wake, st Started) {
	cl := s.calls.get(w.key())
	if cl == nil || st.Ended {
		return
	}
	for _, r := range cameBack(w.only(st)) {
		if !cl.isBack(r.key()) {
			s.signal(&cl.wake, &r, true)
		}
	}
}

// cameBack returns the devices that have registered since the wake was started, as the
// store says: by its own clock, for those of the instances may differ.
func cameBack(st Started) []Registration {
	return slices.DeleteFunc(slices.Clone(st.Recent), func(r Registration) bool {
		return !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(time.Now()) // and went again
	})
}
