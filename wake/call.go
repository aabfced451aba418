package wake

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sipwake/sipwake/push"
)

// call is a wake that this instance owns: what became of each device, so
// that the node can stop holding as soon as there is nobody left to wait for.
type call struct {
	wake Wake
	node Node
	// ctx ends with the wake; queued pushes are dropped then.
	ctx    context.Context
	cancel context.CancelFunc

	values push.Values // of its pushes

	mu      sync.Mutex
	started bool // start has queued every push
	ended   bool
	reason  EndReason // of its wake.end, once there was one
	settled bool
	devices map[string]*device
	timer   *time.Timer // at the deadline
}

// device is one device of a call.
type device struct {
	binding  Binding // zero for a device that cannot be pushed
	state    deviceState
	accepted bool        // the push service took its push
	told     bool        // it was sent a cancel push
	refusal  push.Reason // why its push was refused without a try
	withheld *time.Timer // its push waits; nil when it does not
}

type deviceState int

const (
	waiting     deviceState = iota // pushed, about to be pushed, or about to be signalled
	unreachable                    // its push failed for good
	back                           // the node has added it
)

type callKey struct{ node, call, aor string }

func (w Wake) key() callKey { return callKey{w.Node, w.Call, w.AOR} }

// calls holds the open calls that this instance owns.
type calls struct {
	mu    sync.Mutex
	byKey map[callKey]*call
}

// add reports false if the call is open already.
func (c *calls) add(cl *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[cl.wake.key()] != nil {
		return false
	}
	c.byKey[cl.wake.key()] = cl
	return true
}

func (c *calls) get(w Wake) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[w.key()]
}

// take removes the call and ends its context. It returns nil if the call was
// not started here or has been taken.
func (c *calls) take(k callKey) *call {
	c.mu.Lock()
	cl := c.byKey[k]
	delete(c.byKey, k)
	c.mu.Unlock()
	if cl != nil {
		cl.end()
	}
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
		cl.end()
	}
}

func (cl *call) end() {
	cl.mu.Lock()
	cl.ended = true
	if cl.timer != nil {
		cl.timer.Stop()
	}
	for _, d := range cl.devices {
		d.release()
	}
	cl.mu.Unlock()
	cl.cancel()
}

// release stops the timer of a withheld push; it tells whether one was waiting.
func (d *device) release() bool {
	if d.withheld == nil {
		return false
	}
	waiting := d.withheld.Stop()
	d.withheld = nil
	return waiting
}

// verdict is what follows from a change of a call's devices.
type verdict int

const (
	wait       verdict = iota
	nobodyLeft         // every device is unreachable: dead fast
	everyone           // every device that could come back has
)

// add notes a device that is waited for.
func (cl *call) add(key string, b Binding) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.devices[key] = &device{binding: b}
}

// set notes a device's state and says what follows. A device that is back stays
// so. Anything but wait is said once.
func (cl *call) set(key string, st deviceState) verdict {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.devices[key]
	if d == nil { // one that registered for the first time meanwhile
		d = &device{}
		cl.devices[key] = d
	}
	if d.state != back {
		d.state = st
	}
	if st == back {
		d.release()
	}
	return cl.verdict()
}

func (cl *call) isBack(key string) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.devices[key]
	return d != nil && d.state == back
}

// withhold has f called after a while, unless the device proves awake or the
// call ends before.
func (cl *call) withhold(key string, after time.Duration, f func()) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.devices[key]; !cl.ended && d.state == waiting {
		d.withheld = time.AfterFunc(after, f)
	}
}

// released tells once that the device's withheld push need not be sent.
func (cl *call) released(key string) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.devices[key]
	return d != nil && d.release()
}

// over notes why the call ended.
func (cl *call) over(reason EndReason) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.reason = reason
}

// each calls f with every device that can be pushed. The call must have ended.
func (cl *call) each(f func(*device)) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, d := range cl.devices {
		if d.binding.AOR != "" {
			f(d)
		}
	}
}

// allQueued says that no device will be added by start any more.
func (cl *call) allQueued() verdict {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.started = true
	return cl.verdict()
}

func (cl *call) verdict() verdict {
	if !cl.started || cl.ended || cl.settled {
		return wait
	}
	v := nobodyLeft
	for _, d := range cl.devices {
		switch d.state {
		case waiting:
			return wait
		case back:
			v = everyone
		}
	}
	cl.settled = true
	return v
}

// newCall opens a call, or returns nil if it is open here already.
func (s *Service) newCall(w Wake, n Node) *call {
	cl := &call{wake: w, node: n, values: values(w), devices: make(map[string]*device)}
	cl.ctx, cl.cancel = context.WithCancel(s.ctx)
	if !s.calls.add(cl) {
		cl.cancel()
		return nil
	}
	s.metrics.open.Inc()
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.ended {
		cl.timer = time.AfterFunc(time.Until(w.Deadline), func() {
			if s.endCall(w.key()) != nil {
				s.strikeUnanswered(cl)
			}
		})
	}
	return cl
}

// endCall forgets the call and drops the pushes that wait. It returns nil if the
// call was not started here or is over.
func (s *Service) endCall(k callKey) *call {
	cl := s.calls.take(k)
	if cl != nil {
		s.metrics.open.Dec()
	}
	return cl
}

// pushed takes the outcome of one device's push.
func (s *Service) pushed(cl *call, b Binding, req push.Request, o push.Outcome) {
	if o.Reason == push.Accepted {
		s.traces.add(cl.wake, time.Now(), eventAccepted, b.Device, string(req.Provider))
		cl.accepted(b.Device, func(d *device) { s.tellCancelled(cl, d) })
		if s.peers != nil {
			s.peers.Pushed(cl.wake, b.Device)
		}
		s.judge(b, req, o)
		return
	}
	s.traces.add(cl.wake, time.Now(), eventPushFailed, b.Device, failure(o))
	if o.Reason == push.ShutDown && s.peers != nil {
		return // the instance that adopts the wake pushes
	}
	if o.Tries == 0 {
		cl.refused(b.Device, o.Reason)
	}
	s.follow(cl, cl.set(b.Device, unreachable))
	s.judge(b, req, o)
}

// accepted notes that the push service took the device's push. If the call has
// ended while the push was under way, it calls late with the device.
func (cl *call) accepted(key string, late func(*device)) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.devices[key]
	if d == nil {
		return
	}
	d.accepted = true
	if cl.reason != "" && late != nil {
		late(d)
	}
}

func (cl *call) refused(key string, reason push.Reason) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.devices[key]; d != nil {
		d.refusal = reason
	}
}

func failure(o push.Outcome) string {
	if o.Detail == "" {
		return string(o.Reason)
	}
	return string(o.Reason) + ": " + o.Detail
}

// follow tells the node to stop holding when there is nobody left to wait for.
func (s *Service) follow(cl *call, v verdict) {
	switch v {
	case nobodyLeft:
		s.giveUp(cl, 0)
	case everyone:
		s.giveUp(cl, s.settings.Load().Settle)
	}
}
