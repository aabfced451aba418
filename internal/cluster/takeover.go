package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// beat says every second that this instance lives, until ctx ends. It waits for no
// other work: an instance that is busy with the wakes of a dead one must not be
// taken for dead itself.
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

// beatOnce returns the instances that live.
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

// found hands the news to takeOver, without waiting for it: what it has not looked
// at yet is put together.
func (c *Cluster) found(m members) {
	select {
	case older := <-c.changed:
		m.left = m.left || older.left
	default:
	}
	c.changed <- m // only beat sends
}

// takeOver looks after the wakes of instances that died, until ctx ends.
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
		c.log.Warn("wakes of an instance that ended adopted", "instance", dead, "wakes", n)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn("cannot adopt wakes", "instance", dead, "err", err) // after the next beat it is tried again
	}
}

// rereads is how many wakes are read again at once.
const rereads = 16

// reread looks for devices that came back to this instance's wakes through one that
// ended, maybe before it could signal them.
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
					c.log.Warn("cannot look after wake", "aor", w.AOR, "call_id", w.CallID, "err", err)
					continue
				}
				c.service.Returned(w, st) // the event of one that has ended is on the way
			}
		})
	}
	for _, w := range c.service.OpenWakes() {
		wakes <- w
	}
	close(wakes)
	readers.Wait()
}

// lateWrite is how much later than a read a write may be carried out that got no
// answer: a server that was halted works off what has queued up.
const lateWrite = time.Second

// Recheck implements wake.Others. The node may have asked another instance
// meanwhile, and that one was told that the wake is under way.
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
		c.log.Warn("cannot look after wake", "aor", w.AOR, "call_id", w.CallID, "err", err)
	}
}
