// Package relay pushes for other sipwakes, those of PBXs whose users have this maker's
// app: the other end is push/relay. A push has an ID and is sent once, however often it
// is asked for; each tenant has a bound of its own, so that what one does is not felt by
// the others. Nothing of a push is stored.
package relay

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/push"
)

// Bounds of one tenant.
const (
	// MaxInFlight is how many of its pushes are under way at once.
	MaxInFlight = 256
	// MaxWaiting is how many of its requests wait at once for how a push ends.
	MaxWaiting = 256
	// MaxKnown is how many of its pushes are remembered, with those under way. Of more,
	// the oldest that have ended are forgotten.
	MaxKnown = 8192
	// keep is how long the end of a push is remembered past its deadline, for tries whose
	// answer was lost. A push that may be delivered for long is remembered for less.
	keep    = time.Minute
	maxKeep = 10 * time.Minute
	// storeTime bounds what the store may take.
	storeTime = 300 * time.Millisecond
	// claimPause is how long to wait before asking again for the claim of another instance.
	claimPause = 500 * time.Millisecond
)

// Pusher sends pushes, as push.Dispatcher does.
type Pusher interface {
	Push(ctx context.Context, r push.Request, done func(push.Outcome))
}

// Claimer lets one of several instances do something, as wake.Sweeper does.
type Claimer interface {
	Claim(ctx context.Context, key string, ttl time.Duration) (bool, error)
	Release(ctx context.Context, key string) error
}

// Service relays pushes. Safe for concurrent use.
type Service struct {
	pusher  Pusher
	claimer Claimer
	pushes  *prometheus.CounterVec
	ends    sync.WaitGroup // pushes whose end is not yet told

	mu      sync.Mutex
	tenants map[string]*tenant
}

// tenant is what one has under way, and what is known of its last pushes.
type tenant struct {
	inFlight int
	waiting  int
	known    map[string]*entry
	ended    list.List // of *entry, the oldest first
}

// entry is one push. Guarded by the mutex of Service, but done, which is closed when
// outcome is there.
type entry struct {
	id      string
	done    chan struct{}
	outcome push.Outcome
	ended   bool
	place   *list.Element // among those that have ended
	claimed bool          // by this instance
}

// New returns a Service without pushes. It registers its metrics with reg.
func New(p Pusher, c Claimer, reg prometheus.Registerer) *Service {
	s := &Service{pusher: p, claimer: c, tenants: make(map[string]*tenant), pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sipwake_relay_pushes_total",
		Help: "Pushes of other sipwakes that ended, by tenant and reason; throttled is also what was over its bound."}, []string{"tenant", "reason"})}
	reg.MustRegister(s.pushes)
	return s
}

// Stop waits until the claims of the pushes that have ended are given back. The pusher
// has stopped before.
func (s *Service) Stop() { s.ends.Wait() }

// Push sends the push of the tenant with that ID, unless it is under way or has ended
// already, and returns how it ended. It waits until ctx ends; ended is false then, and
// the push goes on. It does not wait while the tenant has as many requests waiting as it
// may. A push that failed in a way that another try can help is sent anew when it is
// asked for again.
func (s *Service) Push(ctx context.Context, name, id string, r push.Request) (o push.Outcome, ended bool) {
	now := time.Now()
	r.Deadline = now.Add(min(max(r.Deadline.Sub(now), time.Second), push.MaxTTL))
	e, mine := s.enter(name, id, r.Deadline)
	if e == nil {
		s.pushes.WithLabelValues(name, string(push.Throttled)).Inc()
		return push.Outcome{Reply: push.Reply{Reason: push.Throttled, About: push.AboutService, Detail: "too many pushes of this tenant are under way"}}, true
	}
	if mine {
		key := claimKey(name, id)
		if !e.claimed && !s.claim(ctx, key, r.Deadline) {
			s.leave(name, e)
			return push.Outcome{}, false
		}
		s.pusher.Push(context.Background(), r, func(o push.Outcome) {
			if settled(o.Reason) {
				s.ended(name, e, o, true)
				return
			}
			s.ends.Go(func() { s.ended(name, e, o, !s.release(key)) }) // the caller is not to wait for the store
		})
	}
	return s.wait(ctx, name, e)
}

