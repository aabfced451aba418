package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"
)

const (
	foldEvery = time.Second
	// foldBatch is how many bindings or numbers one write takes out of the refreshes.
	foldBatch = 1000
	// foldLeast is how many refreshes the bucket may have, besides two for each binding.
	foldLeast = 10_000
)

// fold is the goroutine that writes the times of refreshes to their bindings, all in the
// order of the file, and then deletes the refreshes. By then most bindings were refreshed,
// so that one write of a page serves all bindings on it.
func (s *Store) fold(ctx context.Context) {
	for pause(ctx, foldEvery) {
		if !s.refreshes.due() {
			continue
		}
		if err := s.foldAll(ctx); err != nil && !errors.Is(err, errClosed) && ctx.Err() == nil {
			s.log.Error("cannot write refreshes to their bindings", "err", err)
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

// foldAll folds all refreshes that are in the bucket now.
func (s *Store) foldAll(ctx context.Context) error {
	x := &s.refreshes
	x.mu.Lock()
	last, entries := x.last, x.entries
	x.mu.Unlock()
	for from := []byte{}; from != nil; {
		var err error
		if from, err = s.foldSome(ctx, from, last); err != nil {
			return err
		}
		if !pause(ctx, sweepPause) {
			return ctx.Err()
		}
	}
	for more := true; more; {
		err := s.writer.do(ctx, func(tx *writeTx) (err error) {
			more, err = deleteRefreshes(tx.table(bucketRefreshes()), last)
			return err
		})
		if err != nil {
			return err
		}
	}
	// Only now, so that nothing is forgotten that the bucket still says.
	x.each(func(_ bindingHash, k *kept) bool {
		if k.number > last {
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

// foldSome folds the refreshes of some bindings, up to a number. It returns where to
// continue, nil at the end.
func (s *Store) foldSome(ctx context.Context, from []byte, last uint64) (next []byte, err error) {
	var keys [][]byte
	err = s.read(func(r reader) error {
		next, keys = nil, nil
		c := r.table(bucketBindings()).Cursor()
		n := 0
		for k, _ := c.Seek(from); k != nil; k, _ = c.Next() {
			if n++; n > foldBatch {
				next = bytes.Clone(k)
				return nil
			}
			if is, _ := s.refreshes.get(hashBinding(k)); is.number != 0 && is.number <= last {
				keys = append(keys, bytes.Clone(k))
			}
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return next, err
	}
	return next, s.writer.do(ctx, func(tx *writeTx) error {
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

// deleteRefreshes deletes some of the refreshes up to a number, and reports whether there
// are more.
func deleteRefreshes(table *table, last uint64) (more bool, err error) {
	var keys [][]byte
	table.each(func(k []byte) bool {
		if len(k) == 8 && binary.BigEndian.Uint64(k) > last {
			return false
		}
		keys = append(keys, bytes.Clone(k))
		more = len(keys) == foldBatch
		return !more
	})
	for _, k := range keys {
		if err := table.Delete(k); err != nil {
			return false, err
		}
	}
	return more, nil
}
