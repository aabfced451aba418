// Package relay pushes for other sipwakes, those of PBXs whose users have this maker's
// app: the other end is push/relay. A push has an ID and is sent once, however often it
// is asked for; each tenant has a bound of its own, so that what one does is not felt by
// the others. Nothing of a push is stored.
package relay

import (
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
	// maxKnown is how many of its pushes are remembered, with those under way.
	maxKnown = 8192
	// maxTTL is the longest that a push may be worth delivering.
	maxTTL = 28 * 24 * time.Hour
	// keep is how long the end of a push is remembered past its deadline, for tries whose
	// answer was lost. A push that may be delivered for long is remembered for less.
	keep    = time.Minute
	maxKeep = 10 * time.Minute
	// claimTime bounds what the store may take.
	claimTime = 300 * time.Millisecond
)

// Pusher sends pushes, as push.Dispatcher does.
type Pusher interface {
	Push(ctx context.Context, r push.Request, done func(push.Outcome))
}

// Claimer lets one of several instances do something, as wake.Sweeper does.
type Claimer interface {
	Claim(ctx context.Context, key string, ttl time.Duration) (bool, error)
}

// Service relays pushes. Safe for concurrent use.
type Service struct {
	pusher  Pusher
	claimer Claimer
	pushes  *prometheus.CounterVec

	mu      sync.Mutex
	tenants map[string]*tenant
}

// tenant is what one has under way, and what is known of its last pushes.
type tenant struct {
	inFlight int
	known    map[string]*entry
}

// entry is one push. Guarded by the mutex of Service, but done, which is closed when
// outcome is there.
type entry struct {
	done    chan struct{}
	ended   bool
	outcome push.Outcome
}

// New returns a Service without pushes. It registers its metrics with reg.
func New(p Pusher, c Claimer, reg prometheus.Registerer) *Service {
	s := &Service{pusher: p, claimer: c, tenants: make(map[string]*tenant), pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sipwake_relay_pushes_total",
		Help: "Pushes of other sipwakes that ended, by tenant and reason; throttled is also what was over its bound."}, []string{"tenant", "reason"})}
	reg.MustRegister(s.pushes)
	return s
}

// Push sends the push of the tenant with that ID, unless it is under way or has ended
// already, and returns how it ended. It waits until ctx ends; ended is false then, and
// the push goes on. A push that failed in a way that another try can help is sent anew
// when it is asked for again.
func (s *Service) Push(ctx context.Context, name, id string, r push.Request) (o push.Outcome, ended bool) {
	now := time.Now()
	r.Deadline = now.Add(min(max(r.Deadline.Sub(now), time.Second), maxTTL))
	e, mine := s.enter(name, id, r.Deadline)
	if e == nil {
		s.pushes.WithLabelValues(name, string(push.Throttled)).Inc()
		return push.Outcome{Reply: push.Reply{Reason: push.Throttled, About: push.AboutService, Detail: "too many pushes of this tenant are under way"}}, true
	}
	if mine != fresh && mine != again {
		return s.wait(ctx, e)
	}
	if mine == fresh && !s.claim(ctx, name, id, r.Deadline) {
		s.leave(name) // another instance sends it, and knows how it ends
		return s.wait(ctx, e)
	}
	s.pusher.Push(context.Background(), r, func(o push.Outcome) { s.ended(name, e, o) })
	return s.wait(ctx, e)
}

// turn is who sends a push that is asked for.
type turn int

const (
	known turn = iota // it is under way, or has ended
	fresh             // the caller
	again             // the caller, who need not claim it: it failed here
)

// enter returns the entry of a push, nil if the tenant is at its bound.
func (s *Service) enter(name, id string, deadline time.Time) (*entry, turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	if t == nil {
		t = &tenant{known: make(map[string]*entry)}
		s.tenants[name] = t
	}
	e := t.known[id]
	if e != nil && (!e.ended || !e.outcome.Reason.Retryable()) {
		return e, known
	}
	if t.inFlight >= MaxInFlight || e == nil && len(t.known) >= maxKnown {
		return nil, known
	}
	t.inFlight++
	if e != nil {
		e.done, e.ended = make(chan struct{}), false
		return e, again
	}
	e = &entry{done: make(chan struct{})}
	t.known[id] = e
	time.AfterFunc(min(time.Until(deadline)+keep, maxKeep), func() { s.forget(name, id) })
	return e, fresh
}

// claim reports whether this instance is to send the push. Where the store does not
// say, it is: a call is worth more than the risk of a second push.
func (s *Service) claim(ctx context.Context, name, id string, deadline time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	sum := sha256.Sum256([]byte(name + "\x00" + id))
	mine, err := s.claimer.Claim(ctx, "relay "+hex.EncodeToString(sum[:16]), min(time.Until(deadline)+keep, maxKeep))
	return mine || err != nil
}

func (s *Service) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants[name].inFlight--
}

func (s *Service) ended(name string, e *entry, o push.Outcome) {
	s.pushes.WithLabelValues(name, string(o.Reason)).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants[name].inFlight--
	e.outcome, e.ended = o, true
	close(e.done)
}

// forget lets go of an entry, and of a tenant without any.
func (s *Service) forget(name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	if delete(t.known, id); len(t.known) == 0 && t.inFlight == 0 {
		delete(s.tenants, name)
	}
}

func (s *Service) wait(ctx context.Context, e *entry) (o push.Outcome, ended bool) {
	s.mu.Lock()
	done := e.done
	s.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return push.Outcome{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.outcome, true
}
