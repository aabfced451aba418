package wake

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// call is a wake that this instance owns, from wake.start to wake.end, with the
// state of each device.
//
// Its context ends with the hold time. Nobody is pushed or signalled after that, but
// phones may ring, and the call is kept until it has ended.
type call struct {
	wake   Wake
	node   Node
	caller string // as returned by CallerOf
	traces *trace.Log

	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	queued  bool // every device of wake.start has been added
	settled bool // the node was told to stop holding, or this instance must not tell it
	counted bool // devices that did not answer have been counted
	results bool // the result of each device has been counted
	ringing bool // the hold time is over
	closed  bool // removed from the calls

	stored atomic.Bool // the store knows it, so other instances may too

	outcome Outcome   // the answer to wake.start; empty if another instance gave it
	alerted bool      // the node has been told to answer the caller
	limit   sync.Once // checks the limits
	over    bool      // it may not push: it exceeds a limit
	reason  EndReason
	devices []*device   // a few at most
	timer   *time.Timer // for the end of the hold time, then of MaxRing
}

// device is one device of a call.
type device struct {
	key        string
	binding    *Binding // nil for a device that cannot be pushed; does not change
	state      deviceState
	registered bool        // since the call came: it learns of the end by SIP
	rings      bool        // it has answered the request itself
	accepted   bool        // the push service accepted its push
	ended      push.Reason // how its push ended; empty until then
	endedAt    time.Time
	cameBack   time.Time   // when this instance learned of its return
	cancelled  bool        // it was sent a cancel push
	refusal    push.Reason // why its push was refused without an attempt
	delayed    *time.Timer // its delayed push; nil if there is none
	pushNow    func()      // sends the delayed push
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

// pushEvent adds a step of the device's push. of is the purpose of the push, empty
// for the call itself; o is its outcome, if it has one.
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

// release stops the timer of a delayed push and returns the function that sends it,
// or nil if no push is delayed.
func (d *device) release() func() {
	if d.delayed == nil || !d.delayed.Stop() {
		return nil
	}
	d.delayed = nil
	return d.pushNow
}

// decision is the consequence of a change to a call's devices.
type decision int

const (
	goOn         decision = iota
	nobodyLeft            // every device is unreachable: give up early
	everyoneBack          // every device that could come back has
)

// device returns the device with that key, or nil. The lock must be held.
func (cl *call) device(key string) *device {
	for _, d := range cl.devices {
		if d.key == key {
			return d
		}
	}
	return nil
}

// make returns the device with that key, creating it if necessary. The lock must be
// held.
func (cl *call) make(key string) *device {
	d := cl.device(key)
	if d == nil {
		d = &device{key: key}
		cl.devices = append(cl.devices, d)
	}
	return d
}

// add records a device to wait for; b is nil if it cannot be pushed. If the device
// is already back, it stays so and add returns false.
func (cl *call) add(key string, b *Binding) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.make(key)
	if b != nil {
		d.binding = b
	}
	return d.state != deviceBack
}

// setBack records that the device came back and was added to the call. A device not
// known before has registered for the first time. A decision other than goOn is
// returned only once.
func (cl *call) setBack(key string) decision {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	d := cl.make(key)
	d.back()
	d.release()
	return cl.decide()
}

// back records that the device is back.
func (d *device) back() {
	d.state = deviceBack
	d.seen()
}

// seen records when the device came back.
func (d *device) seen() {
	if d.cameBack.IsZero() {
		d.cameBack = time.Now()
	}
}

// setUnreachable records that the device's push failed permanently. A device that is
// back stays so.
func (cl *call) setUnreachable(key string) decision {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil && d.state == deviceWaiting {
		d.state = deviceUnreachable
	}
	return cl.decide()
}

// allQueued records that wake.start will add no more devices.
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

// setRegistered records that the device has registered since the call came. The node
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

// delay calls f after a while, unless the device proves to be awake or the hold time
// ends first.
func (cl *call) delay(key string, after time.Duration, f func()) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); cl.ctx.Err() == nil && d.state == deviceWaiting {
		d.pushNow = f
		d.delayed = time.AfterFunc(after, f)
	}
}

// hurry sends the device's delayed push now, if there is one.
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

// awake records that the device is awake: it answers the request that it was rung
// for. It reports whether its push was still delayed.
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

// named returns the device that a node names by the Call-ID of its registration or
// by its Contact URI, or "".
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

// accept records that the push service accepted the device's push. It reports
// whether the call had already ended.
func (cl *call) accept(key string) (ended bool) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil {
		d.accepted = true
	}
	return cl.reason != ""
}

// pushEnded records how the device's push ended.
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

// refusal returns why the device's push was refused at once, or "". A push that was
// attempted and has already failed counts as sent: the node learns of it by a
// signal.
func (cl *call) refusal(key string) push.Reason {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.device(key).refusal
}

// setRings records that the device answers the request that it was rung for.
func (cl *call) setRings(key string) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if d := cl.device(key); d != nil {
		d.rings = true
	}
}

// alertOnce calls f the first time, and only while the call is open.
func (cl *call) alertOnce(f func()) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.alerted && !cl.closed {
		cl.alerted = true
		f()
	}
}

// endReason returns why the call ended, or "" while it is open.
func (cl *call) endReason() EndReason {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.reason
}

// end records why the call ended.
func (cl *call) end(reason EndReason) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.reason = reason
}

// outcome is the state of a device when its call ends.
type outcome struct {
	binding  *Binding
	knows    bool // it has the request, and learns of its end by SIP
	accepted bool // the push service accepted its push
	back     bool // it has registered since the call came, or answered
}

// outcomes returns the outcome of each device that can be pushed.
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

// countOnce reports whether to count the devices that did not answer: true only
// once.
func (cl *call) countOnce() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.counted {
		return false
	}
	cl.counted = true
	return true
}
