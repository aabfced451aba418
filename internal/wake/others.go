package wake

import (
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
)

// Others is what a Service needs from the other instances that share its store;
// cluster.Cluster implements it. No method blocks.
type Others interface {
	// Publish sends the event to every instance. Delivery is not guaranteed.
	Publish(e Event)
	// Pushed notes in the store that the device's push was accepted, so that an
	// instance that adopts the wake does not push again.
	Pushed(w Wake, device string)
	// Recheck checks later on a wake whose Start got no answer. If the store has the
	// wake after all, it is adopted.
	Recheck(w Wake)
}

// Event is what one instance learned about another's wake.
type Event struct {
	Type EventType `json:"Name"`
	Node string
	Call string
	AOR  string
	// Detail is the device for EventRegistered and EventBack, the ringing contact for
	// EventRings, and the reason for EventEnded.
	Detail string
	// Code is the final SIP status for EventEnded; 0 if unknown.
	Code int `json:",omitempty"`
	// Over is the call for EventOver.
	Over *Over `json:",omitempty"`
}

// EventType is what happened to a wake.
type EventType string

// The events.
const (
	EventEnded      EventType = "ended"
	EventRings      EventType = "rings"
	EventRegistered EventType = "registered" // the device has registered
	EventBack       EventType = "back"       // the node has added the registered device
	EventOver       EventType = "over"       // the call has ended, and some pushed devices do not know
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

// HandleEvent handles an event about a wake that this instance owns, and ignores all
// others.
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

// Adopt takes over a wake that another instance started, or whose Start got no
// answer. It signals devices that have come back since. It pushes devices whose push
// is not known to be accepted, unless another wake of the same call has pushed them.
// If the wake is past its hold time, it only waits for the end. Adopt reports
// whether the wake was not yet open here.
func (s *Service) Adopt(w Wake, st Started) bool {
	node, err := s.node(w.Node)
	if err != nil {
		s.repeats.Error("cannot adopt wake", "aor", w.AOR, "call_id", w.CallID, "node", w.Node, "err", err)
		return true
	}
	if st.Forked && len(w.Pushed) == 0 {
		return true // the other branch's wake pushes and gives up
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

// Returned signals the devices of st that came back to a wake of this instance but
// are unknown to its node: they registered through an instance that ended, perhaps
// before it could signal them.
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

// cameBack returns the devices that have registered since the wake started. It
// relies on the store's clock, because the clocks of instances may differ.
func cameBack(st Started) []Registration {
	return slices.DeleteFunc(slices.Clone(st.Recent), func(r Registration) bool {
		return !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(time.Now()) // and left again
	})
}
