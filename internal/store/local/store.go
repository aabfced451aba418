// Package local is the store of a single sipwake, in one file on this machine.
// Bindings, messages of applications and claims are durable. Wakes and other
// short-lived data are only in memory.
//
// A new, changed or removed binding is acknowledged once it is on disk; all
// requests that wait at the same time share one write. A refresh of a known
// binding is acknowledged at once and written within about a second: a crash can
// lose the time of a REGISTER, but never a binding. Everything that the outbox
// and the claims acknowledge is on disk.
package local

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

// Store implements wake.Store, wake.Sweeper, outbox.Store, upper.Store and wake.History in a file.
type Store struct {
	config  Config
	data    atomic.Pointer[data]
	damage  atomic.Pointer[string] // damage found since the start
	log     *slog.Logger
	metrics *metrics
	seed    maphash.Seed
	shards  [shards]shard
	index   index
	// refreshes has what the file's bindings lack.
	refreshes refreshes
	writer    writer
	stop      context.CancelFunc
	done      sync.WaitGroup
	closed    atomic.Bool
	backup    sync.Mutex // protects the backup file
	// expiring is nil while it is not used. expiringStart is held while it is built.
	expiring      atomic.Pointer[expiring]
	expiringStart sync.Mutex
	// mendFailed is when rebuilding the file last failed. Only the writer uses it.
	mendFailed time.Time
}

var (
	_ wake.Store   = (*Store)(nil)
	_ wake.Sweeper = (*Store)(nil)
	_ outbox.Store = (*Store)(nil)
	_ upper.Store  = (*Store)(nil)
	_ wake.History = (*Store)(nil)
)

var (
	errUsage  = errors.New("AOR and device are needed")
	errClosed = errors.New("the store is closed")
)

// New opens the file and creates it if it does not exist. It fails within a second
// if another process has it open. The caller must call Close.
func New(c Config, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	c.SetDefaults()
	opened, found, err := open(c.Path)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Store{config: c, log: log, metrics: newMetrics(), seed: maphash.MakeSeed(), stop: stop}
	for i := range s.shards {
		s.shards[i].aors = make(map[string]*state)
	}
	s.writer.init()
	s.refreshes.init()
	s.data.Store(opened)
	if err := errors.Join(s.index.init(s.read), s.refreshes.load(s.read)); err != nil {
		stop()
		_ = opened.close()
		return nil, fmt.Errorf("cannot open store %q: %w", c.Path, err)
	}
	if found != nil {
		s.tell(*found)
	}
	s.metrics.register(reg, s)
	s.done.Go(func() { s.write(ctx) })
	s.done.Go(func() { s.sweep(ctx) })
	s.done.Go(func() { s.fold(ctx) })
	return s, nil
}

// Close writes all pending changes and closes the file. Later RPCs fail. It returns
// the error of the last write.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.done.Wait()
	err := s.writer.err()
	if err == nil {
		err = s.data.Load().close()
	} else {
		_ = s.data.Load().close()
	}
	if err != nil {
		return fmt.Errorf("cannot close store: %w", err)
	}
	return nil
}

// Ping returns the error of the last write, nil if it succeeded.
func (s *Store) Ping(context.Context) error {
	if s.closed.Load() {
		return fmt.Errorf("%w: %w", wake.ErrUnavailable, errClosed)
	}
	if err := s.writer.err(); err != nil {
		return fmt.Errorf("%w: cannot write: %w", wake.ErrUnavailable, err)
	}
	return nil
}

// lock returns the AOR's state, locked. Unlock it through the shard. After an error
// nothing is locked.
func (s *Store) lock(ctx context.Context, aor string) (*shard, *state, error) {
	return s.lockFor(ctx, aor, nil)
}

// lockFor is lock for a REGISTER, if r is not nil: a refresh need not read the file.
func (s *Store) lockFor(ctx context.Context, aor string, r *wake.Registration) (*shard, *state, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", wake.ErrUnavailable, err)
	}
	sh := s.shardOf(aor)
	sh.mu.Lock()
	if s.closed.Load() {
		sh.mu.Unlock()
		return nil, nil, fmt.Errorf("%w: %w", wake.ErrUnavailable, errClosed)
	}
	if st := sh.aors[aor]; st != nil {
		return sh, st, nil
	}
	st := s.recall(sh, r)
	if st == nil {
		var err error
		if st, err = s.load(aor); err != nil {
			sh.mu.Unlock()
			return nil, nil, fmt.Errorf("%w: cannot read file: %w", wake.ErrUnavailable, err)
		}
	}
	sh.aors[st.AOR] = st
	return sh, st, nil
}

