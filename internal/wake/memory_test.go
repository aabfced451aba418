package wake_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

// memory is a wake.Store and wake.Sweeper of the tests: the contract without what
// a test of the rules never meets. What real stores do is tested by storetest.
type memory struct {
	mu      sync.Mutex
	recent  time.Duration
	aors    map[string]*entry
	claims  map[string]time.Time
	asked   map[string]asked          // by AOR and device: see Expiring
	byToken map[secret.Token][]string // AORs that had it
	err     error                     // of every method
	takes   time.Duration             // how long Start takes
	full    bool
	cached  bool
	starts  int
	ends    int
	reads   int // of bindings
}

type entry struct {
	bindings map[string]wake.Binding
	recent   []wake.Registration
	wakes    []*openWake
	tombs    map[[2]string]bool
	notes    []wake.RemovalNote
}

type openWake struct {
	wake.Wake
	forked bool
}

func newMemory() *memory {
	return &memory{recent: 3 * time.Second, aors: map[string]*entry{}, claims: map[string]time.Time{}, asked: map[string]asked{}, byToken: map[secret.Token][]string{}}
}

// copied is a store that has the same bindings, and none of the wakes.
func (m *memory) copied() *memory {
	c := newMemory()
	for aor, e := range m.aors {
		c.entry(aor).bindings = maps.Clone(e.bindings)
	}
	return c
}

var (
	_ wake.Store   = (*memory)(nil)
	_ wake.Sweeper = (*memory)(nil)
)

func (m *memory) entry(aor string) *entry {
	e := m.aors[aor]
	if e == nil {
		e = &entry{bindings: map[string]wake.Binding{}, tombs: map[[2]string]bool{}}
		m.aors[aor] = e
	}
	return e
}

func key(r *wake.Registration) string { return cmp.Or(r.Device, r.Contact) }

func (m *memory) Register(_ context.Context, r wake.Registration) (wake.Registered, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(r.AOR)
	res := wake.Registered{Status: wake.StatusNone}
	if !r.Gone {
		for _, w := range e.wakes {
			if w.Deadline.After(time.Now()) {
				res.Wakes = append(res.Wakes, w.Wake)
			}
		}
	}
	if m.err != nil {
		return wake.Registered{Wakes: res.Wakes}, m.err
	}
	old, known := e.bindings[r.Device]
	if known && (old.CallID == r.CallID && r.CSeq < old.CSeq || r.Late && r.RegisteredAt.Before(old.RegisteredAt)) {
		return wake.Registered{Status: wake.StatusStale, Devices: len(e.bindings)}, nil
	}
	e.recent = slices.DeleteFunc(e.recent, func(o wake.Registration) bool { return key(&o) == key(&r) || r.Gone && r.Device == "" })
	if !r.Gone && !r.Late {
		e.recent = append(e.recent, r)
	}
	switch r.Action {
	case wake.ActionBind:
		res.Status = wake.StatusStored
		if known {
			res.Status = wake.StatusRefreshed
		}
		if !known && r.Gone {
			res.Status = wake.StatusNone
			break
		}
		e.bindings[r.Device] = r.Binding
		res.PreviousAORs = m.elsewhere(&r)
	case wake.ActionUnbind:
		if known {
			delete(e.bindings, r.Device)
			res.Status = wake.StatusRemoved
		}
	}
	res.Devices = len(e.bindings)
	return res, nil
}

func (m *memory) elsewhere(r *wake.Registration) (aors []string) {
	token := r.Address.Tokens[0].Value
	if !slices.Contains(m.byToken[token], r.AOR) {
		m.byToken[token] = append(m.byToken[token], r.AOR)
	}
	for _, aor := range m.byToken[token] {
		for _, b := range m.aors[aor].bindings {
			if aor != r.AOR && hasToken(&b, token) && len(aors) < 8 {
				aors = append(aors, aor)
			}
		}
	}
	return aors
}

func hasToken(b *wake.Binding, token secret.Token) bool {
	return slices.ContainsFunc(b.Address.Tokens, func(t pnparam.Token) bool { return t.Value == token })
}

