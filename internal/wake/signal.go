package wake

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// exactTries is how many times a node is asked for the exact registration that it is
// told of. Replication between nodes can reorder permanently, so after that many
// attempts (630 ms) the node is told to use what it has.
const exactTries = 6

// signal tells the node of w that r's device is reachable. fresh means that the
// device registered after the request arrived, so it counts as back.
func (s *Service) signal(w *Wake, r *Registration, fresh bool) {
	node, err := s.node(w.Node)
	sig := &signal{wake: w, node: node, device: r.key(), registration: r, fresh: fresh}
	if err == nil {
		err = s.signals.add(sig, 0)
	}
	if err != nil {
		s.unsignalled(sig, err)
	}
}

// giveUp tells the node, after a delay, to stop holding. Ringing branches continue.
func (s *Service) giveUp(cl *call, after time.Duration) {
	sig := &signal{wake: &cl.wake, node: cl.node, giveUp: true}
	if err := s.signals.add(sig, after); err != nil {
		s.unsignalled(sig, err)
	}
}

// follow tells the node to stop holding when there is nobody left to wait for.
func (s *Service) follow(cl *call, d decision) {
	switch d {
	case nobodyLeft:
		s.giveUp(cl, 0)
	case everyoneBack:
		s.giveUp(cl, s.settings.Load().Linger)
	}
}

// deliver makes one attempt to signal a node.
func (s *Service) deliver(ctx context.Context, sig *signal, n int) (done bool, err error) {
	node := sig.node
	if now, err := s.node(sig.at()); err == nil {
		node = now
	}
	if sig.over != "" {
		return s.deliverOver(ctx, node, sig, n >= exactTries)
	}
	if sig.giveUp {
		return s.deliverGiveUp(ctx, node, sig)
	}
	if sig.alert {
		return s.deliverAlert(ctx, node, sig)
	}
	answer, err := node.Wake(ctx, *sig.wake, *sig.registration, n >= exactTries)
	s.metrics.countSignal(sig.wake.Node, answer, err)
	if err != nil || answer == SignalNoContact {
		return false, err
	}
	s.metrics.exemplars.Observe(s.metrics.signal, time.Since(sig.began).Seconds(), sig.wake.CallID)
	s.event(sig.wake, trace.Signalled, sig.registration.Device, string(answer))
	cl := s.calls.get(sig.wake.key())
	switch {
	case answer == SignalUnsent:
		if cl != nil {
			cl.hurry(sig.device)
		}
	case answer != SignalAdded && answer != SignalDuplicate:
	case !sig.fresh && sig.registration.Action == ActionBind:
		// The REGISTER is older than the request: only the phone itself can prove that
		// it is awake.
	case cl != nil:
		s.follow(cl, cl.setBack(sig.device))
	default:
		s.late.heard(sig.wake.key(), sig.device) // the call ended meanwhile
		s.publish(*sig.wake, EventBack, sig.device)
	}
	return true, nil
}

func (s *Service) deliverGiveUp(ctx context.Context, node Node, sig *signal) (done bool, err error) {
	answer, err := node.GiveUp(ctx, *sig.wake)
	s.metrics.countSignal(sig.wake.Node, answer, err)
	if err != nil || answer == SignalBusy {
		return false, err
	}
	s.event(sig.wake, trace.GaveUp, "", string(answer))
	return true, nil
}

// alert tells the caller, once, that a phone is being woken.
func (s *Service) alert(cl *call) {
	if cl.wake.Kind != push.Call || s.settings.Load().Alert.Code == noAlert {
		return
	}
	sig := &signal{wake: &cl.wake, node: cl.node, alert: true}
	var err error
	cl.alertOnce(func() { err = s.signals.add(sig, 0) }) // before the end of the call drops its signals
	if err != nil {
		s.unsignalled(sig, err)
	}
}

func (s *Service) deliverAlert(ctx context.Context, node Node, sig *signal) (done bool, err error) {
	a := s.settings.Load().Alert
	answer, err := node.Alert(ctx, *sig.wake, a.Code, a.Text)
	s.metrics.countSignal(sig.wake.Node, answer, err)
	if err != nil {
		return false, err
	}
	s.event(sig.wake, trace.Alerting, "", fmt.Sprintf("%d %s: %s", a.Code, a.Text, answer))
	return true, nil
}

// unsignalled notes that a node could not be signalled.
func (s *Service) unsignalled(sig *signal, err error) {
	w := sig.wake
	if sig.over != "" {
		s.untold(w, sig.registration, err)
		return
	}
	device := ""
	if sig.registration != nil {
		device = sig.registration.Device
	}
	s.event(w, trace.Lost, device, w.Node+": "+strings.TrimPrefix(err.Error(), fmt.Sprintf("cannot signal node %q: ", w.Node)))
	if sig.alert {
		s.repeats.Warn("cannot tell node to answer the caller", "node", w.Node, "aor", w.AOR, "call_id", w.CallID, "err", err)
		return
	}
	if sig.giveUp {
		s.repeats.Warn("cannot tell node to stop holding", "node", w.Node, "aor", w.AOR, "call_id", w.CallID, "err", err)
		return
	}
	s.repeats.Error("cannot signal node", "node", w.Node, "aor", w.AOR, "call_id", w.CallID, "err", err)
}

// event adds a step to the timeline of a wake, whichever instance owns it.
func (s *Service) event(w *Wake, name trace.EventName, device, detail string) {
	s.traces.Add(w.ID, trace.Event{At: time.Now(), Name: name, Device: device, Detail: detail})
}
