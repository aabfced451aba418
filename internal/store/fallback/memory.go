package fallback

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// evictLook is how many AORs with calls are passed over at a time.
const evictLook = 64

// memory remembers bounded many AORs: those that were used last, and those that are
// called, for maybe nobody else knows of it.
type memory struct {
	size              int
	recent, retention time.Duration

	mu   sync.Mutex
	room []byte // a value being written
	aors map[string]*entry
	ring entry               // next: used last, prev: used first
	held map[string]struct{} // AORs with a wake that the store does not know
}

func newMemory(c Config) *memory {
	m := &memory{size: c.Cache, recent: c.Recent, retention: c.Retention,
		aors: make(map[string]*entry), held: make(map[string]struct{})}
	m.ring.next, m.ring.prev = &m.ring, &m.ring
	return m
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.aors)
}

// get returns the AOR's entry, used last from now on; nil if there is none.
func (m *memory) get(aor string) *entry {
	e := m.aors[aor]
	if e != nil && m.ring.next != e {
		e.unlink()
		m.link(e)
	}
	return e
}

// make returns the AOR's entry, a new one if there is none.
func (m *memory) make(aor string) *entry {
	if e := m.get(aor); e != nil {
		return e
	}
	e := &entry{aor: strings.Clone(aor)} // the caller's may be part of a long text
	m.aors[e.aor] = e
	m.link(e)
	m.evict(e)
	return e
}

// evict makes room for the newest entry. Those that hold wakes count as used now.
// When all do, there are up to twice as many as there should be.
func (m *memory) evict(newest *entry) {
	now := time.Now()
	for range evictLook {
		e := m.ring.prev
		if len(m.aors) <= m.size || e == newest {
			break
		}
		if e.holds(now) {
			e.unlink()
			m.link(e)
			continue
		}
		m.drop(e)
	}
	for e := m.ring.prev; len(m.aors) > 2*m.size; e = m.ring.prev {
		if e == newest {
			e = e.prev
		}
		m.drop(e)
	}
}

func (m *memory) link(e *entry) {
	e.prev, e.next = &m.ring, m.ring.next
	e.prev.next, e.next.prev = e, e
}

