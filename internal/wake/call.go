package wake

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// call is a wake that this instance owns, from wake.start to wake.end, and what
// has become of each device.
//
// Its context ends with the hold time: then nobody is pushed or signalled any more,
// but phones may ring, and the call is known until it has ended.
type call struct {
	wake   Wake
	node   Node
	caller string // as CallerOf names him
	traces *trace.Log

	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	queued  bool // every device of wake.start has been added
	settled bool // the node has been told to stop holding, or must not be told by this instance
	counted bool // devices that did not answer have been counted
	results bool // what became of each device has been counted
	ringing bool // the hold time is over
	closed  bool // it is no longer among the calls

	stored atomic.Bool // the store knows of it, and so may other instances

	outcome Outcome   // what wake.start answered; empty if another instance did
	alerted bool      // the node has been told to answer the caller
	limit   sync.Once // asks whether the call may push
	over    bool      // it must not: it exceeds a limit
	reason  EndReason
	devices []*device   // a few at most
	timer   *time.Timer // at the end of the hold time, then at that of MaxRing
}

// device is one device of a call.
type device struct {
	key        string
	binding    *Binding // nil for a device that cannot be pushed; does not change
	state      deviceState
	registered bool        // since the call came: it hears the end from SIP
	rings      bool        // it has answered the request itself
	accepted   bool        // the push service took its push
	ended      push.Reason // how its push ended, empty before that
	endedAt    time.Time
	cameBack   time.Time   // when this instance learned that it is back
	cancelled  bool        // it was sent a cancel push
	refusal    push.Reason // why its push was refused without a try
	delayed    *time.Timer // its push waits; nil when it does not
	pushNow    func()      // sends the push that waits
}

type deviceState int

const (
	deviceWaiting     deviceState = iota // pushed, about to be pushed, or about to be signalled
	deviceUnreachable                    // its push failed for good
	deviceBack                           // it has registered, and the node has added it
)

// event adds a step to the call's timeline.
func (cl *call) event(name trace.EventName, device, detail string) {
	cl.traces.Add(cl.wake.ID, trace.Event{At: time.Now(), Name: name, Device: device, Detail: detail})
}

// pushEvent adds a step of the device's push. of is what the push is for, empty for
// the call itself; o is its outcome, of a push that has one.
func (cl *call) pushEvent(name trace.EventName, b *Binding, of push.Kind, o push.Outcome) {
	e := trace.Event{At: time.Now(), Name: name, Device: b.Device, Detail: string(b.Address.Provider),
		Provider: string(b.Address.Provider), App: b.Address.App, Kind: string(of), ID: o.ID, Tries: o.Tries, SentAt: o.SentAt}
	switch {
	case name == trace.Failed:
		e.Detail = failure(o)
	case of != "":
		e.Detail = string(of)
	}
	cl.traces.Add(cl.wake.ID, e)
}

// release stops the timer of a push that waits, and returns what sends it; nil if
// none waits.
func (d *device) release() func() {
	if d.delayed == nil || !d.delayed.Stop() {
		return nil
	}
	d.delayed = nil
	return d.pushNow
}

// decision is what follows from a change of a call's devices.
type decision int

const (
	goOn         decision = iota
	nobodyLeft            // every device is unreachable: dead fast
	everyoneBack          // every device that could come back has
)

// device returns the device of that key, nil if there is none. The lock is held.
func (cl *call) device(key string) *device {
	for _, d := range cl.devices {
		if d.key == key {
			return d
		}
	}
	return nil
}

// make returns the device of that key, which it makes if need be. The lock is held.
func (cl *call) make(key string) *device {
	d := cl.device(key)
	if d == nil {
		d = &device{key: key}
		cl.devices = append(cl.devices, d)
	}
	return d
}

// add notes a device that is waited for; b is nil if it cannot be pushed. One that
// came back before it was added stays so: add reports false then.
func (cl *call) add(key string, b *Binding) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.make(key)
	if b != nil {
		d.binding = b
	}
	return d.state != deviceBack
}

// setBack notes that the device came back and was added to the call. One that was
// not known has registered for the first time. Anything but goOn is said once.
func (cl *call) setBack(key string) decision {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.make(key)
	d.back()
	d.release()
	return cl.decide()
}

// back notes that the device is.
func (d *device) back() {
	d.state = deviceBack
	d.seen()
}

