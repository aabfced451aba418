package wake

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// What is remembered of calls that have ended: strangers can call without end.
const (
	maxLate       = 1 << 14
	maxLateOfUser = 8 // the youngest
	lateTimeout   = 5 * time.Second
)

// Over is a call that has ended, with the devices whose push for it was accepted and
// that have not heard of its end by SIP. They ring, or are about to.
type Over struct {
	Wake    Wake
	Reason  EndReason
	Devices []string
	Left    time.Duration // for how long it is remembered yet

	mine bool      // this instance tells the device
	from time.Time // when it may be told: its node has heard by then of what crossed the end
}

// lateCalls are the calls that a device may come back late for. Safe for concurrent
// use.
type lateCalls struct {
	mu    sync.Mutex
	n     int
	byAOR map[string][]*lateCall // oldest first
}

// lateCall is one of them.
type lateCall struct {
	Over
	until time.Time
	timer *time.Timer // forgets it
}

// add remembers a call, or more devices of it.
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

// remove forgets a call; the lock is held.
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

// take returns the calls that the device has not heard the end of, and forgets them
// for it.
func (l *lateCalls) take(aor, device string) (calls []Over) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range slices.Clone(l.byAOR[aor]) {
		if i := slices.Index(c.Devices, device); i >= 0 {
			o := c.Over
			o.Left = time.Until(c.until)
			calls = append(calls, o)
			l.forget(c, i)
		}
	}
	return calls
}

// heard notes that the device is in the call by SIP.
func (l *lateCalls) heard(k callKey, device string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range slices.Clone(l.byAOR[k.aor]) {
		if i := slices.Index(c.Devices, device); i >= 0 && c.Wake.key() == k {
			l.forget(c, i)
		}
	}
}

func (l *lateCalls) forget(c *lateCall, i int) {
	if c.Devices = slices.Delete(slices.Clone(c.Devices), i, i+1); len(c.Devices) == 0 {
		l.remove(c)
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

// remember keeps in mind, here and at the other instances, which devices were pushed
// for a call that has ended and have not heard of its end: those given, or all.
func (s *Service) remember(cl *call, reason EndReason, only string) {
	after := s.settings.Load().Late
	o := Over{Wake: cl.wake, Reason: reason, Left: max(time.Until(cl.wake.Deadline), 0) + after}
	o.Wake.Body, o.Wake.TraceParent = "", ""
	registered := map[string]time.Time{}
	for _, d := range cl.outcomes() {
		b := d.binding
		if d.accepted && !d.knows && (only == "" || only == b.Device) && s.policy(b).Late == push.LateCancel {
			o.Devices = append(o.Devices, b.Device)
			registered[b.Device] = b.RegisteredAt
		}
	}
	if len(o.Devices) == 0 {
		return
	}
	s.late.add(o)
	s.publishEvent(Event{Type: EventOver, Node: o.Wake.Node, Call: o.Wake.Call, AOR: o.Wake.AOR, Over: &o})
	// A device may have registered already, and was not added to the call any more; its
	// REGISTER may be on its way to us, or have come to an instance that had not heard yet.
	time.AfterFunc(overtaken, func() {
		err := s.Go(func(ctx context.Context) { s.cameMeanwhile(ctx, o.Wake.AOR, registered) })
		if err != nil {
			s.repeats.Warn("cannot look for devices that came back late", "aor", o.Wake.AOR, "err", err)
		}
	})
}

// cameMeanwhile tells those of the devices that have registered since then.
func (s *Service) cameMeanwhile(ctx context.Context, aor string, since map[string]time.Time) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	list, err := s.store.Bindings(ctx, Query{AOR: aor})
	if err != nil {
		return // its next REGISTER tells
	}
	for i := range list {
		b := &list[i]
		if at, ok := since[b.Device]; ok && !b.RegisteredAt.Equal(at) && !b.ExpiresAt.IsZero() {
			s.cameLate(&Registration{Binding: *b, Action: ActionBind})
		}
	}
}

// cameLate has a device that has registered told which of the calls that it was pushed
// for are over.
func (s *Service) cameLate(reg *Registration) {
	if reg.Gone || reg.Device == "" {
		return
	}
	calls := s.late.take(reg.AOR, reg.Device)
	if len(calls) == 0 {
		return
	}
	r := *reg // most devices come for no call: only now it is worth a copy that stays
	err := s.Go(func(ctx context.Context) {
		for _, o := range calls {
			s.tellLate(ctx, o, r)
		}
	})
	if err != nil {
		s.untold(&calls[0], &r, err)
	}
}

// tellLate has the node of the registration ring the device, and stop at once.
func (s *Service) tellLate(ctx context.Context, o Over, r Registration) {
	ctx, cancel := context.WithTimeout(ctx, lateTimeout)
	defer cancel()
	if s.others != nil && !o.mine {
		mine, err := s.sweeper.Claim(ctx, "over "+o.Wake.ID+" "+r.Device, o.Left)
		if err == nil && !mine {
			return // another instance tells it
		}
	}
	if !sleep(ctx, time.Until(o.from)) {
		return
	}
	pause := firstPause
	for n := 0; ; n++ {
		node, err := s.node(r.Node)
		if err != nil {
			s.untold(&o, &r, err)
			return
		}
		answer, err := node.TellOver(ctx, o.Wake, o.Reason, r, n >= exactTries)
		s.metrics.countSignal(r.Node, answer, err)
		if err == nil && answer != SignalNoContact {
			s.traces.Begin(o.Wake.head())
			s.event(&o.Wake, trace.Late, r.Device, string(answer))
			if answer == SignalUnsent { // it will register again
				o.Devices, o.mine = []string{r.Device}, true
				s.late.add(o)
			}
			return
		}
		if !sleep(ctx, pause) {
			if err == nil {
				err = ctx.Err()
			}
			s.untold(&o, &r, err)
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// sleep waits, and reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Service) untold(o *Over, r *Registration, err error) {
	s.traces.Begin(o.Wake.head())
	s.event(&o.Wake, trace.Late, r.Device, err.Error())
	s.repeats.Warn("cannot tell a device that its call is over", "node", r.Node, "aor", r.AOR, "call_id", o.Wake.CallID, "err", err)
}
