package local

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// scanBatch is how many bindings one look into the file takes.
const scanBatch = 500

// Scan implements wake.Sweeper. The keys are those in the file, where every
// binding is that was acknowledged; the value of each is taken from the memory if
// the AOR is there. A lock is held for no longer than one binding takes, and none
// while f runs. A binding that cannot be read is left out.
func (s *Store) Scan(ctx context.Context, f func([]wake.Binding) error) error {
	var from []byte
	unreadable := 0
	for {
		keys, next, err := s.scanKeys(ctx, from)
		if err != nil {
			return fmt.Errorf("cannot scan bindings: %w", err)
		}
		oldest := time.Now().Add(-s.config.Retention)
		list := make([]wake.Binding, 0, len(keys))
		for _, k := range keys {
			aor, name, ok := cutKey(k)
			if !ok {
				continue
			}
			value, err := s.value(ctx, k, string(aor), string(name))
			if err != nil {
				return fmt.Errorf("cannot scan bindings: %w", err)
			}
			if value == nil {
				continue
			}
			b, err := store.DecodeBinding(string(aor), string(name), value)
			if err != nil {
				unreadable++
				continue
			}
			if b.RegisteredAt.After(oldest) {
				list = append(list, b)
			}
		}
		if len(list) > 0 {
			if err := f(list); err != nil {
				return err
			}
		}
		if next == nil {
			break
		}
		from = next
	}
	if unreadable > 0 {
		s.log.Error("bindings cannot be read", "count", unreadable)
	}
	return nil
}

// scanKeys returns some keys and where to go on, nil at the end.
func (s *Store) scanKeys(ctx context.Context, from []byte) (keys [][]byte, next []byte, err error) {
	err = s.view(ctx, func(r reader) error {
		keys, next = nil, nil
		c := r.table(bucketBindings()).Cursor()
		for k, _ := c.Seek(from); k != nil; k, _ = c.Next() {
			if len(keys) == scanBatch {
				next = bytes.Clone(k)
				break
			}
			keys = append(keys, bytes.Clone(k))
		}
		return nil
	})
	return keys, next, err
}

// value returns a copy of what the binding is now, nil when it is gone. An AOR
// that is not in memory has in the file what it has, as long as it is locked.
func (s *Store) value(ctx context.Context, key []byte, aor, name string) (value []byte, err error) {
	sh := s.shardOf(aor)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if st := sh.aors[aor]; st != nil {
		if d := st.Device(name); d != nil && !d.Gone {
			value = bytes.Clone(d.Value)
		}
		return value, nil
	}
	err = s.view(ctx, func(r reader) error {
		value = bytes.Clone(r.table(bucketBindings()).Get(key))
		return nil
	})
	return value, err
}
