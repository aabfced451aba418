package local

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/store/aor"
	"github.com/sipwake/sipwake/internal/wake"
)

const (
	// flushEvery is how long a refresh may wait for the disk.
	flushEvery = time.Second
	// With flushAt refreshed AORs a write starts at once. With dirtyMax, further
	// REGISTERs must wait.
	flushAt  = 65_536
	dirtyMax = 131_072
)

// writer collects changes. One goroutine writes them.
type writer struct {
	mu     sync.Mutex
	next   *batch        // RPCs are waiting for it
	states []*state      // refreshed AORs; no RPC waits for them
	tokens []tokenHash   // no RPC waits for them either
	room   chan struct{} // closed when the refreshed AORs have been taken
	closed bool          // no more changes are accepted

	now, soon chan struct{} // wake the goroutine: for next, for everything
	repair    chan struct{} // wakes it for a damaged file
	failure   atomic.Pointer[error]
	waiting   atomic.Int64 // refreshed AORs
	batches   uint64       // only the goroutine uses it
}

// batch is one write.
type batch struct {
	states []*state
	tokens []tokenHash
	jobs   []job
	done   chan struct{}
	err    error // valid once done
}

// job is a change that must read before it writes. It runs inside the transaction of a
// write. Its error is an error of the file: it fails the whole write for all waiters.
type job func(tx *writeTx) error

func (w *writer) init() {
	w.next = &batch{done: make(chan struct{})}
	w.room = make(chan struct{})
	w.now, w.soon, w.repair = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
}

// err returns the error of the last write.
func (w *writer) err() error {
	if p := w.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// urgent schedules the state and the tokens to be written at once. The state must be
// locked.
func (w *writer) urgent(st *state, tokens []tokenHash) *batch {
	st.queued = true
	w.mu.Lock()
	b := w.next
	b.states = append(b.states, st)
	b.tokens = append(b.tokens, tokens...)
	w.mu.Unlock()
	poke(w.now)
	return b
}

// lazy schedules the state to be written soon. The state must be locked.
func (w *writer) lazy(st *state) {
	if st.queued {
		return
	}
	st.queued = true
	w.mu.Lock()
	w.states = append(w.states, st)
	n := len(w.states)
	w.mu.Unlock()
	w.waiting.Store(int64(n))
	if n >= flushAt {
		poke(w.soon)
	}
}

// do runs the job in the next write and returns when that write is on disk. After an
// error the job may still be running.
func (w *writer) do(ctx context.Context, f job) error {
	ran := false
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return fmt.Errorf("%w: %w", wake.ErrUnavailable, errClosed)
	}
	b := w.next
	b.jobs = append(b.jobs, func(tx *writeTx) error {
		if ctx.Err() != nil {
			return nil // nobody waits for the result any more
		}
		ran = true
		return f(tx)
	})
	w.mu.Unlock()
	poke(w.now)
	err := w.wait(ctx, b)
	if err == nil && !ran {
		err = fmt.Errorf("%w: %w", wake.ErrUnavailable, context.Cause(ctx))
	}
	return err
}

func (w *writer) lazyTokens(tokens []tokenHash) {
	w.mu.Lock()
	w.tokens = append(w.tokens, tokens...)
	w.mu.Unlock()
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// admit blocks while too many changes wait for the disk.
func (w *writer) admit(ctx context.Context) error {
	for w.waiting.Load() >= dirtyMax {
		if err := w.err(); err != nil {
			return fmt.Errorf("%w: cannot write: %w", wake.ErrUnavailable, err)
		}
		w.mu.Lock()
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("%w: too much waits for the disk: %w", wake.ErrUnavailable, context.Cause(ctx))
		}
	}
	return nil
}

