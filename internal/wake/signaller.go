package wake

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/deadline"
)

const (
	firstPause = 10 * time.Millisecond // between tries of a signal, doubling
	maxPause   = time.Second
	// maxSignals bounds the pending signals of all nodes together, maxOfWake those of
	// one wake: strangers can make up devices.
	maxSignals = 1 << 16
	maxOfWake  = 64
)

// signaller tells nodes about their held requests. It retries each signal until the
// node has accepted it or the hold time is over.
//
// There is one pending signal per wake and device; a newer REGISTER replaces an
// older one. Each node has a number of slots for concurrent attempts. Signals
// without a slot wait, and take turns by AOR. So neither an unresponsive node nor a
// user with many requests delays others.
type signaller struct {
	ctx    context.Context // of all tries
	slots  int             // of each node
	try    func(ctx context.Context, sig *signal, n int) (done bool, err error)
	failed func(sig *signal, err error) // the hold time ended first

	mu      sync.Mutex
	nodes   map[string]*nodeSignals
	pending int
	stopped bool
	idle    chan struct{} // closed once stopped and nothing is pending
	running sync.WaitGroup
}

// nodeSignals holds the signals to one node.
type nodeSignals struct {
	free  int // slots
	byKey map[callKey]map[string]*signal
	ready fairQueue[string, *signal] // by AOR; waiting for a slot
}

// signal is one message to a node. The signaller's lock guards its fields, but those
// passed to add do not change during an attempt.
type signal struct {
	wake   *Wake // does not change
	node   Node  // used if the configuration no longer has it
	giveUp bool  // tells the node to stop holding
	alert  bool  // tells the node to answer the caller
	// over is set to tell the registration's node that the call has ended this way,
	// for a device that does not know. Otherwise the signal says that device is
	// reachable.
	over   EndReason
	device string
	began  time.Time

	registration *Registration // of the device; does not change
	fresh        bool          // the device registered after the request arrived

	deadline time.Time // by default that of the wake
	tries    int
	pause    time.Duration
	timer    *time.Timer // for the next attempt
	trying   bool
	renewed  *signal // replaces this one once the attempt in progress has ended
	dropped  bool
	err      error // from the last attempt
}

// at returns the node to tell.
func (sig *signal) at() string {
	if sig.over != "" {
		return sig.registration.Node
	}
	return sig.wake.Node
}

// name distinguishes the signals of one wake.
func (sig *signal) name() string {
	if sig.over != "" {
		return "over " + sig.device
	}
	if sig.giveUp {
		return "give up"
	}
	if sig.alert {
		return "alert"
	}
	return "device " + sig.device
}

func newSignaller(ctx context.Context, slots int, try func(context.Context, *signal, int) (bool, error), failed func(*signal, error)) *signaller {
	return &signaller{ctx: ctx, slots: max(slots, 1), try: try, failed: failed, nodes: make(map[string]*nodeSignals), idle: make(chan struct{})}
}

// add starts signalling, after a delay if one is given. It returns ErrBusy if too
// much is pending, or ErrStopped.
func (g *signaller) add(sig *signal, after time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return ErrStopped
	}
	sig.began, sig.pause = time.Now(), firstPause
	if sig.deadline.IsZero() {
		sig.deadline = sig.wake.Deadline
	}
	n := g.nodes[sig.at()]
	if n == nil {
		n = &nodeSignals{free: g.slots, byKey: make(map[callKey]map[string]*signal)}
		g.nodes[sig.at()] = n
	}
	of := n.byKey[sig.wake.key()]
	if old := of[sig.name()]; old != nil {
		if old.trying {
			old.renewed = sig
			return nil
		}
		g.remove(n, old)
		of = n.byKey[sig.wake.key()]
	} else if g.pending >= maxSignals || len(of) >= maxOfWake {
		return ErrBusy
	}
	if of == nil {
		of = make(map[string]*signal)
		n.byKey[sig.wake.key()] = of
	}
	of[sig.name()] = sig
	g.pending++
	g.schedule(n, sig, after)
	return nil
}

// schedule tries the signal after a delay, or gives it up if its deadline has passed
// by then.
func (g *signaller) schedule(n *nodeSignals, sig *signal, after time.Duration) {
	if after <= 0 {
		g.start(n, sig)
		return
	}
	after = max(min(after, time.Until(sig.deadline)), 0)
	sig.timer = time.AfterFunc(after, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !sig.dropped {
			sig.timer = nil
			g.start(n, sig)
		}
	})
}

