package local

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

const shards = 256

// shard holds the AORs that are active, each with all it has: what is here is
// the truth, the file only follows. An AOR is read in when it is first used and
// dropped when it is at rest.
type shard struct {
	mu      sync.Mutex
	aors    map[string]*state
	scratch []byte // a value being written
}

// state is an AOR in memory, under its shard's lock.
type state struct {
	aor     string
	devices []*device
	memory  []remembered
	wakes   []openWake
	tombs   []tomb
	queued  bool // the writer will look at it
	// notes are those of removals that are not in the file yet; the writer has the
	// first of them in hand.
	notes  []wake.RemovalNote
	inHand int
}

// device is a binding. It is dirty until the writer has saved its generation.
type device struct {
	name  string
	value []byte // package store; replaced in place by a refresh
	// seen is when its last REGISTER came, zero if that was read from the file:
	// before this process began nobody waited.
	seen time.Time
	// gen counts the changes, saved is the one in the file, address the one that
	// was no mere refresh: until it is saved nothing is acknowledged.
	gen, saved, address uint64
	gone                bool // removed
}

func (d *device) dirty() bool   { return d.saved < d.gen }
func (d *device) durable() bool { return d.saved >= d.address }

func (d *device) change(refresh bool) {
	d.gen++
	if !refresh {
		d.address = d.gen
	}
}

// remembered is a REGISTER that left no binding, or that ended one: its value
// tells which.
type remembered struct {
	key   string // store.DeviceKey
	value []byte // store.AppendRegistration
	until time.Time
}

type openWake struct {
	wake.Wake
	until time.Time
}

type tomb struct {
	node, call string
	until      time.Time
}

// expire forgets what has run out.
func (st *state) expire(now time.Time) {
	if len(st.memory)+len(st.wakes)+len(st.tombs) == 0 {
		return
	}
	st.memory = slices.DeleteFunc(st.memory, func(m remembered) bool { return m.until.Before(now) })
	st.wakes = slices.DeleteFunc(st.wakes, func(w openWake) bool { return w.until.Before(now) })
	st.tombs = slices.DeleteFunc(st.tombs, func(t tomb) bool { return t.until.Before(now) })
}

// resting reports whether the file knows all of it. Call expire first.
func (st *state) resting(recentSince time.Time) bool {
	if st.queued || len(st.memory)+len(st.wakes)+len(st.tombs)+len(st.notes) > 0 {
		return false
	}
	for _, d := range st.devices {
		if d.dirty() || d.seen.After(recentSince) {
			return false
		}
	}
	return true
}

// device returns the device that is bound, or that was and whose removal is not
// saved yet; see gone.
func (st *state) device(name string) *device {
	for _, d := range st.devices {
		if d.name == name {
			return d
		}
	}
	return nil
}

// bound counts the bindings.
func (st *state) bound() int {
	n := 0
	for _, d := range st.devices {
		if !d.gone {
			n++
		}
	}
	return n
}

// makeRoom drops the oldest binding if there is no room for another one, and
// returns the tokens that went.
func (st *state) makeRoom(now time.Time) (went []tokenHash) {
	if st.bound() < store.MaxDevices {
		return nil
	}
	var oldest *device
	var head store.Head
	for _, d := range st.devices {
		if d.gone {
			continue
		}
		if h, err := store.ReadHead(d.value); err == nil && (oldest == nil || h.Registered.Before(head.Registered)) {
			oldest, head = d, h
		}
	}
	if oldest == nil {
		return nil
	}
	return st.drop(oldest, head, wake.RemovedTooMany, now)
}

// drop removes the binding, leaves a note, and returns the tokens that it had. The
// writer must be told of the state.
func (st *state) drop(d *device, h store.Head, reason string, now time.Time) (went []tokenHash) {
	st.note(store.NewNote(d.name, d.value, reason, now))
	d.gone = true
	d.change(false)
	return tokens(h)
}

