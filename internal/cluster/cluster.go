// Package cluster lets the instances that share a store work as one: each says
// that it lives, hears what others hear of its wakes, and adopts the wakes of those
// that died.
package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/wake"
)

// Members is what a shared store knows of the instances. Safe for concurrent use.
type Members interface {
	// Beat says that the instance lives for ttl from now on. It returns the
	// instances that live, this one among them, and those whose time is over
	// and that may own wakes yet. If nobody could beat for a while, the store
	// was away, and all get ttl to say that they live.
	Beat(ctx context.Context, instance string, ttl time.Duration) (living, dead []string, err error)
	// Leave ends the instance's time at once.
	Leave(ctx context.Context, instance string) error
	// Adopt makes owner that of every wake of a dead instance that has not ended,
	// those past their deadline too, and calls f with each, from the caller's
	// goroutine, and with what Start would answer now; Forked is as it was answered
	// first, and Recent are all registrations since the wake was started, by the store's
	// own clock. Of several callers one gets it.
	Adopt(ctx context.Context, dead, owner string, f func(wake.Wake, wake.Started)) error
}

// Wakes is what a shared store offers for a wake that was started. Safe for
// concurrent use.
type Wakes interface {
	// Reread returns what Start would return now: the AOR's bindings and recent
	// registrations, as Adopt has them; Forked is as it was answered first. Ended says that the wake
	// has ended, or has another owner than w has.
	Reread(ctx context.Context, w wake.Wake) (wake.Started, error)
	// Pushed notes in the wake that the device's push was accepted, so that
	// an instance that adopts it does not push again. It does not wait.
	Pushed(w wake.Wake, device string)
}

// Bus carries messages between instances. Safe for concurrent use.
type Bus interface {
	// Publish sends the message to every instance that listens now. It does not
	// wait, and the message may be lost.
	Publish(m Message)
	// Listen calls f with the messages of all instances, one after the other,
	// until ctx ends. What is published while the connection is away is lost.
	Listen(ctx context.Context, f func(Message)) error
}

// Store is a store that several instances share.
type Store interface {
	Members
	Wakes
	Bus
}

// Message is what instances tell each other: what one heard of another's wake.
type Message struct {
	wake.Event
}

const (
	beatEvery = time.Second
	beatTTL   = 3 * time.Second
	// adoptTimeout bounds one look after the wakes of others.
	adoptTimeout = 10 * time.Second
	// leaveTimeout bounds the last word of an instance that stops.
	leaveTimeout = 2 * time.Second

	firstPause = 10 * time.Millisecond // between tries, doubling
	maxPause   = time.Second
)

// Cluster is one instance's part. Safe for concurrent use.
type Cluster struct {
	store     Store
	log       *slog.Logger
	instances prometheus.Gauge
	service   *wake.Service
	changed   chan members // what the last beat found, for takeOver
}

var _ wake.Others = (*Cluster)(nil)

// members is what a beat found.
type members struct {
	dead []string
	left bool // one that lived before does not any more
}

// New returns the part of an instance that is not yet known to the others. SetService
// must be called before anything else.
func New(store Store, log *slog.Logger, reg prometheus.Registerer) *Cluster {
	c := &Cluster{store: store, log: log, changed: make(chan members, 1),
		instances: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_instances", Help: "Instances that share the store and live."})}
	reg.MustRegister(c.instances)
	return c
}

// SetService sets the rules, which need a Cluster themselves.
func (c *Cluster) SetService(s *wake.Service) { c.service = s }

// Run says that this instance lives, hears the others and adopts the wakes of those
// that died, until ctx ends; then the others may adopt this one's.
func (c *Cluster) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { c.listen(ctx) })
	loops.Go(func() { c.takeOver(ctx) })
	c.beat(ctx)
	loops.Wait()
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := c.store.Leave(leave, c.service.Instance()); err != nil {
		c.log.Warn("cannot hand over wakes", "err", err) // they are adopted a moment later
	}
}

// Publish implements wake.Others.
func (c *Cluster) Publish(e wake.Event) { c.store.Publish(Message{Event: e}) }

// Pushed implements wake.Others.
func (c *Cluster) Pushed(w wake.Wake, device string) { c.store.Pushed(w, device) }

// pause waits, and returns how long to wait the next time.
func pause(ctx context.Context, d time.Duration) time.Duration {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return min(2*d, maxPause)
}

// listen hears the other instances until ctx ends.
func (c *Cluster) listen(ctx context.Context) {
	wait := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		if err := c.store.Listen(ctx, func(m Message) { c.service.HandleEvent(m.Event) }); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot hear the other instances", "err", err)
		}
		if time.Since(began) > maxPause {
			wait = firstPause
		}
		wait = pause(ctx, wait)
	}
}