// start tries the signal as soon as a slot is free.
func (g *signaller) start(n *nodeSignals, sig *signal) {
	if n.free == 0 {
		n.ready.push(sig.wake.AOR, sig)
		return
	}
	n.free--
	sig.trying = true
	g.running.Go(func() { g.run(n, sig) })
}

// run makes one attempt, then passes its slot on.
func (g *signaller) run(n *nodeSignals, sig *signal) {
	ctx := deadline.With(g.ctx, sig.deadline)
	defer ctx.Release()
	over := ctx.Err() != nil
	done, err := false, sig.err
	if !over {
		done, err = g.try(ctx, sig, sig.tries)
		over = ctx.Err() != nil
	}
	if over && !done && g.wanted(sig) {
		if err == nil {
			err = context.DeadlineExceeded
		}
		g.failed(sig, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release(n)
	sig.trying = false
	sig.err = err
	sig.tries++
	switch {
	case sig.dropped:
		g.report(sig)
	case sig.renewed != nil:
		next := sig.renewed
		n.byKey[sig.wake.key()][sig.name()] = next
		g.start(n, next)
	case done || over:
		g.remove(n, sig)
	default:
		if errors.Is(err, ErrForbidden) {
			sig.pause = maxPause // the node counts wrong secrets, and too many lock out the right one as well
		}
		g.schedule(n, sig, sig.pause+rand.N(sig.pause/4))
		sig.pause = min(2*sig.pause, maxPause)
	}
}

// wanted reports whether a failure of the signal should be reported.
func (g *signaller) wanted(sig *signal) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !sig.dropped && sig.renewed == nil
}

// release passes a slot to the next waiting signal.
func (g *signaller) release(n *nodeSignals) {
	for {
		next, ok := n.ready.pop()
		if !ok {
			n.free++
			return
		}
		if !next.dropped {
			next.trying = true
			g.running.Go(func() { g.run(n, next) })
			return
		}
	}
}

// remove discards the signal; a waiting one is not tried any more.
func (g *signaller) remove(n *nodeSignals, sig *signal) {
	sig.dropped = true
	if sig.timer != nil {
		sig.timer.Stop()
	}
	of := n.byKey[sig.wake.key()]
	delete(of, sig.name())
	if len(of) == 0 {
		delete(n.byKey, sig.wake.key())
	}
	g.pending--
	if g.stopped && g.pending == 0 {
		close(g.idle)
	}
}

// drop discards every signal of a wake that has ended. Signals that the node had not
// accepted are reported: the phone came back in vain.
func (g *signaller) drop(k callKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[k.node]
	if n == nil {
		return
	}
	for _, sig := range n.byKey[k] {
		if sig.over != "" {
			continue // this one announces the end itself
		}
		g.remove(n, sig)
		if !sig.trying {
			g.report(sig)
		}
	}
}

// report reports a dropped signal that had failed before.
func (g *signaller) report(sig *signal) {
	if err := sig.err; err != nil && !sig.giveUp && !sig.alert {
		g.running.Go(func() { g.failed(sig, err) })
	}
}

// drain accepts no more signals, and at once tries those still delayed before their
// first attempt. The returned channel is closed once nothing is pending.
func (g *signaller) drain() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return g.idle
	}
	g.stopped = true
	if g.pending == 0 {
		close(g.idle)
	}
	for _, n := range g.nodes {
		for _, of := range n.byKey {
			for _, sig := range of {
				if sig.tries == 0 && sig.timer != nil && sig.timer.Stop() {
					sig.timer = nil
					g.start(n, sig)
				}
			}
		}
	}
	return g.idle
}

// close discards what is pending and waits for attempts in progress, whose context
// must have ended. Call drain first.
func (g *signaller) close() {
	g.mu.Lock()
	for _, n := range g.nodes {
		for _, of := range n.byKey {
			for _, sig := range of {
				g.remove(n, sig)
			}
		}
	}
	g.mu.Unlock()
	g.running.Wait()
}

// waiting returns the number of signals that their node has not accepted.
func (g *signaller) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pending
}

// load returns the share of maxSignals in use.
func (g *signaller) load() float64 { return float64(g.waiting()) / maxSignals }
