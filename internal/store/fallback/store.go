// Package fallback keeps phones reachable while the store is unreachable ("away"). It
// wraps a store that other machines share. While that store answers, it only observes
// and remembers the bindings that it sees.
//
// While the store is away:
//   - A REGISTER is kept on disk (the spool) and replayed to the store later. There a
//     later REGISTER takes precedence over it.
//   - A wake is started from memory, for the devices that this instance has seen.
//   - When a phone registers here, the nodes that hold requests for it are notified.
//
// None of this is acknowledged as stored: Register still returns the store's error.
package fallback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// Store is a wake.Store. It is safe for concurrent use.
type Store struct {
	wake.Store // the wrapped store, which may be away

	ping    func(context.Context) error
	health  health
	memory  *memory
	spool   *spool
	log     *slog.Logger
	metrics *metrics
}

var (
	_ wake.Store   = (*Store)(nil)
	_ wake.History = (*Store)(nil)
)

var errAway = fmt.Errorf("%w: it has not answered lately", wake.ErrUnavailable)

// New wraps the store. It opens the spool and does no network I/O. ping reports whether
// the store can be used. Nothing is replayed to the store until Run is called. The
// caller must call Close.
func New(c Config, inner wake.Store, ping func(context.Context) error, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	c.SetDefaults()
	m := newMetrics()
	sp, err := openSpool(c.Spool, c.SpoolSize, log, m)
	if err != nil {
		return nil, err
	}
	s := &Store{Store: inner, ping: ping, memory: newMemory(c), spool: sp, log: log, metrics: m}
	m.register(reg, s)
	return s, nil
}

// Close writes pending registrations to disk and closes the spool. The wrapped store
// stays open.
func (s *Store) Close() error { return s.spool.close() }

// away reports whether the error means that the store is away, rather than that the
// caller gave up.
func (s *Store) away(ctx context.Context, err error) bool {
	if !errors.Is(err, wake.ErrUnavailable) || errors.Is(ctx.Err(), context.Canceled) {
		return false
	}
	if s.health.failed() {
		s.log.Warn("store is away: registrations are kept on this machine, calls are started from memory", "err", err)
	}
	return true
}

func (s *Store) answered() {
	if s.health.ok() {
		s.log.Info("store is back", "spool", s.spool.len())
	}
}

// Register implements wake.Store. While the store is away it keeps the registration, and
// returns the store's error together with the wakes that are known here.
func (s *Store) Register(ctx context.Context, r wake.Registration) (wake.Registered, error) {
	if r.RegisteredAt.IsZero() {
		r.RegisteredAt = time.Now()
	}
	if !s.health.allow() {
		return s.registerAway(ctx, &r, fmt.Errorf("cannot register %q: %w", r.AOR, errAway))
	}
	if r.CreatedAt.IsZero() {
		r.CreatedAt = r.RegisteredAt
	}
	if r.Action == wake.ActionBind && !r.Gone && !r.Late && r.Value == nil {
		room := rooms.Get().(*[]byte)
		defer rooms.Put(room)
		value, _, err := store.AppendBinding((*room)[:0], &r.Binding, time.Time{})
		if err == nil { // else the store says so
			*room, r.Value = value, value
		}
	}
	res, err := s.Store.Register(ctx, r)
	switch {
	case err == nil:
		s.answered()
		s.memory.registered(&r, &res)
	case s.away(ctx, err):
		return s.registerAway(ctx, &r, err)
	}
	return res, err
}

// rooms are buffers for the values of bindings.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

func (s *Store) registerAway(ctx context.Context, r *wake.Registration, err error) (wake.Registered, error) {
	if r.Late || r.AOR == "" || r.Device == "" && r.Action != wake.ActionSeen {
		return wake.Registered{}, err
	}
	r.Value = nil // its buffer is used again before the spool is written
	wakes, stale := s.memory.registerAway(r)
	if !stale && r.Action != wake.ActionSeen { // that a device was seen is of no use later
		s.spool.add(ctx, r)
	}
	return wake.Registered{Wakes: wakes}, err
}

// Start implements wake.Store. While the store is away it starts the wake from memory if
// it knows any device of the AOR.
func (s *Store) Start(ctx context.Context, w wake.Wake) (wake.Started, error) {
	if w.StartedAt.IsZero() {
		w.StartedAt = time.Now()
	}
	err := errAway
	if s.health.allow() {
		res, e := s.Store.Start(ctx, w)
		if e == nil {
			s.answered()
			s.memory.started(&w, &res)
			return res, nil
		}
		if err = e; !s.away(ctx, err) {
			return res, err
		}
	}
	if res, ok := s.memory.startAway(&w); ok && w.AOR != "" {
		s.metrics.hits.Inc()
		return res, nil
	}
	s.metrics.misses.Inc()
	return wake.Started{}, fmt.Errorf("cannot start wake for %q: %w", w.AOR, err)
}

// End implements wake.Store. For a wake that this instance started it succeeds even
// while the store is away.
func (s *Store) End(ctx context.Context, aor, node, call string) (wake.Ended, error) {
	err := errAway
	if s.health.allow() {
		res, e := s.Store.End(ctx, aor, node, call)
		if e == nil {
			s.answered()
			if w, known := s.memory.end(aor, node, call, false); known && !res.Known {
				res = wake.Ended{Known: true, Wake: w}
			}
			return res, nil
		}
		if err = e; !s.away(ctx, err) {
			return res, err
		}
	}
	if w, known := s.memory.end(aor, node, call, true); known {
		return wake.Ended{Known: true, Wake: w}, nil
	}
	return wake.Ended{}, fmt.Errorf("cannot end wake for %q: %w", aor, err)
}

// Remove implements wake.Store. It fails while the store is away.
func (s *Store) Remove(ctx context.Context, r wake.Removal) (wake.RemovalResult, error) {
	res, err := s.Store.Remove(ctx, r)
	if err == nil {
		s.memory.remove(&r)
	}
	return res, err
}

// Bindings implements wake.Store. It fails while the store is away.
func (s *Store) Bindings(ctx context.Context, q wake.Query) ([]wake.Binding, error) {
	if !s.health.allow() {
		return nil, fmt.Errorf("cannot list bindings: %w", errAway)
	}
	began := time.Now()
	list, err := s.Store.Bindings(ctx, q)
	switch {
	case err == nil:
		s.answered()
		if q.AOR != "" {
			s.memory.learn(q.AOR, list, began)
		}
	case s.away(ctx, err):
	}
	return list, err
}

// Removals implements wake.History if the wrapped store does. It fails while the store is
// away.
func (s *Store) Removals(ctx context.Context, aor string) ([]wake.RemovalNote, error) {
	h, ok := s.Store.(wake.History)
	if !ok {
		return nil, nil
	}
	if !s.health.allow() {
		return nil, fmt.Errorf("cannot read history: %w", errAway)
	}
	list, err := h.Removals(ctx, aor)
	switch {
	case err == nil:
		s.answered()
	case s.away(ctx, err):
	}
	return list, err
}