func (e *entry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

func (m *memory) drop(e *entry) {
	e.unlink()
	delete(m.aors, e.aor)
	delete(m.held, e.aor)
}

// tidy forgets an AOR of which nothing is known.
func (m *memory) tidy(e *entry) {
	if len(e.devices)+len(e.wakes)+len(e.tombs)+len(e.signs) == 0 {
		m.drop(e)
	}
}

// encode writes the binding's value. It is good until the lock is given back.
func (m *memory) encode(b *wake.Binding) ([]byte, error) {
	value, _, err := store.AppendBinding(m.room[:0], b, time.Time{})
	if err == nil {
		m.room = value
	}
	return value, err
}

// registered notes what the store has taken, and adds the wakes that it does not
// know.
func (m *memory) registered(r *wake.Registration, res *wake.Registered) {
	if r.Late || res.Status == wake.StatusStale {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	value, err := m.encode(&r.Binding)
	if err != nil {
		return
	}
	e := m.get(r.AOR)
	if e == nil {
		if r.Action != wake.ActionBind || r.Gone {
			return
		}
		e = m.make(r.AOR)
	}
	e.apply(r, value, time.Now())
	if len(e.devices) > res.Devices { // some were removed by other instances
		e.keepOnly(r.Device)
	}
	if len(e.wakes) > 0 && !r.Gone {
		for _, w := range e.open(r.RegisteredAt) {
			if w.held && !hasWake(res.Wakes, w.ID) {
				res.Wakes = append(res.Wakes, w.Wake)
			}
		}
	}
	m.tidy(e)
}

func hasWake(list []wake.Wake, id string) bool {
	for _, w := range list {
		if w.ID == id {
			return true
		}
	}
	return false
}

// registerAway notes what the store could not take, and returns the open wakes. A
// stale registration changes nothing.
func (m *memory) registerAway(r *wake.Registration) (wakes []wake.Wake, stale bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, err := m.encode(&r.Binding)
	if err != nil {
		return nil, true
	}
	now := time.Now()
	e := m.make(r.AOR)
	e.expire(now, m)
	if e.stale(r) {
		m.tidy(e)
		return nil, true
	}
	e.apply(r, value, now)
	if !r.Gone {
		for _, w := range e.open(r.RegisteredAt) {
			wakes = append(wakes, w.Wake)
		}
	}
	m.tidy(e)
	return wakes, false
}

// started notes a wake that the store has taken, and the bindings it knows.
func (m *memory) started(w *wake.Wake, res *wake.Started) {
	if res.Ended || res.Full || res.Duplicate {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(res.Bindings) == 0 && m.aors[w.AOR] == nil {
		return
	}
	e := m.make(w.AOR)
	e.expire(time.Now(), m)
	e.learn(res.Bindings, w.StartedAt)
	noted := *w
	noted.Forked = res.Forked
	e.hold(&noted, false)
}

// startAway starts a wake without the store. It reports false if nothing is known
// of the AOR.
func (m *memory) startAway(w *wake.Wake) (wake.Started, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.get(w.AOR)
	if e == nil {
		return wake.Started{}, false
	}
	now := time.Now()
	e.expire(now, m)
	res := wake.Started{Cached: true}
	for _, t := range e.tombs {
		if t.node == w.Node && t.call == w.Call {
			return wake.Started{Ended: true, Cached: true}, true
		}
	}
	others, same := 0, -1
	forked := false
	for i := range e.wakes {
		o := &e.wakes[i].Wake
		switch past := store.Past(o, w); {
		case o.Node == w.Node && o.Call == w.Call:
			if !past && !store.Again(o, w) {
				return wake.Started{Duplicate: true, Cached: true}, true
			}
			same = i
		case !past:
			others++
			forked = forked || o.CallID == w.CallID && o.Covers(w)
		}
	}
	if others >= store.MaxWakes {
		return wake.Started{Full: true, Cached: true}, true
	}
	res.Bindings, res.Recent = e.known(now.Add(-m.recent), now.Add(-m.retention))
	if len(res.Bindings)+len(res.Recent) == 0 {
		m.tidy(e)
		return wake.Started{}, false
	}
	if same >= 0 && store.Again(&e.wakes[same].Wake, w) {
		forked = e.wakes[same].Forked
	}
	res.Forked = forked
	noted := *w
	noted.Forked = forked
	e.hold(&noted, true)
	m.held[e.aor] = struct{}{}
	return res, true
}

// end forgets the wake. If it is not known and the store is away, a Start that
// comes later finds a tombstone.
func (m *memory) end(aor, node, call string, away bool) (wake.Wake, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.get(aor)
	if e == nil {
		if !away {
			return wake.Wake{}, false
		}
		e = m.make(aor)
	}
	defer m.tidy(e)
	for i, w := range e.wakes {
		if w.Node == node && w.Call == call {
			e.wakes = append(e.wakes[:i], e.wakes[i+1:]...)
			return w.Wake, true
		}
	}
	if now := time.Now(); away {
		e.expire(now, m)
		e.tombs = slices.DeleteFunc(e.tombs, func(t tomb) bool { return t.node == node && t.call == call })
		e.tombs = append(youngest(e.tombs, store.MaxTombs-1), tomb{node, call, now.Add(store.Tombstone)})
	}
	return wake.Wake{}, false
}

func (m *memory) remove(r *wake.Removal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.aors[r.AOR]; e != nil {
		e.remove(r)
		m.tidy(e)
	}
}

// learn replaces what is known of the AOR's bindings by what the store had when
// it was asked.
func (m *memory) learn(aor string, list []wake.Binding, asked time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(list) == 0 && m.aors[aor] == nil {
		return
	}
	e := m.make(aor)
	e.learn(list, asked)
	m.tidy(e)
}

// heldWakes returns the wakes that have not ended and that the store does not know.
func (m *memory) heldWakes() []wake.Wake {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []wake.Wake
	now := time.Now()
	for aor := range m.held {
		e := m.aors[aor]
		e.expire(now, m)
		before := len(list)
		for _, w := range e.wakes {
			if w.held {
				list = append(list, w.Wake)
			}
		}
		if len(list) == before {
			delete(m.held, aor)
		}
		m.tidy(e)
	}
	return list
}

// stored notes that the store knows the wake.
func (m *memory) stored(w *wake.Wake) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.aors[w.AOR]; e != nil {
		for i := range e.wakes {
			if e.wakes[i].ID == w.ID {
				e.wakes[i].held = false
			}
		}
	}
}

// holds reports whether there are wakes that the store may not know.
func (m *memory) holds() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.held) > 0
}
