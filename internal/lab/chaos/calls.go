package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

const (
	hold = 15 * time.Second // of an INVITE, at the node
	ring = 20 * time.Second // of a branch; more than hold
	// slack is how much longer than hold and ring a caller may have to wait: for its
	// retransmissions, a paused node, a slow machine.
	slack = 25 * time.Second
)

// call has what is known of one call.
type call struct {
	id        string
	sleeper   *sleeper
	through   *node  // that held it
	back      *node  // at which the phone should come back
	transport string // of the caller
	began     time.Time
	cancelled time.Time // CANCEL was sent
	final     time.Time // the caller had a final answer
	code      int
	err       error // why there was none
	nodeDied  bool
	asked     asked
	known     bool // the node has asked
	pushes    []pushed
	returned  []time.Time // REGISTERs answered 200
	invites   []time.Time // that reached the phone
	events    []phone.Event
}

// traffic makes calls at a steady rate until ctx ends, and judges each of them.
type traffic struct {
	w    *world
	rate float64 // calls a second
	rand *rand.Rand
	work sync.WaitGroup
}

// run returns when no more calls are made; wait waits for those in progress.
func (t *traffic) run(ctx, life context.Context) {
	for ctx.Err() == nil {
		if s := t.pick(); s != nil {
			plan := callPlan{transport: phone.UDP, goodbye: t.rand.IntN(2) == 0}
			plan.through, plan.back = t.w.way(t.rand)
			if t.rand.IntN(2) == 0 {
				plan.transport = phone.TCP
			}
			if t.rand.IntN(10) == 0 {
				plan.cancel = time.Duration(200+t.rand.IntN(2500)) * time.Millisecond
			}
			t.work.Go(func() {
				defer s.release()
				t.w.verdicts.judge(life, t.w.call(life, s, plan))
			})
		}
		sleep(ctx, time.Duration((0.5+t.rand.Float64())/t.rate*float64(time.Second)))
	}
}

// pick takes a sleeping phone, nil if there is none at the moment.
func (t *traffic) pick() *sleeper {
	for range 2 * len(t.w.sleepers) {
		if s := t.w.sleepers[t.rand.IntN(len(t.w.sleepers))]; s.take() {
			return s
		}
	}
	return nil
}

type callPlan struct {
	through   *node // the node that the caller uses
	back      *node // the node at which the phone comes back
	transport string
	cancel    time.Duration // after which the caller hangs up; 0: never
	goodbye   bool          // the phone unregisters before it sleeps again
}

// call calls a phone that sleeps and returns when the call is over and the phone
// sleeps again.
func (w *world) call(ctx context.Context, s *sleeper, plan callPlan) *call {
	c := &call{sleeper: s, through: plan.through, back: plan.back, transport: plan.transport, began: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, hold+ring+slack)
	defer cancel()
	// A caller whose node has died waits only a moment longer.
	died, gone := c.through.died(), c.back.died()
	watched, end := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		select {
		case <-died:
			sleep(watched, 2*time.Second)
			end()
		case <-watched.Done():
		}
	})
	defer work.Wait()
	defer end()
	if err := s.phone.SetProxy(c.back.address); err != nil {
		panic("BUG: " + err.Error())
	}
	caller, err := phone.New(phone.Config{User: "alice", Domain: domain, Proxy: c.through.address, Transport: plan.transport, Keep: 64})
	if err != nil {
		c.err = err
		return c
	}
	defer caller.Close()
	c.err = c.make(watched, caller, plan)
	c.linger(watched)
	for _, node := range []<-chan struct{}{died, gone} {
		select {
		case <-node:
			c.nodeDied = true
		default:
		}
	}
	for _, e := range s.phone.Events() {
		c.read(e)
	}
	s.rest(watched, plan.goodbye && !c.nodeDied)
	c.asked, c.known, c.pushes = w.ledger.of(c.id)
	return c
}

// linger waits for late events: a pushed phone registers even if the call has ended too
// early, and a push that is on its way arrives.
func (c *call) linger(ctx context.Context) {
	if c.code == 200 || !c.cancelled.IsZero() {
		return
	}
	sleep(ctx, 300*time.Millisecond)
	if _, _, pushes := c.sleeper.w.ledger.of(c.id); len(pushes) == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, c.began.Add(hold+time.Second))
	defer cancel()
	_, _ = c.sleeper.phone.Wait(ctx, func(e phone.Event) bool { // without one there is nothing to see
		return e.At.After(c.began) && e.Kind == phone.Woken
	})
}

// read records what happened to the phone during the call.
func (c *call) read(e phone.Event) {
	if e.At.Before(c.began) {
		return
	}
	c.events = append(c.events, e)
	switch {
	case e.Kind == phone.Registered && e.Code == 200:
		c.returned = append(c.returned, e.At)
	case e.Kind == phone.GotInvite && e.CallID == c.id:
		c.invites = append(c.invites, e.At)
	}
}

// make makes the call and returns when it is over.
func (c *call) make(ctx context.Context, caller *phone.Phone, plan callPlan) error {
	in, err := caller.Invite(ctx, c.sleeper.user, phone.InviteOptions{})
	if err != nil {
		return err
	}
	c.id = in.CallID()
	if plan.cancel > 0 {
		waits, cancel := context.WithTimeout(ctx, plan.cancel)
		_, err := in.Final(waits)
		cancel()
		if err != nil && ctx.Err() == nil {
			c.cancelled = time.Now()
			if _, err := in.Cancel(ctx); errors.Is(err, phone.ErrNotUp) {
				c.cancelled = time.Time{}
			}
		}
	}
	res, err := in.Final(ctx)
	if err != nil {
		return err
	}
	c.final, c.code = res.At, res.Code
	if res.Code == 200 {
		bye, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, _ = in.Bye(bye) // the node may have died in the meantime
	}
	return nil
}
