package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"
)

const (
	foldEvery = time.Second
	// foldLeast is how many refreshes the bucket may have, besides two for each binding.
	foldLeast = 10_000
	// leastFold and mostFold bound how many keys of the file one step takes: see step.
	leastFold = 1000
	mostFold  = 32_000
)

// fold is the goroutine that writes the times of refreshes to their bindings, all in the
// order of the file, and then deletes the refreshes. By then most bindings were refreshed,
// so that one write of a page serves all bindings on it.
func (s *Store) fold(ctx context.Context) {
	for pause(ctx, foldEvery) {
		if !s.refreshes.due() {
			continue
		}
		if s.foldAll(ctx) != nil { // the read or the write has reported it
			pause(ctx, mendPause)
		}
	}
}

// due reports whether there are enough refreshes to fold them.
func (x *refreshes) due() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.entries > foldLeast+2*x.size()
}

// folding is one pass over the file.
type folding struct {
	store *Store
	last  uint64 // the number up to which refreshes are folded
	step  int    // how many keys of the file the next step takes
}

// foldAll folds all refreshes that are in the bucket now.
func (s *Store) foldAll(ctx context.Context) error {
	x := &s.refreshes
	x.mu.Lock()
	f, entries := folding{store: s, last: x.last, step: leastFold}, x.entries
	x.mu.Unlock()
	for from := []byte{}; from != nil; {
		var err error
		if from, err = f.bindings(ctx, from); err != nil {
			return err
		}
		if !pause(ctx, sweepPause) {
			return ctx.Err()
		}
	}
	for more := true; more; {
		var err error
		if more, err = f.delete(ctx); err != nil {
			return err
		}
	}
	// Only now, so that nothing is forgotten that the bucket still says.
	x.each(func(_ bindingHash, k *kept) bool {
		if k.number > f.last {
			return true
		}
		k.number = 0
		return k.filed // or it has no binding, or one that was written later
	})
	x.mu.Lock()
	x.entries = max(x.entries-entries, 0)
	x.mu.Unlock()
	return nil
}

// write runs a job of the writer. If that takes long, because the disk is slow or there is
// much else to write, the next step is longer, else shorter: so a pass keeps up with new
// refreshes, and others wait for a short write only.
func (f *folding) write(ctx context.Context, j job) error {
	began := time.Now()
	err := f.store.writer.do(ctx, j)
	f.took(time.Since(began))
	return err
}

func (f *folding) took(d time.Duration) {
	if d > 4*sweepPause {
		f.step = min(2*f.step, mostFold)
	} else {
		f.step = max(f.step/2, leastFold)
	}
}

// bindings folds the refreshes of some bindings. It returns where to continue, nil at the
// end.
func (f *folding) bindings(ctx context.Context, from []byte) (next []byte, err error) {
	s := f.store
	var keys [][]byte
	err = s.read(func(r reader) error {
		next, keys = nil, nil
		c := r.table(bucketBindings()).Cursor()
		n := 0
		for k, _ := c.Seek(from); k != nil; k, _ = c.Next() {
			if n++; n > f.step {
				next = bytes.Clone(k)
				return nil
			}
			if is, _ := s.refreshes.get(hashBinding(k)); is.number != 0 && is.number <= f.last {
				keys = append(keys, bytes.Clone(k))
			}
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return next, err
	}
	return next, f.write(ctx, func(tx *writeTx) error {
		bindings := tx.table(bucketBindings())
		for _, k := range keys {
			value := bytes.Clone(bindings.Get(k))
			if s.refreshes.update(hashBinding(k), value) == 0 {
				continue
			}
			if err := bindings.Put(k, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// delete deletes some of the refreshes from the bucket, and reports whether there are more.
func (f *folding) delete(ctx context.Context) (more bool, err error) {
	err = f.write(ctx, func(tx *writeTx) error {
		var keys [][]byte
		refreshes := tx.table(bucketRefreshes())
		more = false
		refreshes.each(func(k []byte) bool {
			if len(k) == 8 && binary.BigEndian.Uint64(k) > f.last {
				return false
			}
			keys = append(keys, bytes.Clone(k))
			more = len(keys) == f.step
			return !more
		})
		for _, k := range keys {
			if err := refreshes.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	return more, err
}