// wait returns when the batch is on disk, or with an error when ctx ends; then the
// batch may or may not be on disk.
func (w *writer) wait(ctx context.Context, b *batch) error {
	select {
	case <-b.done:
		if b.err != nil {
			return fmt.Errorf("%w: cannot write: %w", wake.ErrUnavailable, b.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: the disk has not confirmed: %w", wake.ErrUnavailable, context.Cause(ctx))
	}
}

// take returns what to write now. With all, this includes the refreshes.
func (w *writer) take(all bool) *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.next
	w.next = &batch{done: make(chan struct{})}
	if all {
		b.states = append(b.states, w.states...)
		b.tokens = append(b.tokens, w.tokens...)
		w.states, w.tokens = nil, nil
		w.waiting.Store(0)
		close(w.room)
		w.room = make(chan struct{})
	}
	return b
}

// together is a number of waiters. If at least so many waited for one write, it is likely
// that as many new requests come at once after they have been answered.
const together = 8

// write is the writer's goroutine. Changes that arrive during one write form the next.
// Callers that a write has answered may return in a moment: if there were many, write
// waits for them, for a fraction of the time that the write took.
func (s *Store) write(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var many bool
	var took time.Duration
	for {
		select {
		case <-s.writer.now:
			if many {
				time.Sleep(took / 8)
			}
			began := time.Now()
			b := s.writer.take(false)
			s.commit(b)
			many, took = len(b.states) >= together, min(time.Since(began), 16*time.Millisecond)
		case <-s.writer.soon:
			s.commit(s.writer.take(true))
		case <-s.writer.repair:
			_ = s.mend() // mend logs its error
		case <-tick.C:
			s.commit(s.writer.take(true))
			s.rest()
			s.endExpiring(time.Now())
		case <-ctx.Done():
			// The store is closed: no further caller gets a lock.
			for i := range s.shards {
				s.shards[i].mu.Lock()
				s.shards[i].mu.Unlock() //nolint:staticcheck // a barrier
			}
			s.writer.mu.Lock()
			s.writer.closed = true
			s.writer.mu.Unlock()
			s.commit(s.writer.take(true))
			return
		}
	}
}

// op is one change of the file.
type op struct {
	st      *state
	d       *aor.Device
	gen     uint64
	key     []byte
	value   []byte // nil: delete, unless it is a refresh
	refresh bool   // only the times change: see refreshes
	hash    bindingHash
	kept    kept // of the new value
}

// commit writes the batch. If that fails, states and tokens are written with the next.
func (s *Store) commit(b *batch) {
	ops, notes := s.collect(b.states)
	tokens := s.index.collect(b.tokens)
	if len(ops)+len(tokens)+len(notes)+len(b.jobs) > 0 {
		began := time.Now()
		b.err = s.update(func(tx *writeTx) error { return s.put(tx, ops, tokens, notes, b.jobs) })
		s.metrics.commit.Observe(time.Since(began).Seconds())
		s.report(b.err)
	}
	s.notesDone(notes, b.err != nil)
	if b.err == nil {
		s.saved(ops)
		s.index.saved(tokens)
	} else {
		for _, st := range b.states {
			sh := s.shardOf(st.AOR)
			sh.mu.Lock()
			s.writer.lazy(st)
			sh.mu.Unlock()
		}
		s.writer.lazyTokens(b.tokens)
	}
	close(b.done)
}

// report records the state of the disk for Ping and logs changes of it.
func (s *Store) report(err error) {
	before := s.writer.err()
	if err == nil {
		s.writer.failure.Store(nil)
		if before != nil {
			s.log.Info("store writes again")
		}
		return
	}
	s.metrics.errors.Inc()
	s.writer.failure.Store(&err)
	if before == nil {
		s.log.Error("cannot write store", "err", err)
	}
}

// collect copies the dirty values, because they may change while they are written.
func (s *Store) collect(states []*state) (ops []op, notes []noteOp) {
	refreshes := make([]op, 0, len(states))
	s.writer.batches++
	for _, st := range states {
		sh := s.shardOf(st.AOR)
		sh.mu.Lock()
		if st.batch == s.writer.batches { // it occurs twice, and has been copied
			sh.mu.Unlock()
			continue
		}
		st.queued, st.batch = false, s.writer.batches
		notes = st.takeNotes(notes)
		for _, d := range st.Devices {
			if !d.Dirty() {
				continue
			}
			if o := s.newOp(st, d); o.refresh {
				refreshes = append(refreshes, o)
			} else {
				ops = append(ops, o)
			}
		}
		sh.mu.Unlock()
	}
	slices.SortFunc(ops, func(a, b op) int { return bytes.Compare(a.key, b.key) })
	return append(refreshes, ops...), notes
}

// newOp returns the op that brings the device's state to the file.
func (s *Store) newOp(st *state, d *aor.Device) op {
	var room [256]byte
	key := appendKey(room[:0], st.AOR, d.Name)
	o := op{st: st, d: d, gen: d.Gen, hash: hashBinding(key)}
	if !d.Gone {
		o.kept = keptOf(d.Value)
		o.refresh = d.Filed == o.kept.lasting && d.Saved >= d.Firm && s.refreshes.keeps(o.hash)
	}
	if o.refresh {
		return o
	}
	if o.key = bytes.Clone(key); !d.Gone {
		o.value = bytes.Clone(d.Value)
	}
	return o
}

func (s *Store) put(tx *writeTx, ops []op, tokens []tokenOp, notes []noteOp, jobs []job) error {
	bindings, index, shared := tx.table(bucketBindings()), tx.table(bucketTokens()), tx.table(bucketShared())
	for i := range ops {
		var err error
		switch o := &ops[i]; {
		case o.refresh:
		case o.value == nil:
			err = bindings.Delete(o.key)
		default:
			err = bindings.Put(o.key, o.value)
		}
		if err != nil {
			return err
		}
	}
	if err := s.refreshes.put(tx, ops); err != nil {
		return err
	}
	for _, t := range tokens {
		if err := t.put(index, shared); err != nil {
			return err
		}
	}
	for _, n := range notes {
		if err := n.put(tx); err != nil {
			return err
		}
	}
	for _, f := range jobs {
		if err := f(tx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) saved(ops []op) {
	s.refreshes.written(ops)
	for i := range ops {
		o := &ops[i]
		sh := s.shardOf(o.st.AOR)
		sh.mu.Lock()
		s.refreshes.saved(o)
		o.d.Saved = max(o.d.Saved, o.gen)
		if o.d.Gone && !o.d.Dirty() {
			o.st.Devices = slices.DeleteFunc(o.st.Devices, func(d *aor.Device) bool { return d == o.d })
		}
		sh.mu.Unlock()
	}
}
