package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

func bucketNotes() []byte { return []byte("notes") }

// note adds a note to those that the writer must write.
func (st *state) note(n wake.RemovalNote) {
	if len(st.notes) >= store.MaxNotes {
		st.notes = slices.Delete(st.notes, 0, 1)
		st.inHand = max(st.inHand-1, 0)
	}
	st.notes = append(st.notes, n)
}

// noteOp holds the notes that the writer adds to those of an AOR.
type noteOp struct {
	st    *state
	notes []wake.RemovalNote
}

// takeNotes hands the notes to the writer, unless the writer still has some of the AOR.
func (st *state) takeNotes(ops []noteOp) []noteOp {
	if len(st.notes) == 0 || st.inHand > 0 {
		return ops
	}
	st.inHand = len(st.notes)
	return append(ops, noteOp{st, slices.Clone(st.notes)})
}

func (o *noteOp) put(tx *writeTx) error {
	bucket, key := tx.table(bucketNotes()), []byte(o.st.AOR)
	v := bytes.Clone(bucket.Get(key))
	for i := range o.notes {
		v = store.AddNote(v, &o.notes[i])
	}
	return bucket.Put(key, v)
}

// notesDone drops the notes that are in the file now. After a failed write they stay
// for the next one.
func (s *Store) notesDone(ops []noteOp, failed bool) {
	for _, o := range ops {
		sh := s.shardOf(o.st.AOR)
		sh.mu.Lock()
		if !failed {
			o.st.notes = slices.Delete(o.st.notes, 0, o.st.inHand)
		}
		o.st.inHand = 0
		sh.mu.Unlock()
	}
}

// Removals implements wake.History.
func (s *Store) Removals(ctx context.Context, aor string) ([]wake.RemovalNote, error) {
	sh, st, err := s.lock(ctx, aor)
	if err != nil {
		return nil, fmt.Errorf("cannot read history of %q: %w", aor, err)
	}
	defer sh.mu.Unlock()
	var v []byte
	err = s.view(ctx, func(r reader) error {
		v = bytes.Clone(r.table(bucketNotes()).Get([]byte(aor)))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read history of %q: %w", aor, err)
	}
	for i := range st.notes {
		v = store.AddNote(v, &st.notes[i])
	}
	return store.ReadNotes(v, time.Now()), nil
}

// sweepNotes checks some AORs and removes the notes of those whose notes are all too
// old. It returns where to continue, nil at the end.
func (s *Store) sweepNotes(from []byte) (next []byte) {
	var old [][]byte
	now := time.Now()
	err := s.read(func(r reader) error {
		next, old = nil, nil
		c := r.table(bucketNotes()).Cursor()
		n := 0
		for k, v := c.Seek(from); k != nil; k, v = c.Next() {
			if n++; n > sweepBatch {
				next = bytes.Clone(k)
				return nil
			}
			if len(store.ReadNotes(v, now)) == 0 {
				old = append(old, bytes.Clone(k))
			}
		}
		return nil
	})
	if err == nil && len(old) > 0 {
		err = s.writer.do(context.Background(), func(tx *writeTx) error {
			bucket := tx.table(bucketNotes())
			for _, k := range old {
				if len(store.ReadNotes(bucket.Get(k), now)) > 0 {
					continue
				}
				if err := bucket.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		if !errors.Is(err, errClosed) {
			s.log.Error("cannot sweep store", "err", err)
		}
		return nil
	}
	return next
}
