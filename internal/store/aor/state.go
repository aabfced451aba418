// Package aor applies the rules of wake.Store to one AOR in memory, for the stores that
// are written in Go. Nothing in it blocks or does I/O. The owner of a State locks it and
// stores what has changed. The scripts in package redis implement the same rules, and
// storetest checks both.
package aor

import (
	"bytes"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// State is the state of one AOR. It is not safe for concurrent use.
type State struct {
	AOR     string
	Devices []*Device
	Wakes   []Wake
	memory  []remembered
	tombs   []tomb
}

// Device is a binding. A removed one stays in the state until the owner of the state
// takes it out, because it may still be on disk.
type Device struct {
	Name  string
	Value []byte // package store; a refresh replaces it in place
	// Seen is when its last REGISTER came. It is zero if that was before this process
	// started: then nobody was waiting.
	Seen time.Time
	Gone bool // removed
	// Filed is the owner's: a hash of what is on disk, zero if it does not know.
	Filed [8]byte
	// Gen counts the changes. Saved is the last change that is on disk. Firm is the last
	// change that was more than a refresh.
	Gen, Saved, Firm uint64
}

// Dirty reports whether the last change is not on disk yet.
func (d *Device) Dirty() bool { return d.Saved < d.Gen }

// durable reports whether every change except refreshes is on disk.
func (d *Device) durable() bool { return d.Saved >= d.Firm }

// Change records a change.
func (d *Device) Change(refresh bool) {
	d.Gen++
	if !refresh {
		d.Firm = d.Gen
	}
}

// remembered is a REGISTER that left no binding or ended one; its value says which.
type remembered struct {
	key   string // store.DeviceKey
	value []byte // store.AppendRegistration
	until time.Time
}

// Wake is a wake that has not ended.
type Wake struct {
	wake.Wake
	Held  bool // only the owner of the state knows it
	until time.Time
}

type tomb struct {
	node, call string
	until      time.Time
}

// Expire drops everything that has expired, except devices.
func (st *State) Expire(now time.Time) {
	if len(st.memory)+len(st.Wakes)+len(st.tombs) == 0 {
		return
	}
	st.memory = slices.DeleteFunc(st.memory, func(m remembered) bool { return m.until.Before(now) })
	st.Wakes = slices.DeleteFunc(st.Wakes, func(w Wake) bool { return w.until.Before(now) })
	st.tombs = slices.DeleteFunc(st.tombs, func(t tomb) bool { return t.until.Before(now) })
}

// Idle reports whether the state holds nothing but devices.
func (st *State) Idle() bool { return len(st.memory)+len(st.Wakes)+len(st.tombs) == 0 }

// Device returns the device, even if it is gone, or nil if there is none.
func (st *State) Device(name string) *Device {
	for _, d := range st.Devices {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Bound returns the number of bindings.
func (st *State) Bound() int {
	n := 0
	for _, d := range st.Devices {
		if !d.Gone {
			n++
		}
	}
	return n
}

// Went is what a change removed: a device or, if Reason is empty, its previous binding.
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

// DropOld removes the bindings that have not registered after since.
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

// Removed is the result of a removal.
type Removed struct {
	Went   []Went
	Tokens int // removed from bindings that stay
	// Pending: the removal matched something, even if that is already gone.
	// Known: a binding that the removal does not match has the token.
	Pending, Known bool
}

// Remove does what Store.Remove promises. token is the key of the removal's token, or
// nil if it has none.
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

// youngest cuts the list, which is oldest first, to its newest most elements.
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
