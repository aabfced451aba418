package fallback

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// entry is one AOR, under the memory's lock.
type entry struct {
	prev, next *entry

	aor     string
	devices []device
	signs   []sign
	wakes   []heldWake
	tombs   []tomb
}

// device is a binding as package store writes it, and when its last REGISTER came
// here.
type device struct {
	name  string
	value []byte
	seen  time.Time
}

// sign is a REGISTER that left no binding.
type sign struct {
	wake.Registration
	at time.Time
}

type heldWake struct {
	wake.Wake
	held bool // the store does not know it
}

type tomb struct {
	node, call string
	until      time.Time
}

// youngest makes the list, oldest first, no longer than most.
func youngest[T any](list []T, most int) []T { return slices.Delete(list, 0, max(len(list)-most, 0)) }

func (e *entry) device(name string) int {
	return slices.IndexFunc(e.devices, func(d device) bool { return d.name == name })
}

// expire forgets what has run out.
func (e *entry) expire(now time.Time, m *memory) {
	if len(e.signs)+len(e.wakes)+len(e.tombs) == 0 {
		return
	}
	e.signs = slices.DeleteFunc(e.signs, func(s sign) bool { return s.at.Add(m.recent).Before(now) })
	e.wakes = slices.DeleteFunc(e.wakes, func(w heldWake) bool {
		return w.StartedAt.Add(store.Keep(&w.Wake)).Before(now)
	})
	e.tombs = slices.DeleteFunc(e.tombs, func(t tomb) bool { return t.until.Before(now) })
}

