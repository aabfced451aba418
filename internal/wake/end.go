package wake

import (
	"context"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// EndReason is why a held request ended.
type EndReason string

// The reasons of wake.end.
const (
	EndAnswered  EndReason = "answered"
	EndCancelled EndReason = "cancelled"
	EndTimeout   EndReason = "timeout"
	EndBusy      EndReason = "busy"
	EndDeclined  EndReason = "declined"
	EndFailed    EndReason = "failed"
)

var endReasons = []EndReason{EndAnswered, EndCancelled, EndTimeout, EndBusy, EndDeclined, EndFailed}

// EndParams are the parameters of wake.end: a held request has ended.
type EndParams struct {
	Node   string
	AOR    string
	Call   string
	Reason EndReason
	Code   int // final SIP status, 0 if unknown
}

// End ends a wake: it drops waiting pushes, stops signalling devices, and tells
// pushed devices what they need to know. It may come before its Start, or long after
// the hold time. It reports whether the wake was known.
func (s *Service) End(ctx context.Context, p EndParams) (bool, error) {
	if _, err := s.node(p.Node); err != nil {
		return false, err
	}
	aor, err := CleanAOR(p.AOR)
	if err != nil {
		return false, err
	}
	if err := CheckID("call", p.Call); err != nil {
		return false, err
	}
	if !slices.Contains(endReasons, p.Reason) {
		return false, &ParamError{"reason", "must be answered, cancelled, timeout, busy, declined or failed"}
	}
	key := callKey{p.Node, p.Call, aor}
	ended, err := s.store.End(ctx, aor, p.Node, p.Call)
	// Even when the store is away: no push is sent for a call that is over.
	cl := s.close(key)
	s.signals.drop(key)
	owner := cl != nil && (!ended.Known || ended.Wake.Owner == s.instance)
	if owner {
		s.afterEnd(cl, p.Reason, p.Code)
	}
	if err != nil {
		return false, err
	}
	if !ended.Known {
		return false, nil
	}
	w := ended.Wake
	if !owner {
		s.publishEvent(Event{Type: EventEnded, Node: w.Node, Call: w.Call, AOR: w.AOR, Detail: string(p.Reason), Code: p.Code})
		s.log.Debug("wake of another instance ended", "aor", aor, "call_id", w.CallID, "node", p.Node, "owner", w.Owner, "reason", p.Reason)
	}
	s.metrics.ends.WithLabelValues(string(p.Reason)).Inc()
	s.traces.Begin(w.head()) // for another instance's wake, the trace holds our part only
	s.traces.Add(w.ID, trace.Event{At: time.Now(), Name: trace.Ended, Detail: string(p.Reason), Code: p.Code})
	s.traces.SetReason(w.ID, string(p.Reason))
	return true, nil
}

const (
	// cancelTTL is how long the news that the call is over is worth delivering.
	cancelTTL = 30 * time.Second
	// missedTTL is how long the news of a missed call is worth delivering.
	missedTTL = 24 * time.Hour
)

// afterEnd notifies devices that were woken in vain, counts failures against
// bindings, and logs the call.
func (s *Service) afterEnd(cl *call, reason EndReason, code int) {
	s.logEnd(cl, reason, code)
	if reason == EndTimeout || reason == EndFailed {
		s.countResults(cl, deviceSilent)
	} else {
		s.countResults(cl, deviceEnded)
	}
	if cl.wake.Kind == push.Refresh { // an invisible push may be delivered late, so silence is no evidence
		return
	}
	if reason == EndFailed {
		s.countFailed(cl)
	}
	if reason != EndAnswered {
		s.countUnanswered(cl)
	}
	if cl.wake.Kind != push.Call {
		return
	}
	cl.end(reason)
	s.tellEnd(cl, reason, "")
	for _, o := range cl.outcomes() {
		if s.policy(o.binding).MissedCall && reason != EndAnswered && reason != EndDeclined {
			s.tell(cl, o.binding, push.Custom, missedCall(cl.wake.values()), missedTTL)
		}
	}
}

// overtaken is how long after wake.end the answering phone's REGISTER may be
// reported.
const overtaken = 500 * time.Millisecond

// tellEnd notifies the devices that were woken in vain, once each: the one named by
// only, or all. Devices whose apps want a cancel push get one; cameLate handles
// those that come back late.
func (s *Service) tellEnd(cl *call, reason EndReason, only string) {
	late := s.remember(cl, reason, only)
	var cancels []*Binding
	for _, o := range cl.outcomes() {
		if only != "" && o.binding.Device != only {
			continue
		}
		b, ok := cl.takeCancel(o.binding.Device, func(b *Binding) push.CancelRule { return s.policy(b).Cancel })
		switch {
		case !ok:
		case reason == EndAnswered: // it may be the one that is talking
			cancels = append(cancels, b)
		default:
			s.tellCancel(cl, reason, b)
		}
	}
	if len(late)+len(cancels) == 0 {
		return
	}
	// A device may have registered already, too late to be added to the call. Its
	// REGISTER may be on its way to us, or may have reached an instance that did not
	// know of the end yet.
	time.AfterFunc(overtaken, func() {
		err := s.Go(func(ctx context.Context) { s.lookAgain(ctx, cl, reason, late, cancels) })
		if err != nil {
			s.repeats.Warn("cannot look for devices that came back late", "aor", cl.wake.AOR, "err", err)
			for _, b := range cancels {
				s.tellCancel(cl, reason, b)
			}
		}
	})
}

// lookAgain reads the user's bindings once. A device that has registered since the
// last known time is told by SIP if it is in late, and gets no cancel push.
func (s *Service) lookAgain(ctx context.Context, cl *call, reason EndReason, late map[string]time.Time, cancels []*Binding) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	list, err := s.store.Bindings(ctx, Query{AOR: cl.wake.AOR})
	if err != nil {
		list = nil // their next REGISTER tells
	}
	since := func(device string, at time.Time) *Binding {
		i := slices.IndexFunc(list, func(b Binding) bool { return b.Device == device && !b.RegisteredAt.Equal(at) })
		if i < 0 {
			return nil
		}
		return &list[i]
	}
	for device, at := range late {
		if b := since(device, at); b != nil && !b.ExpiresAt.IsZero() {
			s.cameLate(&Registration{Binding: *b, Action: ActionBind})
		}
	}
	for _, b := range cancels {
		if since(b.Device, b.RegisteredAt) == nil {
			s.tellCancel(cl, reason, b)
		}
	}
}