// remember keeps the registration in mind until the given time.
func (st *state) remember(r *wake.Registration, now, until time.Time) error {
	key := store.DeviceKey(r)
	value, _, err := store.AppendRegistration(nil, r, now)
	if err != nil {
		return err
	}
	st.forget(key)
	st.memory = append(youngest(st.memory, store.MaxRecent-1), remembered{key: key, value: value, until: until})
	return nil
}

// youngest makes the list, oldest first, no longer than most.
func youngest[T any](list []T, most int) []T { return slices.Delete(list, 0, max(len(list)-most, 0)) }

func (st *state) forget(key string) {
	st.memory = slices.DeleteFunc(st.memory, func(m remembered) bool { return m.key == key })
}

// newer returns whether a later REGISTER of the device than this one was seen.
func (st *state) newer(r *wake.Registration, d *device) (bool, error) {
	if d != nil && !d.gone {
		h, err := store.ReadHead(d.value)
		if err != nil || h.After(r.CallID, r.CSeq) {
			return err == nil, err
		}
	}
	if len(st.memory) == 0 {
		return false, nil
	}
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
		return err == nil && h.After(r.CallID, r.CSeq), err
	}
	return false, nil
}

// keep stores the wake, in the place of the given one if that is not -1. One past
// its deadline makes room for it.
func (st *state) keep(w wake.Wake, place int, now time.Time) {
	o := openWake{w, now.Add(store.Keep(&w))}
	if place >= 0 {
		st.wakes[place] = o
		return
	}
	if len(st.wakes) >= store.MaxWakes {
		oldest := slices.MinFunc(st.wakes, func(a, b openWake) int { return a.Deadline.Compare(b.Deadline) })
		st.wakes = slices.DeleteFunc(st.wakes, func(o openWake) bool { return o.Node == oldest.Node && o.Call == oldest.Call })
	}
	st.wakes = append(st.wakes, o)
}

// open returns the wakes that are not past their deadline at t, oldest first.
func (st *state) open(t time.Time) []wake.Wake {
	var list []wake.Wake
	for _, w := range st.wakes {
		if !t.After(w.Deadline) {
			list = append(list, w.Wake)
		}
	}
	slices.SortStableFunc(list, func(a, b wake.Wake) int { return a.StartedAt.Compare(b.StartedAt) })
	return list
}

// bindings returns those whose value the filter takes, ordered by device.
func (st *state) bindings(keep func(store.Head) bool) ([]wake.Binding, error) {
	var list []wake.Binding
	for _, d := range st.devices {
		if d.gone {
			continue
		}
		h, err := store.ReadHead(d.value)
		if err != nil {
			return nil, err
		}
		if !keep(h) {
			continue
		}
		b, err := store.DecodeBinding(st.aor, d.name, d.value)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b wake.Binding) int { return strings.Compare(a.Device, b.Device) })
	return list, nil
}

// recent returns the registrations seen after since, one per device.
func (st *state) recent(since time.Time) ([]wake.Registration, error) {
	var list []wake.Registration
	for _, m := range st.memory {
		r, err := store.DecodeRegistration(st.aor, m.value)
		if err != nil {
			return nil, err
		}
		if !r.Gone {
			list = append(list, r)
		}
	}
	for _, d := range st.devices {
		// What left no binding came later than the binding's own REGISTER.
		if d.gone || !d.seen.After(since) || st.remembers(d.name) {
			continue
		}
		b, err := store.DecodeBinding(st.aor, d.name, d.value)
		if err != nil {
			return nil, err
		}
		list = append(list, wake.Registration{Binding: b, Action: wake.ActionBind})
	}
	slices.SortStableFunc(list, func(a, b wake.Registration) int { return a.RegisteredAt.Compare(b.RegisteredAt) })
	return list, nil
}

func (st *state) remembers(device string) bool {
	return slices.ContainsFunc(st.memory, func(m remembered) bool { return m.key[0] == 'd' && m.key[1:] == device })
}

// tokens returns the hashes of the tokens.
func tokens(h store.Head) (list []tokenHash) {
	h.Tokens(func(key []byte) bool {
		list = append(list, hashToken(key))
		return true
	})
	return list
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

func sameAddress(a, b store.Head) bool { return bytes.Equal(a.Address, b.Address) }