// seen notes when the device came back.
func (d *device) seen() {
	if d.cameBack.IsZero() {
		d.cameBack = time.Now()
	}
}

// setUnreachable notes that the device's push failed for good. A device that is
// back stays so.
func (cl *call) setUnreachable(key string) decision {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil && d.state == deviceWaiting {
		d.state = deviceUnreachable
	}
	return cl.decide()
}

// allQueued says that no device will be added by wake.start any more.
func (cl *call) allQueued() decision {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.queued = true
	return cl.decide()
}

func (cl *call) decide() decision {
	if !cl.queued || cl.settled || cl.ctx.Err() != nil {
		return goOn
	}
	next := nobodyLeft
	for _, d := range cl.devices {
		switch d.state {
		case deviceWaiting:
			return goOn
		case deviceBack:
			next = everyoneBack
		}
	}
	cl.settled = true
	return next
}

// setRegistered notes that the device has registered since the call came. The node
// may not have added it yet.
func (cl *call) setRegistered(key string) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil {
		d.registered = true
		d.seen()
	}
}

func (cl *call) isBack(key string) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.device(key)
	return d != nil && d.state == deviceBack
}

// delay has f called after a while, unless the device proves to be awake or the
// hold time ends before.
func (cl *call) delay(key string, after time.Duration, f func()) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); cl.ctx.Err() == nil && d.state == deviceWaiting {
		d.pushNow = f
		d.delayed = time.AfterFunc(after, f)
	}
}

// hurry sends the device's push now, if it waits.
func (cl *call) hurry(key string) {
	cl.mu.Lock()
	var push func()
	if d := cl.device(key); d != nil {
		push = d.release()
	}
	cl.mu.Unlock()
	if push != nil {
		push()
	}
}

// awake notes that the device is awake: it answers the request that it was rung
// for. It reports whether its push was still waiting.
func (cl *call) awake(key string) (waited bool, next decision) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.device(key)
	if d == nil || d.release() == nil {
		return false, goOn
	}
	d.back()
	return true, cl.decide()
}

// named returns the device that a node names by the Call-ID of its registration,
// or by its Contact URI; "" if there is none.
func (cl *call) named(name string) string {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for _, d := range cl.devices {
		if d.binding != nil && d.binding.named(name) {
			return d.key
		}
	}
	return ""
}

// accept notes that the push service took the device's push. It reports whether
// the call had ended by then.
func (cl *call) accept(key string) (ended bool) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil {
		d.accepted = true
	}
	return cl.reason != ""
}

// pushEnded notes how the device's push ended.
func (cl *call) pushEnded(key string, reason push.Reason) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil {
		d.ended, d.endedAt = reason, time.Now()
	}
}

func (cl *call) refuse(key string, reason push.Reason) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil {
		d.refusal = reason
	}
}

// refusal is why the device's push was refused at once, empty if it was not. A
// push that was tried and failed already counts as sent: the node hears of it by
// a signal.
func (cl *call) refusal(key string) push.Reason {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.device(key).refusal
}

// setRings notes that the device answers the request that it was rung for.
func (cl *call) setRings(key string) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil {
		d.rings = true
	}
}

// alertOnce calls f, the first time and only while the call is open.
func (cl *call) alertOnce(f func()) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.alerted && !cl.closed {
		cl.alerted = true
		f()
	}
}

// endReason is why the call ended, empty before that.
func (cl *call) endReason() EndReason {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.reason
}

// end notes why the call ended.
func (cl *call) end(reason EndReason) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.reason = reason
}

// outcome is what has become of a device, as the end of its call finds it.
type outcome struct {
	binding  *Binding
	knows    bool // it has got the request, and hears of its end by SIP
	accepted bool // the push service took its push
	back     bool // it has registered since the call came, or answered
}

// outcomes returns what has become of each device that can be pushed.
func (cl *call) outcomes() []outcome {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	list := make([]outcome, 0, len(cl.devices))
	for _, d := range cl.devices {
		if d.binding != nil {
			list = append(list, outcome{d.binding, d.rings || d.state == deviceBack, d.accepted, d.registered || d.state == deviceBack})
		}
	}
	return list
}

// countOnce reports whether the devices that did not answer are to be counted now.
func (cl *call) countOnce() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.counted {
		return false
	}
	cl.counted = true
	return true
}
