// Package cluster lets the instances that share a store work as one. Each instance
// sends a heartbeat, receives events of its wakes from the others, and adopts the wakes
// of instances that died.
package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/wake"
)

// Members is a shared store's list of instances. Safe for concurrent use.
type Members interface {
	// Beat is the heartbeat of an instance, valid for ttl. It returns the living
	// instances, including this one, and the dead ones that may still own wakes. If
	// no instance could beat for a while, the store was away; then every instance has
	// ttl for its next beat before it counts as dead.
	Beat(ctx context.Context, instance string, ttl time.Duration) (living, dead []string, err error)
	// Leave makes the instance count as dead at once.
	Leave(ctx context.Context, instance string) error
	// Adopt makes owner the owner of every wake of a dead instance that has not
	// ended, even past its deadline. Each wake goes to one caller only. Adopt calls f
	// with each wake and with what Start would return now, in the caller's goroutine.
	// Started.Forked is that of the first start, and Started.Recent has all
	// registrations since the start, by the store's clock.
	Adopt(ctx context.Context, dead, owner string, f func(wake.Wake, wake.Started)) error
}

// Wakes is what a shared store does for a wake that was started. Safe for concurrent
// use.
type Wakes interface {
	// Reread returns what Start would return now: the AOR's bindings and recent
	// registrations, with Forked and Recent as in Adopt. Ended is true if the wake has
	// ended, or has another owner than w.
	Reread(ctx context.Context, w wake.Wake) (wake.Started, error)
	// Pushed records in the wake that the device's push was accepted, so that an
	// instance that adopts it does not push again. It does not block.
	Pushed(w wake.Wake, device string)
}

// Bus carries messages between instances. Safe for concurrent use.
type Bus interface {
	// Publish sends the message to every instance that listens now. It does not
	// block, and the message may be lost.
	Publish(m Message)
	// Listen calls f with the messages of all instances, one at a time, until ctx
	// ends. Messages published during a lost connection are lost.
	Listen(ctx context.Context, f func(Message)) error
}

// Store is a store that several instances share.
type Store interface {
	Members
	Wakes
	Bus
}

// Message is what instances send each other: an event of another instance's wake.
type Message struct {
	wake.Event
}

const (
	beatEvery = time.Second
	beatTTL   = 3 * time.Second
	// adoptTimeout bounds one round of adopting or rereading wakes.
	adoptTimeout = 10 * time.Second
	// leaveTimeout bounds the Leave of an instance that stops.
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
	changed   chan members // from beat to takeOver
}

var _ wake.Others = (*Cluster)(nil)

// members is what a beat found.
type members struct {
	dead []string
	left bool // an instance that lived before is gone
}

// New returns a Cluster. The other instances do not see it before Run. Call SetService
// before anything else.
func New(store Store, log *slog.Logger, reg prometheus.Registerer) *Cluster {
	c := &Cluster{store: store, log: log, changed: make(chan members, 1),
		instances: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_instances", Help: "Running instances that share the store."})}
	reg.MustRegister(c.instances)
	return c
}

// SetService sets the service, which itself needs the Cluster.
func (c *Cluster) SetService(s *wake.Service) { c.service = s }

// Run sends heartbeats, listens to the other instances and adopts the wakes of those
// that died, until ctx ends. Then it hands this instance's wakes over to the others.
func (c *Cluster) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { c.listen(ctx) })
	loops.Go(func() { c.takeOver(ctx) })
	c.beat(ctx)
	loops.Wait()
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := c.store.Leave(leave, c.service.Instance()); err != nil {
		c.log.Warn("cannot hand over wakes", "err", err) // others adopt them when the last beat expires
	}
}

// Publish implements wake.Others.
func (c *Cluster) Publish(e wake.Event) { c.store.Publish(Message{Event: e}) }

// Pushed implements wake.Others.
func (c *Cluster) Pushed(w wake.Wake, device string) { c.store.Pushed(w, device) }

// pause waits for d and returns the next pause.
func pause(ctx context.Context, d time.Duration) time.Duration {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return min(2*d, maxPause)
}

// listen handles the events of other instances until ctx ends.
func (c *Cluster) listen(ctx context.Context) {
	wait := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		if err := c.store.Listen(ctx, func(m Message) { c.service.HandleEvent(m.Event) }); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot listen to the other instances", "err", err)
		}
		if time.Since(began) > maxPause {
			wait = firstPause
		}
		wait = pause(ctx, wait)
	}
}
