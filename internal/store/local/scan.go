package local

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// scanBatch is how many bindings one read of the file returns.
const scanBatch = 500

// Scan implements wake.Sweeper. It takes the keys from the file, which has every
// acknowledged binding, and the values from memory if the AOR is there. It holds a lock
// for one binding at a time, and none while f runs. It skips unreadable bindings.
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

// scanKeys returns some keys and where to continue, nil at the end.
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

// value returns a copy of the binding's current value, nil if it is gone. If an AOR is
// not in memory, the file has its current state as long as the shard is locked.
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
	s.refreshes.update(hashBinding(key), value)
	return value, err
}