func (s *Store) shardOf(aor string) *shard {
	return &s.shards[maphash.String(s.seed, aor)%shards]
}

// Start implements wake.Store.
func (s *Store) Start(ctx context.Context, w wake.Wake) (wake.Started, error) {
	if w.AOR == "" {
		return wake.Started{}, fmt.Errorf("cannot start wake %q: %w", w.ID, errUsage)
	}
	if w.StartedAt.IsZero() {
		w.StartedAt = time.Now()
	}
	sh, st, err := s.lock(ctx, w.AOR)
	if err != nil {
		return wake.Started{}, fmt.Errorf("cannot start wake for %q: %w", w.AOR, err)
	}
	defer sh.mu.Unlock()
	now := time.Now()
	res := st.Start(&w, now)
	if res.Ended || res.Duplicate || res.Full {
		return res, nil
	}
	if res.Bindings, err = s.bindings(st, now, nil); err == nil {
		res.Recent, err = st.Recent(now.Add(-s.config.Recent))
	}
	if err != nil {
		return wake.Started{}, fmt.Errorf("cannot start wake for %q: %w", w.AOR, err)
	}
	return res, nil
}

// End implements wake.Store.
func (s *Store) End(ctx context.Context, aor, node, call string) (wake.Ended, error) {
	sh, st, err := s.lock(ctx, aor)
	if err != nil {
		return wake.Ended{}, fmt.Errorf("cannot end wake for %q: %w", aor, err)
	}
	defer sh.mu.Unlock()
	w, known := st.End(node, call, time.Now(), true)
	return wake.Ended{Known: known, Wake: w}, nil
}

// Remove implements wake.Store.
func (s *Store) Remove(ctx context.Context, r wake.Removal) (wake.RemovalResult, error) {
	if err := store.CheckRemoval(&r); err != nil {
		return wake.RemovalResult{}, fmt.Errorf("cannot remove bindings: %w", err)
	}
	res, wait, err := s.removeNow(ctx, r)
	if err == nil && wait != nil {
		err = s.writer.wait(ctx, wait)
	}
	if err != nil {
		return wake.RemovalResult{}, fmt.Errorf("cannot remove bindings of %q: %w", r.AOR, err)
	}
	return res, nil
}

func (s *Store) removeNow(ctx context.Context, r wake.Removal) (res wake.RemovalResult, wait *batch, err error) {
	var token []byte
	if !r.Token.Empty() {
		token = store.AppendTokenKey(nil, r.Token)
	}
	sh, st, err := s.lock(ctx, r.AOR)
	if err != nil {
		return res, nil, err
	}
	defer sh.mu.Unlock()
	now := time.Now()
	removed, err := st.Remove(&r, token, now)
	if err != nil {
		return res, nil, err
	}
	res = wake.RemovalResult{Bindings: len(removed.Went), Tokens: removed.Tokens}
	went := st.took(removed.Went, now)
	if removed.Tokens > 0 {
		went = append(went, hashToken(token))
	}
	switch {
	case removed.Pending: // even if it is already gone, that may not be on disk yet
		wait = s.writer.urgent(st, s.index.release(r.AOR, went))
	case token != nil && !removed.Known: // the index is out of date
		s.writer.lazyTokens(s.index.release(r.AOR, []tokenHash{hashToken(token)}))
	}
	return res, wait, nil
}

// Bindings implements wake.Store.
func (s *Store) Bindings(ctx context.Context, q wake.Query) ([]wake.Binding, error) {
	if (q.AOR == "") == q.Token.Empty() {
		return nil, errors.New("cannot list bindings: exactly one of AOR and token must be given")
	}
	aors := []string{q.AOR}
	var token []byte
	if q.AOR == "" {
		token = store.AppendTokenKey(nil, q.Token)
		var err error
		if aors, err = s.index.owners(hashToken(token)); err != nil {
			return nil, fmt.Errorf("cannot list bindings: %w: cannot read file: %w", wake.ErrUnavailable, err)
		}
		aors = slices.Sorted(slices.Values(aors))
	}
	var all []wake.Binding
	for _, aor := range aors {
		list, err := s.bindingsOf(ctx, aor, token)
		if err != nil {
			return nil, fmt.Errorf("cannot list bindings of %q: %w", aor, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// bindingsOf returns the AOR's bindings; with a token, only those that have it.
func (s *Store) bindingsOf(ctx context.Context, aor string, token []byte) ([]wake.Binding, error) {
	sh, st, err := s.lock(ctx, aor)
	if err != nil {
		return nil, err
	}
	defer sh.mu.Unlock()
	return s.bindings(st, time.Now(), token)
}