// tellCancel sends the device a cancel push.
func (s *Service) tellCancel(cl *call, reason EndReason, b *Binding) {
	v := cl.wake.values()
	v.Reason = string(reason)
	s.tell(cl, b, push.Cancel, v, cancelTTL)
}

// takeCancel reports whether to tell the device that the call is over. One that is
// back learns it by SIP. It reports true only once.
func (cl *call) takeCancel(key string, rule func(*Binding) push.CancelRule) (*Binding, bool) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.device(key)
	if d == nil || d.binding == nil || d.cancelled || cl.wake.Kind != push.Call {
		return nil, false
	}
	pushed := d.accepted && !d.registered && d.state != deviceBack
	switch rule(d.binding) {
	case push.CancelUnanswered:
		d.cancelled = pushed && cl.reason != EndAnswered
	case push.CancelPushed:
		d.cancelled = pushed
	case push.CancelAlways:
		d.cancelled = true
	}
	return d.binding, d.cancelled
}

func missedCall(v push.Values) push.Values {
	who := v.Display
	if who == "" {
		who = v.User
	}
	v.Title, v.Body = "Missed call", who
	return v
}

// tell sends a push about a call that is over. A device without a suitable token (an
// iPhone with only a voip token) learns it by SIP.
func (s *Service) tell(cl *call, b *Binding, k push.Kind, v push.Values, ttl time.Duration) {
	p := DevicePush{Binding: *b, Kind: k, Values: v, Deadline: time.Now().Add(ttl)}
	req, reason := s.requestFor(&p)
	if reason != "" {
		return
	}
	cl.pushEvent(trace.Pushing, b, k, push.Outcome{})
	s.send(s.ctx, &p.Binding, req, func(o push.Outcome) {
		if o.Reason == push.Accepted {
			cl.pushEvent(trace.Accepted, b, k, o)
		} else {
			cl.pushEvent(trace.Failed, b, k, o)
		}
	})
}

// ProgressParams are the parameters of wake.progress: the first provisional response
// of a contact being rung.
type ProgressParams struct {
	Node    string
	AOR     string
	Call    string
	Contact string // as it was named in Live
}

// Progress notes that a device being rung is awake, and cancels its delayed push. It
// reports whether the push was still waiting; for a wake that another instance owns
// it cannot know.
func (s *Service) Progress(_ context.Context, p ProgressParams) (withheld bool, err error) {
	if _, err := s.node(p.Node); err != nil {
		return false, err
	}
	aor, err := CleanAOR(p.AOR)
	if err != nil {
		return false, err
	}
	if err := CheckID("call", p.Call); err != nil {
		return false, err
	}
	if p.Contact == "" {
		return false, &ParamError{"contact", "is missing"}
	}
	w := Wake{Node: p.Node, Call: p.Call, AOR: aor}
	cl := s.calls.get(w.key())
	if cl == nil {
		s.publish(w, EventRings, p.Contact)
		return false, nil
	}
	return s.rings(cl, p.Contact), nil
}

// rings cancels the waiting push of the device that a node names. It reports whether
// one was waiting.
func (s *Service) rings(cl *call, name string) bool {
	key := cl.named(name)
	if key == "" {
		return false
	}
	cl.setRings(key)
	waited, next := cl.awake(key)
	if waited {
		cl.event(trace.Answering, key, "")
		s.follow(cl, next)
	}
	return waited
}