func (m *memory) Start(_ context.Context, w wake.Wake) (wake.Started, error) {
	if m.takes > 0 {
		time.Sleep(m.takes)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starts++
	e := m.entry(w.AOR)
	res := wake.Started{Cached: m.cached}
	if m.err != nil {
		return wake.Started{}, m.err
	}
	for _, o := range e.wakes {
		switch {
		case o.Node == w.Node && o.Call == w.Call:
			res.Duplicate = o.ID != w.ID
		case o.CallID == w.CallID && o.Covers(&w):
			res.Forked = true
		}
	}
	switch {
	case m.full:
		return wake.Started{Full: true}, nil
	case e.tombs[[2]string{w.Node, w.Call}]:
		return wake.Started{Ended: true}, nil
	case !res.Duplicate:
		e.wakes = append(e.wakes, &openWake{w, res.Forked})
	}
	m.read(e, &res, time.Time{})
	return res, nil
}

func (m *memory) read(e *entry, res *wake.Started, since time.Time) {
	for _, b := range e.bindings {
		res.Bindings = append(res.Bindings, b)
	}
	slices.SortFunc(res.Bindings, func(a, b wake.Binding) int { return cmp.Compare(a.Device, b.Device) })
	for _, r := range e.recent {
		if time.Since(r.RegisteredAt) < m.recent {
			res.Recent = append(res.Recent, r)
		}
	}
	for _, b := range res.Bindings {
		known := slices.ContainsFunc(res.Recent, func(r wake.Registration) bool { return r.Device == b.Device })
		if !since.IsZero() && !b.RegisteredAt.Before(since) && !known {
			res.Recent = append(res.Recent, wake.Registration{Binding: b, Action: wake.ActionBind})
		}
	}
}

// own notes the owner of an open wake.
func (m *memory) own(w wake.Wake) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.entry(w.AOR).wakes {
		if o.ID == w.ID {
			o.Owner = w.Owner
		}
	}
}

// reread is what cluster.Store.Reread returns.
func (m *memory) reread(w wake.Wake) wake.Started {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, res := m.entry(w.AOR), wake.Started{}
	m.read(e, &res, w.StartedAt)
	return res
}

func (m *memory) End(_ context.Context, aor, node, call string) (wake.Ended, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends++
	if m.err != nil {
		return wake.Ended{}, m.err
	}
	e := m.entry(aor)
	for i, w := range e.wakes {
		if w.Node == node && w.Call == call {
			e.wakes = slices.Delete(e.wakes, i, i+1)
			return wake.Ended{Known: true, Wake: w.Wake}, nil
		}
	}
	e.tombs[[2]string{node, call}] = true
	return wake.Ended{}, nil
}

func (m *memory) Remove(_ context.Context, r wake.Removal) (res wake.RemovalResult, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return res, m.err
	}
	e := m.entry(r.AOR)
	for device, b := range e.bindings {
		if r.Device != "" && r.Device != device || !r.Token.Empty() && !hasToken(&b, r.Token) ||
			!r.NotAfter.IsZero() && b.RegisteredAt.After(r.NotAfter) || r.Unregistered && b.ExpiresAt.After(time.Now()) {
			continue
		}
		if r.TokenOnly && len(b.Address.Tokens) > 1 {
			b.Address.Tokens = slices.DeleteFunc(slices.Clone(b.Address.Tokens), func(t pnparam.Token) bool { return t.Value == r.Token })
			e.bindings[device] = b
			res.Tokens++
			continue
		}
		delete(e.bindings, device)
		e.notes = append(e.notes, wake.RemovalNote{Device: device, Reason: r.Reason})
		res.Bindings++
	}
	return res, nil
}

func (m *memory) Bindings(_ context.Context, q wake.Query) ([]wake.Binding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if m.err != nil {
		return nil, m.err
	}
	var list []wake.Binding
	for aor, e := range m.aors {
		for _, b := range e.bindings {
			if aor == q.AOR || q.AOR == "" && hasToken(&b, q.Token) {
				list = append(list, b)
			}
		}
	}
	slices.SortFunc(list, func(a, b wake.Binding) int { return cmp.Compare(a.Device, b.Device) })
	return list, nil
}

func (m *memory) Removals(_ context.Context, aor string) ([]wake.RemovalNote, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entry(aor).notes, m.err
}

func (m *memory) Scan(ctx context.Context, f func([]wake.Binding) error) error {
	m.mu.Lock()
	if m.err != nil {
		defer m.mu.Unlock()
		return m.err
	}
	var all []wake.Binding
	for _, e := range m.aors {
		for _, b := range e.bindings {
			all = append(all, b)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b wake.Binding) int { return cmp.Or(cmp.Compare(a.AOR, b.AOR), cmp.Compare(a.Device, b.Device)) })
	for _, b := range all {
		if err := f([]wake.Binding{b}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// asked is when a binding that ended at a time is to be handed out again.
type asked struct{ end, next time.Time }

func (m *memory) Expiring(ctx context.Context, by time.Time, f func(wake.Binding) (time.Time, error)) error {
	return m.Scan(ctx, func(list []wake.Binding) error {
		for _, b := range list {
			k := b.AOR + " " + b.Device
			a := m.asked[k]
			if !a.end.Equal(b.ExpiresAt) {
				a = asked{b.ExpiresAt, b.ExpiresAt}
			}
			if a.next.IsZero() || a.next.After(by) {
				continue
			}
			next, err := f(b)
			if err != nil {
				return err
			}
			m.asked[k] = asked{a.end, next}
		}
		return nil
	})
}

func (m *memory) Claim(_ context.Context, key string, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return false, m.err
	}
	if time.Now().Before(m.claims[key]) {
		return false, nil
	}
	m.claims[key] = time.Now().Add(ttl)
	return true, nil
}

func (m *memory) Release(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.claims, key)
	return m.err
}

func (m *memory) set(f func(*memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}
