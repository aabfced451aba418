package local

import (
	"bytes"
	"context"
	"time"

	"github.com/sipwake/sipwake/internal/store"
)

const (
	sweepBatch = 1000
	sweepPause = 20 * time.Millisecond
)

// rest drops the AORs whose complete state is in the file.
func (s *Store) rest() {
	var room [256]byte
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		now := time.Now()
		since := now.Add(-s.config.Recent)
		for aor, st := range sh.aors {
			if st.Expire(now); !st.resting(since) {
				continue
			}
			if len(st.Devices) > 1 {
				for _, d := range st.Devices {
					s.refreshes.notAlone(hashBinding(appendKey(room[:0], aor, d.Name)))
				}
			}
			delete(sh.aors, aor)
		}
		sh.mu.Unlock()
	}
}

// sweep is the goroutine that removes bindings past the retention and old notes.
func (s *Store) sweep(ctx context.Context) {
	every := min(max(s.config.Retention/24, time.Second), time.Hour)
	for {
		for _, some := range []func(from []byte) []byte{s.sweepSome, s.sweepNotes} {
			for from := some(nil); from != nil; from = some(from) {
				if !pause(ctx, sweepPause) {
					return
				}
			}
		}
		if !pause(ctx, every) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sweepSome checks some bindings and returns where to continue, nil at the end.
func (s *Store) sweepSome(from []byte) (next []byte) {
	oldest := time.Now().Add(-s.config.Retention)
	var old []string
	err := s.read(func(r reader) error {
		next, old = nil, nil
		c := r.table(bucketBindings()).Cursor()
		n := 0
		for k, v := c.Seek(from); k != nil; k, v = c.Next() {
			if n++; n > sweepBatch {
				next = bytes.Clone(k)
				return nil
			}
			aor, _, ok := cutKey(k)
			if h, err := store.ReadHead(v); ok && err == nil && !h.Registered.After(oldest) {
				old = append(old, string(aor))
			}
		}
		return nil
	})
	if err != nil {
		s.log.Error("cannot sweep store", "err", err)
		return nil
	}
	for _, aor := range old {
		sh, st, err := s.lock(context.Background(), aor)
		if err != nil {
			return nil
		}
		s.metrics.swept.Add(float64(s.expireDevices(st, time.Now())))
		sh.mu.Unlock()
	}
	return next
}
