package local

import (
	"container/heap"
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// expiringKept is how long bindings stay indexed by time after the last use.
const expiringKept = time.Hour

// expiring indexes every binding by the time at which Expiring must return it. It is in
// memory, about 140 bytes per binding, and exists only while it is used: a store without
// refresh pushes has no cost.
type expiring struct {
	asked atomic.Int64 // time of the last use, nanoseconds

	mu   sync.Mutex
	keys map[string]*expiry // by key of the binding in the file
	heap expiryHeap
}

type expiry struct {
	key   string
	at    int64 // microseconds since 1970
	place int   // in the heap
}

// set sets the time of the binding, 0 to remove it. If only is not nil, it does so only
// if the binding's present time is *only; -1 means that it has none.
func (x *expiring) set(key []byte, at int64, only *int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, was := x.keys[string(key)], int64(-1)
	if e != nil {
		was = e.at
	}
	if only != nil && *only != was {
		return
	}
	switch {
	case e != nil && at == 0:
		heap.Remove(&x.heap, e.place)
		delete(x.keys, e.key)
	case e != nil:
		e.at = at
		heap.Fix(&x.heap, e.place)
	case at != 0:
		e = &expiry{key: string(key), at: at}
		x.keys[e.key] = e
		heap.Push(&x.heap, e)
	}
}

// first returns the first binding if its time is not after by.
func (x *expiring) first(by int64) (key string, at int64, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.heap) == 0 || x.heap[0].at > by {
		return "", 0, false
	}
	return x.heap[0].key, x.heap[0].at, true
}

// expires records when the registration of a binding ends.
func (s *Store) expires(aor, device string, end time.Time) {
	x := s.expiring.Load()
	if x == nil {
		return
	}
	var room [256]byte
	x.set(appendKey(room[:0], aor, device), expiryTime(end), nil)
}

func expiryTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMicro(), 1)
}

// Expiring implements wake.Sweeper. The first call scans all bindings.
func (s *Store) Expiring(ctx context.Context, by time.Time, f func(wake.Binding) (time.Time, error)) error {
	x, err := s.startExpiring(ctx)
	if err != nil {
		return fmt.Errorf("cannot look for bindings that expire: %w", err)
	}
	until := by.UnixMicro()
	for {
		key, at, ok := x.first(until)
		if !ok {
			return nil
		}
		b, ok, err := s.bindingAt(ctx, []byte(key))
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("cannot look for bindings that expire: %w", err)
		}
		next := int64(0)
		if ok {
			t, err := f(b)
			if err != nil {
				return err
			}
			if next = expiryTime(t); next != 0 {
				next = max(next, until+1)
			}
		}
		x.set([]byte(key), next, &at)
	}
}

// bindingAt returns the binding with the key, if there is a readable one.
func (s *Store) bindingAt(ctx context.Context, key []byte) (b wake.Binding, ok bool, err error) {
	aor, device, ok := cutKey(key)
	if !ok {
		return b, false, nil
	}
	value, err := s.value(ctx, key, string(aor), string(device))
	if value == nil || err != nil {
		return b, false, err
	}
	b, err = store.DecodeBinding(string(aor), string(device), value)
	return b, err == nil && b.RegisteredAt.After(time.Now().Add(-s.config.Retention)), nil
}

// startExpiring returns the index of bindings by time. It builds the index if there is
// none: every later REGISTER updates it, and earlier ones are found in memory or in the
// file.
func (s *Store) startExpiring(ctx context.Context) (*expiring, error) {
	s.expiringStart.Lock()
	defer s.expiringStart.Unlock()
	now := time.Now().UnixNano()
	if x := s.expiring.Load(); x != nil {
		x.asked.Store(now)
		return x, nil
	}
	x := &expiring{keys: make(map[string]*expiry)}
	x.asked.Store(math.MaxInt64)
	s.expiring.Store(x)
	none := int64(-1)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, st := range sh.aors {
			for _, d := range st.Devices {
				if h, err := store.ReadHead(d.Value); err == nil && !d.Gone {
					x.set(appendKey(nil, st.AOR, d.Name), expiryTime(h.Expires), &none)
				}
			}
		}
		sh.mu.Unlock()
	}
	err := s.Scan(ctx, func(list []wake.Binding) error {
		for i := range list {
			b := &list[i]
			x.set(appendKey(nil, b.AOR, b.Device), expiryTime(b.ExpiresAt), &none)
		}
		return nil
	})
	if err != nil {
		s.expiring.Store(nil)
		return nil, err
	}
	x.asked.Store(now)
	return x, nil
}

// endExpiring drops the index of bindings by time once it is no longer used.
func (s *Store) endExpiring(now time.Time) {
	if x := s.expiring.Load(); x != nil && now.UnixNano()-x.asked.Load() > int64(expiringKept) {
		s.expiring.CompareAndSwap(x, nil)
	}
}

type expiryHeap []*expiry

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].at < h[j].at }

func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *expiryHeap) Push(v any) {
	e := v.(*expiry)
	e.place = len(*h)
	*h = append(*h, e)
}

func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