// head reads the head of a value that was made here.
func head(v []byte) store.Head {
	h, err := store.ReadHead(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return h
}

// stale reports whether a later REGISTER of the device was seen.
func (e *entry) stale(r *wake.Registration) bool {
	if i := e.device(r.Device); i >= 0 && head(e.devices[i].value).After(r.CallID, r.CSeq) {
		return true
	}
	key := store.DeviceKey(r)
	return slices.ContainsFunc(e.signs, func(s sign) bool {
		return store.DeviceKey(&s.Registration) == key && s.CallID == r.CallID && s.CSeq > r.CSeq
	})
}

// apply does to the entry what a store does; the value is that of r's binding.
func (e *entry) apply(r *wake.Registration, value []byte, now time.Time) {
	if r.GoneAll() {
		e.signs = nil
		for i := range e.devices {
			e.devices[i].seen = time.Time{}
			store.EndRegistration(e.devices[i].value)
		}
		return
	}
	if len(e.signs) > 0 {
		key := store.DeviceKey(r)
		e.signs = slices.DeleteFunc(e.signs, func(s sign) bool { return store.DeviceKey(&s.Registration) == key })
	}
	i := e.device(r.Device)
	switch {
	case r.Action == wake.ActionBind && !r.Gone:
		e.bind(r.Device, i, value, now)
		return
	case r.Action == wake.ActionBind && i >= 0:
		d := &e.devices[i]
		d.value, d.seen = store.AppendOrder(nil, d.value, value), time.Time{}
	case r.Action == wake.ActionUnbind && i >= 0:
		e.devices = slices.Delete(e.devices, i, i+1)
	case r.Gone && i >= 0:
		e.devices[i].seen = time.Time{}
	}
	if !r.Gone && r.Action != wake.ActionBind {
		e.signs = append(youngest(e.signs, store.MaxRecent-1), sign{*r, now})
	}
}

// bind stores the value for the device, the i-th or a new one.
func (e *entry) bind(name string, i int, value []byte, now time.Time) {
	h := head(value)
	if i >= 0 {
		d := &e.devices[i]
		same := bytes.Equal(head(d.value).Address, h.Address)
		store.KeepCreated(value, d.value)
		d.value, d.seen = append(d.value[:0], value...), now
		if same {
			return
		}
	} else {
		e.devices = append(e.devices, device{strings.Clone(name), bytes.Clone(value), now})
	}
	e.devices = slices.DeleteFunc(e.devices, func(d device) bool { return d.name != name && shares(head(d.value), h) })
	if len(e.devices) > store.MaxDevices {
		oldest := slices.MinFunc(e.devices, func(a, b device) int {
			return head(a.value).Registered.Compare(head(b.value).Registered)
		})
		e.devices = slices.Delete(e.devices, e.device(oldest.name), e.device(oldest.name)+1)
	}
}

// shares reports whether two heads have a token in common.
func shares(a, b store.Head) bool {
	found := false
	a.Tokens(func(key []byte) bool {
		found = b.HasToken(key)
		return !found
	})
	return found
}

func (e *entry) keepOnly(name string) {
	e.devices = slices.DeleteFunc(e.devices, func(d device) bool { return d.name != name })
}

// learn makes the devices those of the list, except for what came here after the
// store was asked for it.
func (e *entry) learn(list []wake.Binding, asked time.Time) {
	e.devices = slices.DeleteFunc(e.devices, func(d device) bool {
		return !d.seen.After(asked) && !slices.ContainsFunc(list, func(b wake.Binding) bool { return b.Device == d.name })
	})
	for k := range list {
		b := &list[k]
		i := e.device(b.Device)
		if i >= 0 {
			h := head(e.devices[i].value)
			if !h.Registered.Before(b.RegisteredAt.Truncate(time.Microsecond)) && h.CSeq == b.CSeq {
				continue
			}
		}
		value, _, err := store.AppendBinding(nil, b, time.Time{})
		switch {
		case err != nil:
		case i < 0:
			e.devices = append(e.devices, device{name: strings.Clone(b.Device), value: value})
		case !e.devices[i].seen.After(asked):
			e.devices[i].value = value
		}
	}
}

func (e *entry) remove(r *wake.Removal) {
	var token []byte
	if !r.Token.Empty() {
		token = store.AppendTokenKey(nil, r.Token)
	}
	for i := range e.devices {
		d := &e.devices[i]
		if !store.Removes(r, token, d.name, head(d.value), time.Now()) {
			continue
		}
		left := 0
		if r.TokenOnly {
			var value []byte
			var err error
			if value, left, err = store.WithoutToken(d.value, token); err != nil {
				panic("BUG: " + err.Error())
			}
			d.value = value
		}
		if left == 0 {
			d.value = nil
		}
	}
	e.devices = slices.DeleteFunc(e.devices, func(d device) bool { return d.value == nil })
}

// hold remembers a wake. One past its deadline makes room for it.
func (e *entry) hold(w *wake.Wake, held bool) {
	for i, o := range e.wakes {
		if o.Node == w.Node && o.Call == w.Call {
			e.wakes[i] = heldWake{*w, held}
			return
		}
	}
	if len(e.wakes) >= store.MaxWakes {
		oldest := slices.MinFunc(e.wakes, func(a, b heldWake) int { return a.Deadline.Compare(b.Deadline) })
		if !store.Past(&oldest.Wake, w) {
			return
		}
		e.wakes = slices.DeleteFunc(e.wakes, func(o heldWake) bool { return o.Node == oldest.Node && o.Call == oldest.Call })
	}
	e.wakes = append(e.wakes, heldWake{*w, held})
}

// holds reports whether there is a wake that is not past its deadline, or that the
// store has yet to be told of.
func (e *entry) holds(now time.Time) bool {
	return slices.ContainsFunc(e.wakes, func(w heldWake) bool {
		return !now.After(w.Deadline) || w.held && !now.After(w.StartedAt.Add(store.Keep(&w.Wake)))
	})
}

// open returns the wakes that are not past their deadline at t, oldest first.
func (e *entry) open(t time.Time) []heldWake {
	var list []heldWake
	for _, w := range e.wakes {
		if !t.After(w.Deadline) {
			list = append(list, w)
		}
	}
	slices.SortStableFunc(list, func(a, b heldWake) int { return a.StartedAt.Compare(b.StartedAt) })
	return list
}

// known returns the bindings that registered after oldest, and the registrations
// that came here after recent.
func (e *entry) known(recent, oldest time.Time) (bindings []wake.Binding, last []wake.Registration) {
	for _, s := range e.signs {
		if s.at.After(recent) {
			last = append(last, s.Registration)
		}
	}
	for _, d := range e.devices {
		b, err := store.DecodeBinding(e.aor, d.name, d.value)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		if !b.RegisteredAt.After(oldest) {
			continue
		}
		bindings = append(bindings, b)
		signed := slices.ContainsFunc(last, func(r wake.Registration) bool { return r.Device == b.Device })
		if d.seen.After(recent) && !signed {
			last = append(last, wake.Registration{Binding: b, Action: wake.ActionBind})
		}
	}
	slices.SortFunc(bindings, func(a, b wake.Binding) int { return strings.Compare(a.Device, b.Device) })
	slices.SortStableFunc(last, func(a, b wake.Registration) int { return a.RegisteredAt.Compare(b.RegisteredAt) })
	return bindings, last
}
