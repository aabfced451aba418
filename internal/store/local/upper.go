package local

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/upper"
)

func bucketUpper() []byte    { return []byte("upper") }
func bucketUpperDue() []byte { return []byte("upperdue") }

// PutUpper implements upper.Store.
func (s *Store) PutUpper(ctx context.Context, r upper.Registration) error {
	changed := false
	err := s.writer.do(ctx, func(tx *writeTx) error {
		old := tx.table(bucketUpper()).Get([]byte(r.AOR))
		was := store.UpperStamp(old)
		if changed = r.Stamp != 0 && r.Stamp != was; changed {
			return nil
		}
		v, err := store.AppendUpper(nil, &r, max(was+1, uint64(time.Now().UnixMicro())))
		if err != nil {
			return err
		}
		return putUpper(tx, r.AOR, old, v)
	})
	if err == nil && changed {
		err = upper.ErrChanged
	}
	if err != nil {
		return fmt.Errorf("cannot store registration of %q: %w", r.AOR, err)
	}
	return nil
}

// putUpper replaces old by v; a nil v removes it.
func putUpper(tx *writeTx, aor string, old, v []byte) error {
	all, due := tx.table(bucketUpper()), tx.table(bucketUpperDue())
	if old != nil {
		if err := due.Delete(timeKey(store.UpperDue(old), aor)); err != nil {
			return err
		}
	}
	if v == nil {
		return all.Delete([]byte(aor))
	}
	if err := due.Put(timeKey(store.UpperDue(v), aor), nil); err != nil {
		return err
	}
	return all.Put([]byte(aor), v)
}

// Upper implements upper.Store.
func (s *Store) Upper(ctx context.Context, aor string) (u upper.Registration, ok bool, err error) {
	var v []byte
	err = s.view(ctx, func(r reader) error {
		v = bytes.Clone(r.table(bucketUpper()).Get([]byte(aor)))
		return nil
	})
	if err == nil && v != nil {
		u, err = store.DecodeUpper(v)
	}
	if err != nil {
		return upper.Registration{}, false, fmt.Errorf("cannot read registration of %q: %w", aor, err)
	}
	return u, v != nil, nil
}

// RemoveUpper implements upper.Store.
func (s *Store) RemoveUpper(ctx context.Context, aor string) error {
	if _, ok, err := s.Upper(ctx, aor); err == nil && !ok { // the usual case needs no write
		return nil
	}
	err := s.writer.do(ctx, func(tx *writeTx) error {
		old := tx.table(bucketUpper()).Get([]byte(aor))
		if old == nil {
			return nil
		}
		return putUpper(tx, aor, old, nil)
	})
	if err != nil {
		return fmt.Errorf("cannot remove registration of %q: %w", aor, err)
	}
	return nil
}

// DueUppers implements upper.Store. If nothing is due, it writes nothing. It drops values
// that cannot be read: the phone's next REGISTER creates them again.
func (s *Store) DueUppers(ctx context.Context, now time.Time, lease time.Duration, limit int) (list []upper.Registration, err error) {
	idle := true
	err = s.view(ctx, func(r reader) error {
		idle = len(first(r.table(bucketUpperDue()), now, 1)) == 0
		return nil
	})
	if err == nil && !idle {
		err = s.writer.do(ctx, func(tx *writeTx) error {
			var err error
			list, err = s.leaseUppers(tx, now, now.Add(max(lease, time.Millisecond)), limit)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read due registrations: %w", err)
	}
	return list, nil
}

func (s *Store) leaseUppers(tx *writeTx, now, next time.Time, limit int) (list []upper.Registration, err error) {
	for _, key := range first(tx.table(bucketUpperDue()), now, limit) {
		aor := string(key[8:])
		old := tx.table(bucketUpper()).Get(key[8:])
		v := bytes.Clone(old)
		store.SetUpperDue(v, next)
		u, bad := store.DecodeUpper(v)
		if bad != nil {
			s.log.Error("registration cannot be read and was dropped", "aor", aor, "err", bad)
			if err := tx.table(bucketUpperDue()).Delete(key); err != nil {
				return nil, err
			}
			v = nil
		} else {
			list = append(list, u)
		}
		if err := putUpper(tx, aor, old, v); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Uppers implements upper.Store.
func (s *Store) Uppers(ctx context.Context, cursor string, limit int) (list []upper.Registration, next string, err error) {
	err = s.view(ctx, func(r reader) error {
		list, next = nil, ""
		c := r.table(bucketUpper()).Cursor()
		for k, v := c.Seek([]byte(cursor)); k != nil; k, v = c.Next() {
			if len(list) >= limit {
				next = string(k)
				return nil
			}
			if u, err := store.DecodeUpper(v); err == nil {
				list = append(list, u)
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("cannot list registrations: %w", err)
	}
	return list, next, nil
}
