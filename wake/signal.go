package wake

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 10 * time.Millisecond // between tries, doubling
	maxPause   = time.Second
	// A node checks that it has the very registration it is told of. Replication
	// between nodes can reorder for good, so after this many tries (630 ms) it is
	// told to take what it has.
	exactTries = 6
)

// signal tells the node of w that r's device is reachable, again and again until
// the node has taken it, the request is gone, or the hold time is over.
func (s *Service) signal(w Wake, r Registration) {
	node, err := s.node(w.Node)
	if err != nil {
		s.unsignalled(w, r, err)
		return
	}
	if !s.spawn(func() { s.keepSignalling(node, w, r) }) {
		s.unsignalled(w, r, ErrStopped)
	}
}

func (s *Service) keepSignalling(node Node, w Wake, r Registration) {
	ctx, cancel := context.WithDeadline(s.ctx, w.Deadline)
	defer cancel()
	began := time.Now()
	last, err := s.retry(ctx, func(try int) (Signal, bool, error) {
		sig, err := node.Wake(ctx, w, r, try >= exactTries)
		s.countSignal(w, sig, err)
		return sig, err == nil && sig != NoContact, err
	})
	if err != nil {
		s.unsignalled(w, r, err)
		return
	}
	s.metrics.signal.Observe(time.Since(began).Seconds())
	s.traces.add(w, time.Now(), eventSignalled, r.Device, string(last))
	if last != Added && last != Dup {
		return
	}
	if cl := s.calls.get(w); cl != nil {
		s.follow(cl, cl.set(r.key(), back))
	} else {
		s.announce(w, NewsBack, r.key())
	}
}

// retry calls f until it says done or ctx ends, with growing pauses.
func (s *Service) retry(ctx context.Context, f func(try int) (sig Signal, done bool, err error)) (Signal, error) {
	pause := firstPause
	for try := 0; ; try++ {
		sig, done, err := f(try)
		if done {
			return sig, nil
		}
		if err == nil {
			err = context.DeadlineExceeded
		}
		timer := time.NewTimer(pause + rand.N(pause/4))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return sig, err
		}
		pause = min(2*pause, maxPause)
	}
}

func (s *Service) countSignal(w Wake, sig Signal, err error) {
	if err != nil {
		sig = "error"
	}
	s.metrics.signals.WithLabelValues(w.Node, string(sig)).Inc()
}

func (s *Service) unsignalled(w Wake, r Registration, err error) {
	s.traces.add(w, time.Now(), eventLost, r.Device, w.Node)
	s.log.Error("cannot signal node", "node", w.Node, "aor", w.AOR, "call_id", w.CallID, "err", err)
}

// giveUp tells the node to stop holding, after a pause. Branches that ring go on.
func (s *Service) giveUp(cl *call, after time.Duration) {
	w := cl.wake
	ok := s.spawn(func() {
		ctx, cancel := context.WithDeadline(cl.ctx, w.Deadline)
		defer cancel()
		if after > 0 {
			timer := time.NewTimer(after)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-s.stop:
			case <-ctx.Done():
				return
			}
		}
		// The node's answer and the wake.end that it brings about overtake each other.
		answer, stop := context.WithDeadline(s.ctx, w.Deadline)
		defer stop()
		last, err := s.retry(ctx, func(int) (Signal, bool, error) {
			sig, err := cl.node.GiveUp(answer, w)
			s.countSignal(w, sig, err)
			return sig, err == nil && sig != Busy, err
		})
		if err != nil {
			if cl.ctx.Err() == nil {
				s.log.Warn("cannot tell node to stop holding", "node", w.Node, "aor", w.AOR, "call_id", w.CallID, "err", err)
			}
			return
		}
		s.traces.add(w, time.Now(), eventGaveUp, "", string(last))
	})
	if !ok {
		s.log.Warn("cannot tell node to stop holding", "node", w.Node, "aor", w.AOR, "call_id", w.CallID, "err", ErrStopped)
	}
}
