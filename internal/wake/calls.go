package wake

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/deadline"
	"github.com/sipwake/sipwake/internal/trace"
)

// The calls that this instance owns, and their lifetime.

type callKey struct{ node, call, aor string }

func (w *Wake) key() callKey { return callKey{w.Node, w.Call, w.AOR} }

func (w *Wake) head() trace.Head {
	return trace.Head{ID: w.ID, AOR: w.AOR, Node: w.Node, CallID: w.CallID, Kind: string(w.Kind), StartedAt: w.StartedAt, Parent: w.TraceParent}
}

// calls holds the calls that this instance owns.
type calls struct {
	mu    sync.Mutex
	byKey map[callKey]*call
}

// add returns false if the call is already known.
func (c *calls) add(cl *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[cl.wake.key()] != nil {
		return false
	}
	c.byKey[cl.wake.key()] = cl
	return true
}

func (c *calls) get(k callKey) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[k]
}

// take removes and returns the call, or returns nil if there is none. If one is
// given, take removes only that one.
func (c *calls) take(k callKey, one *call) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.byKey[k]
	if one != nil && cl != one {
		return nil
	}
	delete(c.byKey, k)
	return cl
}

func (c *calls) all() []*call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.byKey))
}

func (c *calls) dropAll() {
	c.mu.Lock()
	all := c.byKey
	c.byKey = make(map[callKey]*call)
	c.mu.Unlock()
	for _, cl := range all {
		cl.stopHolding()
		cl.stopTimer()
	}
}

// stopTimer stops the call's timer, which may be replaced concurrently.
func (cl *call) stopTimer() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.timer.Stop()
}

// open makes the wake a call of this instance. It returns nil if it already is one.
func (s *Service) open(w Wake, n Node, caller string) *call {
	cl := &call{wake: w, node: n, caller: caller, traces: s.traces}
	ctx := deadline.With(s.ctx, w.Deadline)
	cl.ctx, cl.stop = ctx, ctx.Release
	cl.mu.Lock() // the timer may fire before it is stored
	defer cl.mu.Unlock()
	if !s.calls.add(cl) {
		cl.stop()
		return nil
	}
	s.metrics.open.Inc()
	cl.timer = time.AfterFunc(time.Until(w.Deadline), func() { s.holdOver(cl) })
	return cl
}

// holdOver ends the hold time of the call. Phones that came back may go on ringing.
func (s *Service) holdOver(cl *call) {
	cl.stopHolding()
	cl.mu.Lock()
	if cl.closed {
		cl.mu.Unlock()
		return
	}
	cl.ringing = true
	cl.timer = time.AfterFunc(time.Until(cl.wake.Deadline.Add(MaxRing)), func() { s.forget(cl) })
	cl.mu.Unlock()
	s.metrics.open.Dec()
	s.metrics.ringing.Inc()
	cl.event(trace.HoldOver, "", "")
	s.countResults(cl, deviceSilent)
	s.countUnanswered(cl)
}

// forget drops a call whose wake.end never came: its node died, or cannot reach
// sipwake.
func (s *Service) forget(cl *call) {
	if s.calls.take(cl.wake.key(), cl) != nil {
		s.metrics.ringing.Dec()
		s.logEnd(cl, endUnknown, 0)
	}
}

// close removes the call and ends its hold time. It returns nil if this instance
// does not own the call, or has already closed it.
func (s *Service) close(k callKey) *call {
	cl := s.calls.take(k, nil)
	if cl == nil {
		return nil
	}
	cl.stopHolding()
	cl.mu.Lock()
	cl.closed = true
	cl.timer.Stop()
	ringing := cl.ringing
	cl.mu.Unlock()
	s.signals.drop(k)
	if ringing {
		s.metrics.ringing.Dec()
	} else {
		s.metrics.open.Dec()
	}
	return cl
}

// stopHolding drops the delayed pushes and ends the call's context.
func (cl *call) stopHolding() {
	cl.mu.Lock()
	for _, d := range cl.devices {
		d.release()
	}
	cl.mu.Unlock()
	cl.stop()
}
