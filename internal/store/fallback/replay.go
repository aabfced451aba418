package fallback

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

const (
	runEvery    = 200 * time.Millisecond // between looks at a store that is away
	runMaxPause = 10 * time.Second       // between tries to empty the spool
	patience    = 2 * time.Second        // for one request
	replayBatch = 256
	// clockSkew is how far the clocks of instances may differ. A device that
	// registered less than this before a wake may be signalled for it twice.
	clockSkew = time.Second
)

// Replayed is called with a REGISTER that the store accepted late, and with the store's
// result.
type Replayed func(ctx context.Context, r wake.Registration, res wake.Registered)

// Run replays to the store what was kept while it was away. It returns when ctx ends.
func (s *Store) Run(ctx context.Context, replayed Replayed) {
	pause := runEvery
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		switch {
		case !s.health.failing() && s.spool.len() == 0 && !s.memory.holds():
			pause = runEvery
		case !s.back(ctx):
			pause = runEvery
		case s.replay(ctx, replayed):
			pause = runEvery
		default: // it answers only some requests: a cluster without one of its servers
			pause = min(2*pause, runMaxPause)
		}
		timer.Reset(pause)
	}
}

// back reports whether the store can be used.
func (s *Store) back(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s.ping(ctx) != nil {
		return false
	}
	s.answered()
	return true
}

// replay replays the wakes and the spool. It reports whether everything reached the store.
func (s *Store) replay(ctx context.Context, replayed Replayed) bool {
	all := true
	for _, w := range s.memory.heldWakes() {
		all = s.restart(ctx, w, replayed) && all
	}
	failed := make(map[string]bool) // AORs; their order must be kept
	count := 0
	for from := uint64(0); ; {
		list, err := s.spool.read(from, replayBatch)
		if err != nil {
			s.log.Error("cannot replay registrations", "err", err)
			return false
		}
		if len(list) == 0 {
			break
		}
		from = list[len(list)-1].seq + 1
		done := s.replayList(ctx, list, failed, replayed)
		if err := s.spool.remove(done); err != nil {
			s.log.Error("cannot replay registrations", "err", err)
			return false
		}
		count += len(done)
		if all = all && len(done) == len(list); len(done) == 0 {
			break
		}
	}
	if count > 0 {
		s.log.Info("registrations replayed", "registrations", count, "left", s.spool.len())
	}
	return all
}

// restart passes to the store a wake that was started without it, and to the rules the
// devices that have registered since, through any instance.
func (s *Store) restart(ctx context.Context, w wake.Wake, replayed Replayed) bool {
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	res, err := s.Store.Start(call, w)
	if err != nil {
		return false
	}
	s.memory.stored(&w)
	if res.Ended || res.Duplicate || res.Full || !w.Deadline.After(time.Now()) {
		return true
	}
	back := res.Recent
	for _, b := range res.Bindings {
		back = append(back, wake.Registration{Binding: b, Action: wake.ActionBind})
	}
	told, since := make(map[string]bool), w.StartedAt.Add(-clockSkew)
	for _, r := range back {
		if key := r.Device + " " + r.Contact; !told[key] && r.RegisteredAt.After(since) {
			told[key] = true
			replayed(ctx, r, wake.Registered{Status: wake.StatusRefreshed, Wakes: []wake.Wake{w}})
		}
	}
	return true
}

// replayList replays a list to the store, different AORs in parallel. It returns the
// entries that are done.
func (s *Store) replayList(ctx context.Context, list []spooled, failed map[string]bool, replayed Replayed) (done []spooled) {
	byAOR := make(map[string][]spooled, len(list))
	for _, r := range list {
		if r.unreadable {
			s.metrics.drop(droppedDisk, 1)
			done = append(done, r)
			continue
		}
		byAOR[r.AOR] = append(byAOR[r.AOR], r)
	}
	var (
		mu   sync.Mutex
		wait sync.WaitGroup
	)
	for aor, regs := range byAOR {
		mu.Lock()
		skip := failed[aor]
		mu.Unlock()
		if skip {
			continue
		}
		wait.Go(func() {
			for _, r := range regs {
				ok := s.replayOne(ctx, r.Registration, replayed)
				mu.Lock()
				if ok {
					done = append(done, r)
				} else {
					failed[aor] = true
				}
				mu.Unlock()
				if !ok {
					return
				}
			}
		})
	}
	wait.Wait()
	return done
}

// replayOne replays one registration. It returns false if it must be tried again.
func (s *Store) replayOne(ctx context.Context, r wake.Registration, replayed Replayed) bool {
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r.Late = true
	res, err := s.Store.Register(call, r)
	switch {
	case errors.Is(err, wake.ErrUnavailable):
		return false
	case err != nil:
		s.metrics.drop(droppedRefused, 1)
		s.log.Error("the store refuses a registration", "aor", r.AOR, "call_id", r.CallID, "err", err)
		return true
	}
	s.metrics.replayed.Inc()
	if res.Status != wake.StatusStale {
		replayed(ctx, r, res)
	}
	return true
}
