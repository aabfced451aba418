// Package aor is what the stores in Go do with an AOR: the rules of wake.Store for one
// AOR in memory. Nothing in it waits, reads or writes; whoever keeps the states locks
// them and stores what has changed. The scripts in package redis do the same, and
// storetest holds both to it.
package aor

import (
	"bytes"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// State is an AOR. Not safe for concurrent use.
type State struct {
	AOR     string
	Devices []*Device
	Wakes   []Wake
	memory  []remembered
	tombs   []tomb
}

// Device is a binding. One that was removed stays in the state until its keeper takes
// it out: it may be on a disk yet.
type Device struct {
	Name  string
	Value []byte // package store; a refresh replaces it in place
	// Seen is when its last REGISTER came, zero if that was before this process began:
	// then nobody waited.
	Seen time.Time
	Gone bool // removed
	// Gen counts the changes. Saved is the one that the keeper has on its disk, Firm the
	// last that was no mere refresh.
	Gen, Saved, Firm uint64
}

// Dirty reports whether the disk does not have the last change.
func (d *Device) Dirty() bool { return d.Saved < d.Gen }

// durable reports whether the disk has all but refreshes.
func (d *Device) durable() bool { return d.Saved >= d.Firm }

// Change notes a change.
func (d *Device) Change(refresh bool) {
	d.Gen++
	if !refresh {
		d.Firm = d.Gen
	}
}

// remembered is a REGISTER that left no binding, or that ended one: its value
// tells which.
type remembered struct {
	key   string // store.DeviceKey
	value []byte // store.AppendRegistration
	until time.Time
}

// Wake is one that has not ended.
type Wake struct {
	wake.Wake
	Held  bool // only its keeper knows it
	until time.Time
}

type tomb struct {
	node, call string
	until      time.Time
}

// Expire forgets what has run out.
func (st *State) Expire(now time.Time) {
	if len(st.memory)+len(st.Wakes)+len(st.tombs) == 0 {
		return
	}
	st.memory = slices.DeleteFunc(st.memory, func(m remembered) bool { return m.until.Before(now) })
	st.Wakes = slices.DeleteFunc(st.Wakes, func(w Wake) bool { return w.until.Before(now) })
	st.tombs = slices.DeleteFunc(st.tombs, func(t tomb) bool { return t.until.Before(now) })
}

// Idle reports whether there is nothing but devices.
func (st *State) Idle() bool { return len(st.memory)+len(st.Wakes)+len(st.tombs) == 0 }

// Device returns the device, also one that is gone; nil if there is none.
func (st *State) Device(name string) *Device {
	for _, d := range st.Devices {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Bound counts the bindings.
func (st *State) Bound() int {
	n := 0
	for _, d := range st.Devices {
		if !d.Gone {
			n++
		}
	}
	return n
}

// Went is what a change took: a device, or with no Reason what it was before.
type Went struct {
	*Device
	Head   store.Head
	Reason string
}

func (d *Device) drop(h store.Head, reason string) Went {
	d.Gone = true
	d.Change(false)
	return Went{d, h, reason}
}

// DropOld removes the bindings that have not registered since.
func (st *State) DropOld(since time.Time) (went []Went) {
	for _, d := range st.Devices {
		if d.Gone {
			continue
		}
		if h, err := store.ReadHead(d.Value); err == nil && !h.Registered.After(since) {
			went = append(went, d.drop(h, wake.RemovedRetention))
		}
	}
	return went
}

// Removed is what a removal did.
type Removed struct {
	Went   []Went
	Tokens int // that went out of bindings that stay
	// Pending: it matched something, be it that this is gone already. Known: a binding
	// that it does not match has the token.
	Pending, Known bool
}

// Remove does what Store.Remove promises. token is the key of the removal's token, nil
// for none.
func (st *State) Remove(r *wake.Removal, token []byte, now time.Time) (res Removed, err error) {
	for _, d := range st.Devices {
		h, err := store.ReadHead(d.Value)
		if err != nil {
			return res, err
		}
		if !store.Removes(r, token, d.Name, h, now) {
			res.Known = res.Known || token != nil && !d.Gone && h.HasToken(token)
			continue
		}
		res.Pending = true
		if d.Gone {
			continue
		}
		if r.TokenOnly {
			value, left, err := store.WithoutToken(d.Value, token)
			if err != nil {
				return res, err
			}
			if left > 0 {
				d.Value = value
				d.Change(false)
				res.Tokens++
				continue
			}
		}
		res.Went = append(res.Went, d.drop(h, r.Reason))
	}
	return res, nil
}

// youngest makes the list, oldest first, no longer than most.
func youngest[T any](list []T, most int) []T { return slices.Delete(list, 0, max(len(list)-most, 0)) }

// shares reports whether two heads have a token in common.
func shares(a, b store.Head) bool {
	found := false
	a.Tokens(func(key []byte) bool {
		found = b.HasToken(key)
		return !found
	})
	return found
}

func sameAddress(a, b store.Head) bool { return bytes.Equal(a.Address, b.Address) }
