package wake

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// Bounds on what is remembered of ended calls: strangers can call endlessly.
const (
	maxLate       = 1 << 14
	maxLateOfUser = 8 // the newest
	lateTimeout   = 5 * time.Second
)

// Over is a call that has ended, with the devices whose push for it was accepted and
// that have not learned of its end by SIP. They are ringing, or are about to.
type Over struct {
	Wake    Wake
	Reason  EndReason
	Devices []string
	Left    time.Duration // how much longer it is remembered

	from time.Time // earliest time to tell it: by then its node knows what crossed the end
}

// lateCalls are the calls that a device may come back too late for. Safe for
// concurrent use.
type lateCalls struct {
	mu    sync.Mutex
	n     int
	byAOR map[string][]*lateCall // oldest first
}

// lateCall is one call of lateCalls.
type lateCall struct {
	Over
	until time.Time
	timer *time.Timer // removes it
}

// add remembers a call, or adds devices to it.
func (l *lateCalls) add(o Over) {
	if o.Left <= 0 || len(o.Devices) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.byAOR[o.Wake.AOR]
	for _, c := range list {
		if c.Wake.ID == o.Wake.ID {
			for _, d := range o.Devices {
				if !slices.Contains(c.Devices, d) {
					c.Devices = append(c.Devices, d)
				}
			}
			return
		}
	}
	if len(list) >= maxLateOfUser {
		l.remove(list[0])
	}
	if l.n >= maxLate {
		return
	}
	o.Devices = slices.Clone(o.Devices)
	o.from = time.Now().Add(overtaken)
	c := &lateCall{Over: o, until: time.Now().Add(o.Left)}
	c.timer = time.AfterFunc(o.Left, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(c)
	})
	l.byAOR[o.Wake.AOR] = append(l.byAOR[o.Wake.AOR], c)
	l.n++
}

// remove forgets a call. The lock must be held.
func (l *lateCalls) remove(c *lateCall) {
	list := l.byAOR[c.Wake.AOR]
	i := slices.Index(list, c)
	if i < 0 {
		return
	}
	c.timer.Stop()
	l.n--
	if len(list) == 1 {
		delete(l.byAOR, c.Wake.AOR)
		return
	}
	l.byAOR[c.Wake.AOR] = slices.Delete(list, i, i+1)
}

// of returns the calls whose end the device has not learned of.
func (l *lateCalls) of(aor, device string) (calls []Over) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.byAOR[aor] {
		if slices.Contains(c.Devices, device) {
			o := c.Over
			o.Left = time.Until(c.until)
			calls = append(calls, o)
		}
	}
	return calls
}

// waits reports whether the device has yet to learn of the call's end.
func (l *lateCalls) waits(k callKey, device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.byAOR[k.aor], func(c *lateCall) bool {
		return c.Wake.key() == k && slices.Contains(c.Devices, device)
	})
}

// heard records that the device knows: it is in the call by SIP, or was told.
func (l *lateCalls) heard(k callKey, device string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range slices.Clone(l.byAOR[k.aor]) {
		i := slices.Index(c.Devices, device)
		if i < 0 || c.Wake.key() != k {
			continue
		}
		if c.Devices = slices.Delete(slices.Clone(c.Devices), i, i+1); len(c.Devices) == 0 {
			l.remove(c)
		}
	}
}

func (l *lateCalls) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range l.byAOR {
		for _, c := range slices.Clone(list) {
			l.remove(c)
		}
	}
}

// late returns the part of a wake kept for devices that come back late: enough to
// tell them.
func (w *Wake) late() Wake {
	return Wake{ID: w.ID, AOR: w.AOR, Node: w.Node, Call: w.Call, CallID: w.CallID, Kind: w.Kind,
		StartedAt: w.StartedAt, Deadline: w.Deadline, Owner: w.Owner, From: w.From, Display: w.Display}
}

// remember records, here and at the other instances, which devices were pushed for
// an ended call and do not know of its end: the one given, or all. It returns the
// time at which each of them had last registered.
func (s *Service) remember(cl *call, reason EndReason, only string) map[string]time.Time {
	o := Over{Wake: cl.wake.late(), Reason: reason, Left: max(time.Until(cl.wake.Deadline), 0) + s.settings.Load().Late}
	registered := map[string]time.Time{}
	for _, d := range cl.outcomes() {
		b := d.binding
		if d.accepted && !d.knows && (only == "" || only == b.Device) && s.policy(b).Late == push.LateCancel {
			o.Devices = append(o.Devices, b.Device)
			registered[b.Device] = b.RegisteredAt
		}
	}
	if len(o.Devices) > 0 {
		s.late.add(o)
		s.publishEvent(Event{Type: EventOver, Node: o.Wake.Node, Call: o.Wake.Call, AOR: o.Wake.AOR, Over: &o})
	}
	return registered
}

// cameLate tells a device that has registered which of the calls it was pushed for
// are over.
func (s *Service) cameLate(reg *Registration) {
	if reg.Gone || reg.Device == "" {
		return
	}
	calls := s.late.of(reg.AOR, reg.Device)
	if len(calls) == 0 {
		return
	}
	r := *reg // most devices come for no call: make a lasting copy only now
	err := s.Go(func(ctx context.Context) {
		for _, o := range calls {
			s.tellLate(ctx, o, r)
		}
	})
	if err != nil {
		s.untold(&calls[0].Wake, &r, err)
	}
}

// tellLate makes the node of the registration ring the device and stop at once. If
// several instances see a REGISTER, only one does this. If the node does not reach
// the device, its next REGISTER triggers another attempt, on whichever instance gets
// it.
func (s *Service) tellLate(ctx context.Context, o Over, r Registration) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if s.others != nil {
		key := fmt.Sprintf("over %s %s %s %d", o.Wake.ID, r.Device, r.CallID, r.CSeq)
		if mine, err := s.sweeper.Claim(ctx, key, o.Left); err == nil && !mine {
			return
		}
	}
	node, err := s.node(r.Node)
	if err == nil {
		after := time.Until(o.from)
		err = s.signals.add(&signal{wake: &o.Wake, node: node, over: o.Reason, device: r.Device, registration: &r,
			deadline: time.Now().Add(max(after, 0) + lateTimeout)}, after)
	}
	if err != nil {
		s.untold(&o.Wake, &r, err)
	}
}

// deliverOver makes one attempt to tell the node of the registration. The device may
// have learned of the end meanwhile.
func (s *Service) deliverOver(ctx context.Context, node Node, sig *signal, force bool) (done bool, err error) {
	w, r := sig.wake, sig.registration
	if !s.late.waits(w.key(), r.Device) {
		return true, nil
	}
	answer, err := node.TellOver(ctx, *w, sig.over, *r, force)
	s.metrics.countSignal(r.Node, answer, err)
	if err != nil || answer == SignalNoContact {
		return false, err
	}
	s.traces.Begin(w.head())
	s.event(w, trace.Late, r.Device, string(answer))
	if answer != SignalUnsent {
		s.late.heard(w.key(), r.Device)
		s.publish(*w, EventBack, r.Device)
	}
	return true, nil
}

func (s *Service) untold(w *Wake, r *Registration, err error) {
	s.traces.Begin(w.head())
	s.event(w, trace.Late, r.Device, err.Error())
	s.repeats.Warn("cannot tell a device that its call is over", "node", r.Node, "aor", r.AOR, "call_id", w.CallID, "err", err)
}
