package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// beat sends a heartbeat every second until ctx ends. It waits for no other work: an
// instance that is busy with the wakes of a dead one must not count as dead itself.
func (c *Cluster) beat(ctx context.Context) {
	var known []string
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		known = c.beatOnce(ctx, known)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// beatOnce sends one heartbeat and returns the living instances.
func (c *Cluster) beatOnce(ctx context.Context, known []string) []string {
	ctx, cancel := context.WithTimeout(ctx, beatTTL)
	defer cancel()
	living, dead, err := c.store.Beat(ctx, c.service.Instance(), beatTTL)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("cannot reach the other instances", "err", err)
		}
		return known
	}
	c.instances.Set(float64(len(living)))
	left := slices.ContainsFunc(known, func(id string) bool { return !slices.Contains(living, id) })
	if left || len(dead) > 0 {
		c.found(members{dead, left})
	}
	return living
}

// found passes m to takeOver without waiting for it. It merges m with what takeOver has
// not received yet.
func (c *Cluster) found(m members) {
	select {
	case older := <-c.changed:
		m.left = m.left || older.left
	default:
	}
	c.changed <- m // only beat sends
}

// takeOver adopts the wakes of instances that died, until ctx ends.
func (c *Cluster) takeOver(ctx context.Context) {
	for {
		select {
		case m := <-c.changed:
			if m.left {
				c.reread(ctx)
			}
			for _, id := range m.dead {
				c.adopt(ctx, id)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (c *Cluster) adopt(ctx context.Context, dead string) {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	n := 0
	err := c.store.Adopt(ctx, dead, c.service.Instance(), func(w wake.Wake, st wake.Started) {
		n++
		c.service.Adopt(w, st)
	})
	if n > 0 {
		c.log.Warn("adopted the wakes of an instance that ended", "instance", dead, "wakes", n)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn("cannot adopt wakes", "instance", dead, "err", err) // the next beat tries again
	}
}

// rereads is how many wakes are reread in parallel.
const rereads = 16

// reread finds devices of this instance's wakes that registered through an instance
// that has ended, maybe before it could signal them.
func (c *Cluster) reread(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	wakes := make(chan wake.Wake)
	var readers sync.WaitGroup
	for range rereads {
		readers.Go(func() {
			for w := range wakes {
				st, err := c.store.Reread(ctx, w)
				if err != nil {
					c.log.Warn("cannot reread wake", "aor", w.AOR, "call_id", w.CallID, "err", err)
					continue
				}
				c.service.Returned(w, st) // if it has ended, the event of the end is on the way
			}
		})
	}
	for _, w := range c.service.OpenWakes() {
		wakes <- w
	}
	close(wakes)
	readers.Wait()
}

// lateWrite is how long after a read an unanswered write may still take effect: a
// server that was halted works off its queue.
const lateWrite = time.Second

// Recheck implements wake.Others. In the meantime the node may have asked another
// instance, which answered that the wake is in progress.
func (c *Cluster) Recheck(w wake.Wake) {
	err := c.service.Go(func(ctx context.Context) {
		ctx, cancel := context.WithDeadline(ctx, w.Deadline)
		defer cancel()
		var absent time.Time
		for wait := firstPause; ctx.Err() == nil && !c.service.Stopping(); wait = pause(ctx, wait) {
			st, err := c.store.Reread(ctx, w)
			switch {
			case err != nil:
			case !st.Ended:
				// A repeated wake.start may be open here for a moment.
				if c.service.Adopt(w, st) {
					return
				}
			case absent.IsZero():
				absent = time.Now()
			case time.Since(absent) > lateWrite:
				return
			}
		}
	})
	if err != nil {
		c.log.Warn("cannot reread wake", "aor", w.AOR, "call_id", w.CallID, "err", err)
	}
}