// enter returns the entry of a push, nil if the tenant is at its bound, and whether the
// caller is to send it.
func (s *Service) enter(name, id string, deadline time.Time) (e *entry, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	if t == nil {
		t = &tenant{known: make(map[string]*entry)}
		s.tenants[name] = t
	}
	e = t.known[id]
	if e != nil && (!e.ended || settled(e.outcome.Reason)) {
		return e, false
	}
	if t.inFlight >= MaxInFlight {
		return nil, false
	}
	t.inFlight++
	if e != nil {
		t.ended.Remove(e.place)
		e.done, e.ended, e.place = make(chan struct{}), false, nil
		return e, true
	}
	for len(t.known) >= MaxKnown { // not all of them are under way
		t.forget(t.ended.Front().Value.(*entry))
	}
	e = &entry{id: id, done: make(chan struct{})}
	t.known[id] = e
	time.AfterFunc(kept(deadline), func() { s.expire(name, e) })
	return e, true
}

// settled reports whether a push that ended so is not to be sent again. What was refused
// for a want of room, or at a stop, nobody has seen.
func settled(r push.Reason) bool {
	return !r.Retryable() && r != push.QueueFull && r != push.BreakerOpen && r != push.ShutDown
}

// kept is how long a push is remembered.
func kept(deadline time.Time) time.Duration { return min(time.Until(deadline)+keep, maxKeep) }

func claimKey(name, id string) string {
	sum := sha256.Sum256([]byte(name + "\x00" + id))
	return "relay " + hex.EncodeToString(sum[:16])
}

// claim reports whether this instance is to send the push. While another one has it, it
// asks again until ctx ends: that one may give it back. Where the store does not say, it
// is: a call is worth more than the risk of a second push.
func (s *Service) claim(ctx context.Context, key string, deadline time.Time) bool {
	for theirs := false; ; {
		limited, cancel := context.WithTimeout(ctx, storeTime)
		mine, err := s.claimer.Claim(limited, key, kept(deadline))
		cancel()
		if mine || err != nil && !theirs {
			return true
		}
		theirs = true
		select {
		case <-ctx.Done():
			return false
		case <-time.After(claimPause):
		}
	}
}

// leave lets go of a push that another instance has, and knows the end of.
func (s *Service) leave(name string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	t.inFlight--
	delete(t.known, e.id)
	close(e.done)
}

// release gives a claim back, so that any instance may send the push.
func (s *Service) release(key string) (ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	return s.claimer.Release(ctx, key) == nil
}

// ended notes how a push ended, and whether this instance has still claimed it.
func (s *Service) ended(name string, e *entry, o push.Outcome, claimed bool) {
	s.pushes.WithLabelValues(name, string(o.Reason)).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	t.inFlight--
	e.outcome, e.ended, e.claimed = o, true, claimed
	if t.known[e.id] == e { // its time is not over
		e.place = t.ended.PushBack(e)
	}
	close(e.done)
	s.tidy(name, t)
}

// expire forgets an entry whose time is over.
func (s *Service) expire(name string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tenants[name]; t != nil && t.known[e.id] == e {
		t.forget(e)
		s.tidy(name, t)
	}
}

// forget lets go of an entry.
func (t *tenant) forget(e *entry) {
	if e.place != nil {
		t.ended.Remove(e.place)
	}
	delete(t.known, e.id)
}

// tidy forgets a tenant without anything. The caller holds the lock.
func (s *Service) tidy(name string, t *tenant) {
	if len(t.known) == 0 && t.inFlight == 0 && t.waiting == 0 {
		delete(s.tenants, name)
	}
}

// wait returns how the push ended, unless ctx ends before, or there are too many that
// wait already.
func (s *Service) wait(ctx context.Context, name string, e *entry) (o push.Outcome, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, done := s.tenants[name], e.done
	if e.ended || t == nil || t.waiting >= MaxWaiting {
		return e.outcome, e.ended
	}
	t.waiting++
	s.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.mu.Lock()
	t.waiting--
	s.tidy(name, t)
	return e.outcome, e.ended
}
