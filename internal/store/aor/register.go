package aor

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// Applied is what a REGISTER did.
type Applied struct {
	Status  wake.Status // Refreshed only if every change except refreshes is on disk
	Head    store.Head  // of the new binding; valid until the next Apply with the same room
	Went    []Went
	Wakes   []wake.Wake
	Changed bool // some device has changed
}

// Apply does what Store.Register promises, except for PreviousAORs. A REGISTER that left
// no binding is remembered for the duration recent. room is a buffer for the new value.
func (st *State) Apply(r *wake.Registration, room *[]byte, now time.Time, recent time.Duration) (a Applied, err error) {
	d := st.Device(r.Device)
	var old store.Head
	if d != nil && !d.Gone {
		if old, err = store.ReadHead(d.Value); err != nil {
			return Applied{Status: wake.StatusStale}, err
		}
	}
	if stale, err := st.stale(r, d, &old); stale || err != nil {
		return Applied{Status: wake.StatusStale}, err
	}
	a.Status = wake.StatusNone
	switch {
	case r.Action == wake.ActionBind && !r.Gone:
		err = st.bind(d, &old, r, room, now, &a)
	case r.Action == wake.ActionBind && d != nil && !d.Gone:
		err = d.unregister(r, &a)
	case r.Action == wake.ActionUnbind && d != nil:
		err = d.unbind(&a)
	}
	if r.GoneAll() {
		a.Changed = st.endAll()
	}
	if err == nil && !r.Late && (r.Action != wake.ActionBind || r.Gone) {
		err = st.remember(r, now, now.Add(recent))
	}
	switch {
	case r.Gone:
	case r.Late:
		a.Wakes = st.openBack(r.RegisteredAt, now)
	default:
		a.Wakes = st.open(r.RegisteredAt)
	}
	return a, err
}

// stale reports whether a later REGISTER of the device was seen: one with the same
// Call-ID and a higher CSeq. A Late REGISTER is also stale if the device, or another
// device with one of its tokens, has registered since. old is the head of the binding d.
func (st *State) stale(r *wake.Registration, d *Device, old *store.Head) (bool, error) {
	later := func(h *store.Head) bool {
		if !r.Late || bytes.Equal(h.CallID, []byte(r.CallID)) && h.CSeq != r.CSeq {
			return h.After(r.CallID, r.CSeq)
		}
		return h.Registered.After(r.RegisteredAt)
	}
	if d != nil && !d.Gone && later(old) {
		return true, nil
	}
	if len(st.memory) > 0 {
		key := store.DeviceKey(r)
		for _, m := range st.memory {
			if m.key != key {
				continue
			}
			_, value, err := store.CutRegistration(m.value)
			if err != nil {
				return false, err
			}
			h, err := store.ReadHead(value)
			if err != nil || later(&h) {
				return err == nil, err
			}
		}
	}
	if !r.Late || r.Action != wake.ActionBind || r.Gone {
		return false, nil
	}
	for _, o := range st.Devices {
		h, err := store.ReadHead(o.Value)
		if err != nil {
			return false, err
		}
		if o != d && !o.Gone && h.Registered.After(r.RegisteredAt) && hasOne(h, r) {
			return true, nil
		}
	}
	return false, nil
}

// hasOne reports whether the binding has one of the REGISTER's tokens.
func hasOne(h store.Head, r *wake.Registration) bool {
	for _, t := range r.Address.Tokens {
		if h.HasToken(store.AppendTokenKey(nil, t.Value)) {
			return true
		}
	}
	return false
}

