// Package relay sends pushes for other sipwakes: those of PBXs whose users have this
// maker's app. Their end is push/relay. A push has an ID and is sent once, however
// often it is requested. Each tenant has its own limits, so that tenants do not
// affect each other. Nothing about a push is stored.
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

// Limits of one tenant.
const (
	// MaxInFlight limits its pushes in progress.
	MaxInFlight = 256
	// MaxWaiting limits its requests that wait for the end of a push.
	MaxWaiting = 256
	// MaxKnown limits its remembered pushes, including those in progress. Beyond it,
	// the pushes that ended first are forgotten.
	MaxKnown = 8192
	// keep is how long the result of a push is remembered past its deadline, for
	// retries whose answer was lost. maxKeep limits this for pushes with a long
	// lifetime.
	keep    = time.Minute
	maxKeep = 10 * time.Minute
	// storeTime bounds each store operation.
	storeTime = 300 * time.Millisecond
	// claimPause is how long to wait before asking again for another instance's
	// claim.
	claimPause = 500 * time.Millisecond
)

// Pusher sends pushes, as push.Dispatcher does.
type Pusher interface {
	Push(ctx context.Context, r push.Request, done func(push.Outcome))
}

// Claimer lets one of several instances do a task, as wake.Sweeper does.
type Claimer interface {
	Claim(ctx context.Context, key string, ttl time.Duration) (bool, error)
	Release(ctx context.Context, key string) error
}

// Service relays pushes. Safe for concurrent use.
type Service struct {
	pusher  Pusher
	claimer Claimer
	pushes  *prometheus.CounterVec
	ends    sync.WaitGroup // pushes whose end has not been reported yet

	mu      sync.Mutex
	tenants map[string]*tenant
}

// tenant holds a tenant's pushes in progress, and the known results of its last
// ones.
type tenant struct {
	inFlight int
	waiting  int
	known    map[string]*entry
	ended    list.List // of *entry, oldest first
}

// entry is one push. The Service's mutex guards it, except for done, which is closed
// once outcome is set.
type entry struct {
	id      string
	done    chan struct{}
	outcome push.Outcome
	ended   bool
	place   *list.Element // in tenant.ended
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

// Stop waits until the claims of ended pushes have been released. Stop the pusher
// first.
func (s *Service) Stop() { s.ends.Wait() }

// Push sends the tenant's push with that ID, unless it is in progress or has already
// ended, and returns its outcome. It waits until ctx ends; then ended is false, and
// the push continues. It does not wait if the tenant already has MaxWaiting requests
// waiting. If a push failed in a way that a retry can fix, the next request for it
// sends it again.
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
			s.ends.Go(func() { s.ended(name, e, o, !s.release(key)) }) // do not make the caller wait for the store
		})
	}
	return s.wait(ctx, name, e)
}

// enter returns the entry of a push, or nil if the tenant is at its limit. mine
// reports whether the caller must send it.
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
	for len(t.known) >= MaxKnown { // not all of them are in progress
		t.forget(t.ended.Front().Value.(*entry))
	}
	e = &entry{id: id, done: make(chan struct{})}
	t.known[id] = e
	time.AfterFunc(kept(deadline), func() { s.expire(name, e) })
	return e, true
}

// settled reports whether a push that ended this way must not be sent again. Pushes
// refused for lack of room or at shutdown have reached nobody.
func settled(r push.Reason) bool {
	return !r.Retryable() && r != push.QueueFull && r != push.BreakerOpen && r != push.ShutDown
}

// kept returns how long a push is remembered.
func kept(deadline time.Time) time.Duration { return min(time.Until(deadline)+keep, maxKeep) }

func claimKey(name, id string) string {
	sum := sha256.Sum256([]byte(name + "\x00" + id))
	return "relay " + hex.EncodeToString(sum[:16])
}

// claim reports whether this instance should send the push. While another instance
// has the claim, it retries until ctx ends, because the claim may be released. If
// the store does not answer, the result is true: a call is worth more than the risk
// of a second push.
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

// leave drops a push that another instance has, and whose end that instance knows.
func (s *Service) leave(name string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	t.inFlight--
	delete(t.known, e.id)
	close(e.done)
}

// release gives up a claim, so that any instance may send the push.
func (s *Service) release(key string) (ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	return s.claimer.Release(ctx, key) == nil
}

// ended records how a push ended, and whether this instance still holds the claim.
func (s *Service) ended(name string, e *entry, o push.Outcome, claimed bool) {
	s.pushes.WithLabelValues(name, string(o.Reason)).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	t.inFlight--
	e.outcome, e.ended, e.claimed = o, true, claimed
	if t.known[e.id] == e { // not expired
		e.place = t.ended.PushBack(e)
	}
	close(e.done)
	s.tidy(name, t)
}

// expire removes an entry whose time is over.
func (s *Service) expire(name string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tenants[name]; t != nil && t.known[e.id] == e {
		t.forget(e)
		s.tidy(name, t)
	}
}

// forget removes an entry.
func (t *tenant) forget(e *entry) {
	if e.place != nil {
		t.ended.Remove(e.place)
	}
	delete(t.known, e.id)
}

// tidy removes a tenant that has nothing left. The lock must be held.
func (s *Service) tidy(name string, t *tenant) {
	if len(t.known) == 0 && t.inFlight == 0 && t.waiting == 0 {
		delete(s.tenants, name)
	}
}

// wait returns how the push ended. It returns early if ctx ends, or if too many
// requests are waiting already.
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
