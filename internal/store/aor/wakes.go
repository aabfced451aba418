package aor

import (
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// Start stores the wake, unless the result is Ended, Duplicate or Full. It sets Forked in
// the wake.
func (st *State) Start(w *wake.Wake, now time.Time) (res wake.Started) {
	st.Expire(now)
	if slices.ContainsFunc(st.tombs, func(t tomb) bool { return t.node == w.Node && t.call == w.Call }) {
		return wake.Started{Ended: true}
	}
	others, forked := 0, w.Forked
	for i := range st.Wakes {
		o := &st.Wakes[i].Wake
		switch past := store.Past(o, w); {
		case o.Node != w.Node || o.Call != w.Call:
			if !past {
				others++
				forked = forked || o.CallID == w.CallID && o.Covers(w)
			}
		case store.Again(o, w):
			w.Forked = o.Forked
			st.Keep(w, now)
			return wake.Started{Forked: o.Forked}
		case !past:
			return wake.Started{Duplicate: true}
		}
	}
	if others >= store.MaxWakes {
		return wake.Started{Full: true}
	}
	w.Forked = forked
	st.Keep(w, now)
	return wake.Started{Forked: forked}
}

// Keep stores the wake. It replaces a wake of the same request. If there is no room, it
// replaces a wake that is past its deadline; if there is none, it returns nil.
func (st *State) Keep(w *wake.Wake, now time.Time) *Wake {
	o := Wake{Wake: *w, until: now.Add(store.Keep(w))}
	place := slices.IndexFunc(st.Wakes, func(o Wake) bool { return o.Node == w.Node && o.Call == w.Call })
	if place < 0 && len(st.Wakes) >= store.MaxWakes {
		place = 0
		for i := range st.Wakes {
			if st.Wakes[i].Deadline.Before(st.Wakes[place].Deadline) {
				place = i
			}
		}
		if !store.Past(&st.Wakes[place].Wake, w) {
			return nil
		}
		st.Wakes = slices.Delete(st.Wakes, place, place+1)
		place = -1
	}
	if place >= 0 {
		st.Wakes[place] = o
		return &st.Wakes[place]
	}
	st.Wakes = append(st.Wakes, o)
	return &st.Wakes[len(st.Wakes)-1]
}

// End removes the wake and returns it. If there is no such wake and leave is set, it
// leaves a tombstone.
func (st *State) End(node, call string, now time.Time, leave bool) (wake.Wake, bool) {
	st.Expire(now)
	for i, w := range st.Wakes {
		if w.Node == node && w.Call == call {
			st.Wakes = slices.Delete(st.Wakes, i, i+1)
			return w.Wake, true
		}
	}
	if leave {
		st.tombs = slices.DeleteFunc(st.tombs, func(t tomb) bool { return t.node == node && t.call == call })
		st.tombs = append(youngest(st.tombs, store.MaxTombs-1), tomb{node, call, now.Add(store.Tombstone)})
	}
	return wake.Wake{}, false
}

// open returns the wakes that are not past their deadline at t, oldest first.
func (st *State) open(t time.Time) []wake.Wake {
	var list []wake.Wake
	for _, w := range st.Wakes {
		if !t.After(w.Deadline) {
			list = append(list, w.Wake)
		}
	}
	slices.SortStableFunc(list, func(a, b wake.Wake) int { return a.StartedAt.Compare(b.StartedAt) })
	return list
}

// openBack returns the wakes that were open at t and are still open now.
func (st *State) openBack(t, now time.Time) []wake.Wake {
	return slices.DeleteFunc(st.open(t), func(w wake.Wake) bool { return w.StartedAt.After(t) || !w.Deadline.After(now) })
}

// Bindings returns those whose head the filter takes, ordered by device.
func (st *State) Bindings(keep func(store.Head) bool) ([]wake.Binding, error) {
	var list []wake.Binding
	for _, d := range st.Devices {
		if d.Gone {
			continue
		}
		h, err := store.ReadHead(d.Value)
		if err != nil {
			return nil, err
		}
		if !keep(h) {
			continue
		}
		b, err := store.DecodeBinding(st.AOR, d.Name, d.Value)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b wake.Binding) int { return strings.Compare(a.Device, b.Device) })
	return list, nil
}

// Recent returns the registrations seen after since, one per device.
func (st *State) Recent(since time.Time) ([]wake.Registration, error) {
	var list []wake.Registration
	for _, m := range st.memory {
		r, err := store.DecodeRegistration(st.AOR, m.value)
		if err != nil {
			return nil, err
		}
		if !r.Gone {
			list = append(list, r)
		}
	}
	for _, d := range st.Devices {
		// What left no binding came later than the binding's own REGISTER.
		if d.Gone || !d.Seen.After(since) || st.remembers(d.Name) {
			continue
		}
		b, err := store.DecodeBinding(st.AOR, d.Name, d.Value)
		if err != nil {
			return nil, err
		}
		list = append(list, wake.Registration{Binding: b, Action: wake.ActionBind})
	}
	slices.SortStableFunc(list, func(a, b wake.Registration) int { return a.RegisteredAt.Compare(b.RegisteredAt) })
	return list, nil
}

func (st *State) remembers(device string) bool {
	return slices.ContainsFunc(st.memory, func(m remembered) bool { return m.key[0] == 'd' && m.key[1:] == device })
}
