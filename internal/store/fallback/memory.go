package fallback

import (
	"strings"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/aor"
	"github.com/sipwake/sipwake/internal/wake"
)

// evictLook is how many AORs with calls one eviction skips.
const evictLook = 64

// memory remembers a bounded number of AORs: the most recently used, and those with
// calls, which possibly no other instance knows of.
type memory struct {
	size              int
	recent, retention time.Duration

	mu   sync.Mutex
	room []byte // buffer for a value
	aors map[string]*entry
	ring entry               // next: most recently used, prev: least recently used
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

// get returns the AOR's entry and marks it as most recently used; nil if there is none.
func (m *memory) get(aor string) *entry {
	e := m.aors[aor]
	if e != nil && m.ring.next != e {
		e.unlink()
		m.link(e)
	}
	return e
}

// make returns the AOR's entry. It creates one if there is none.
func (m *memory) make(name string) *entry {
	if e := m.get(name); e != nil {
		return e
	}
	e := &entry{State: aor.State{AOR: strings.Clone(name)}} // the caller's may be part of a long string
	m.aors[e.AOR] = e
	m.link(e)
	m.evict(e)
	return e
}

// evict makes room for the newest entry. Entries that hold wakes count as used now. If
// all hold wakes, the memory can grow to twice its limit.
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
	delete(m.aors, e.AOR)
	delete(m.held, e.AOR)
}

// tidy drops the entry of an AOR if nothing is known about it.
func (m *memory) tidy(e *entry) {
	if e.keepOnly(""); len(e.Devices) == 0 && e.Idle() {
		m.drop(e)
	}
}

// registered records a registration that the store accepted, and adds to the result the
// wakes that the store does not know.
func (m *memory) registered(r *wake.Registration, res *wake.Registered) {
	if r.Late || res.Status == wake.StatusStale {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.get(r.AOR)
	if e == nil {
		if r.Action != wake.ActionBind || r.Gone {
			return
		}
		e = m.make(r.AOR)
	}
	now := time.Now()
	e.Expire(now)
	// A registration that cannot be applied is not remembered.
	if a, _ := e.Apply(r, &m.room, now, m.recent); a.Status == wake.StatusStale { // the store knows better
		e.Forget(r)
		_, _ = e.Apply(r, &m.room, now, m.recent)
	}
	if e.Bound() > res.Devices { // some were removed by other instances
		e.keepOnly(r.Device)
	}
	if !r.Gone {
		for _, w := range e.Wakes {
			if w.Held && !r.RegisteredAt.After(w.Deadline) && !hasWake(res.Wakes, w.ID) {
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

// registerAway records a registration that the store could not accept, and returns the
// open wakes. A stale registration changes nothing.
func (m *memory) registerAway(r *wake.Registration) (wakes []wake.Wake, stale bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	e := m.make(r.AOR)
	defer m.tidy(e)
	e.Expire(now)
	a, err := e.Apply(r, &m.room, now, m.recent)
	return a.Wakes, err != nil || a.Status == wake.StatusStale
}

// started records a wake that the store accepted, and the bindings that the store knows.
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
	now := time.Now()
	e.Expire(now)
	e.learn(res.Bindings, w.StartedAt)
	noted := *w
	noted.Forked = res.Forked
	e.Keep(&noted, now)
}

// startAway starts a wake without the store. It returns false if nothing is known
// about the AOR.
func (m *memory) startAway(w *wake.Wake) (wake.Started, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.get(w.AOR)
	if e == nil {
		return wake.Started{}, false
	}
	now := time.Now()
	noted := *w
	res := e.Start(&noted, now)
	res.Cached = true
	if res.Ended || res.Duplicate || res.Full {
		return res, true
	}
	oldest := now.Add(-m.retention)
	var err1, err2 error
	res.Bindings, err1 = e.Bindings(func(h store.Head) bool { return h.Registered.After(oldest) })
	res.Recent, err2 = e.Recent(now.Add(-m.recent))
	if err1 != nil || err2 != nil || len(res.Bindings)+len(res.Recent) == 0 {
		e.End(w.Node, w.Call, now, false)
		m.tidy(e)
		return wake.Started{}, false
	}
	e.Keep(&noted, now).Held = true
	m.held[e.AOR] = struct{}{}
	return res, true
}

// end removes the wake. If it is not known and the store is away, end leaves a tombstone
// for a Start that comes later.
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
	return e.End(node, call, time.Now(), away)
}

func (m *memory) remove(r *wake.Removal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.aors[r.AOR]; e != nil {
		var token []byte
		if !r.Token.Empty() {
			token = store.AppendTokenKey(nil, r.Token)
		}
		_, _ = e.Remove(r, token, time.Now()) // a binding that cannot be read does not count
		m.tidy(e)
	}
}

// learn replaces the known bindings of the AOR by those that the store had when it was
// asked.
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
		e.Expire(now)
		before := len(list)
		for _, w := range e.Wakes {
			if w.Held {
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

// stored records that the store knows the wake.
func (m *memory) stored(w *wake.Wake) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.aors[w.AOR]; e != nil {
		for i := range e.Wakes {
			if e.Wakes[i].ID == w.ID {
				e.Wakes[i].Held = false
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