// bind stores or refreshes the binding. old is the head of the binding d.
func (st *State) bind(d *Device, old *store.Head, r *wake.Registration, room *[]byte, now time.Time, a *Applied) error {
	value, head, err := store.AppendEncoded((*room)[:0], r, now)
	if err != nil {
		return err
	}
	*room = value
	same := false
	if d != nil && !d.Gone {
		store.KeepCreated(value, d.Value)
		if same = sameAddress(*old, head); !same {
			h, _ := store.ReadHead(bytes.Clone(d.Value)) // a copy, because it is overwritten below
			a.Went = append(a.Went, Went{d, h, ""})
		}
	}
	replaced, err := st.replace(d, head)
	if err != nil {
		return err
	}
	a.Went = append(a.Went, replaced...)
	if d == nil || d.Gone {
		a.Went = append(a.Went, st.makeRoom()...)
	}
	if d == nil {
		d = &Device{Name: strings.Clone(r.Device)}
		st.Devices = append(st.Devices, d)
	}
	refresh := same && d.durable()
	d.Value = append(d.Value[:0], value...)
	if d.Gone = false; !r.Late {
		d.Seen = now
	}
	d.Change(refresh)
	if len(st.memory) > 0 && !r.Late {
		st.forget(store.DeviceKey(r))
	}
	a.Head, a.Status = head, wake.StatusStored
	if refresh && len(replaced) == 0 {
		a.Status, a.Changed = wake.StatusRefreshed, true
	}
	return nil
}

// replace drops the other devices that have one of the tokens.
func (st *State) replace(d *Device, head store.Head) (went []Went, err error) {
	for _, o := range st.Devices {
		if o.Gone || o == d {
			continue
		}
		h, err := store.ReadHead(o.Value)
		if err != nil {
			return nil, err
		}
		if shares(h, head) {
			went = append(went, o.drop(h, wake.RemovedReplaced))
		}
	}
	return went, nil
}

// makeRoom drops the oldest binding if the AOR has no room for another.
func (st *State) makeRoom() []Went {
	if st.Bound() < store.MaxDevices {
		return nil
	}
	var oldest *Device
	var head store.Head
	for _, d := range st.Devices {
		if d.Gone {
			continue
		}
		if h, err := store.ReadHead(d.Value); err == nil && (oldest == nil || h.Registered.Before(head.Registered)) {
			oldest, head = d, h
		}
	}
	if oldest == nil {
		return nil
	}
	return []Went{oldest.drop(head, wake.RemovedTooMany)}
}

// unregister applies a Bind that ends the registration. Only the order and the expiry
// change.
func (d *Device) unregister(r *wake.Registration, a *Applied) error {
	value, _, err := store.AppendBinding(nil, &r.Binding, time.Time{})
	if err != nil {
		return err
	}
	d.Value = store.AppendOrder(nil, d.Value, value)
	d.Change(true)
	a.Status, a.Changed = wake.StatusRefreshed, true
	return nil
}

func (d *Device) unbind(a *Applied) error {
	a.Status = wake.StatusRemoved
	if d.Gone { // and the removal is not on disk yet, or it would not be here
		return nil
	}
	h, err := store.ReadHead(d.Value)
	if err == nil {
		a.Went = append(a.Went, d.drop(h, wake.RemovedUnbind))
	}
	return err
}

// endAll ends every registration: no device is awake.
func (st *State) endAll() (changed bool) {
	for i := range st.memory {
		store.MarkGone(st.memory[i].value)
	}
	for _, d := range st.Devices {
		if d.Seen = (time.Time{}); !d.Gone {
			store.EndRegistration(d.Value)
			d.Change(true)
			changed = true
		}
	}
	return changed
}

// remember remembers the registration until the given time.
func (st *State) remember(r *wake.Registration, now, until time.Time) error {
	key := store.DeviceKey(r)
	value, _, err := store.AppendRegistration(nil, r, now)
	if err != nil {
		return err
	}
	st.forget(key)
	st.memory = append(youngest(st.memory, store.MaxRecent-1), remembered{key: key, value: value, until: until})
	return nil
}

// Forget drops the device of the REGISTER as if it had never existed.
func (st *State) Forget(r *wake.Registration) {
	st.forget(store.DeviceKey(r))
	st.Devices = slices.DeleteFunc(st.Devices, func(d *Device) bool { return d.Name == r.Device })
}

func (st *State) forget(key string) {
	st.memory = slices.DeleteFunc(st.memory, func(m remembered) bool { return m.key == key })
}
