package fallback

import (
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/aor"
	"github.com/sipwake/sipwake/internal/wake"
)

// entry is one AOR, under the memory's lock.
type entry struct {
	prev, next *entry
	aor.State
}

// keepOnly drops the devices that are gone. With a name, it also drops all other devices.
func (e *entry) keepOnly(name string) {
	e.Devices = slices.DeleteFunc(e.Devices, func(d *aor.Device) bool { return d.Gone || name != "" && d.Name != name })
}

// learn replaces the devices by those of the list, but keeps what came here after the
// store was asked for the list.
func (e *entry) learn(list []wake.Binding, asked time.Time) {
	e.Devices = slices.DeleteFunc(e.Devices, func(d *aor.Device) bool {
		return !d.Seen.After(asked) && !slices.ContainsFunc(list, func(b wake.Binding) bool { return b.Device == d.Name })
	})
	for k := range list {
		b := &list[k]
		d := e.Device(b.Device)
		if d != nil {
			h, err := store.ReadHead(d.Value)
			if err == nil && !h.Registered.Before(b.RegisteredAt.Truncate(time.Microsecond)) && h.CSeq == b.CSeq {
				continue
			}
		}
		value, _, err := store.AppendBinding(nil, b, time.Time{})
		switch {
		case err != nil:
		case d == nil:
			e.Devices = append(e.Devices, &aor.Device{Name: strings.Clone(b.Device), Value: value})
		case !d.Seen.After(asked):
			d.Value = value
		}
	}
}

// holds reports whether there is a wake that is not past its deadline or that the store
// does not know yet.
func (e *entry) holds(now time.Time) bool {
	return slices.ContainsFunc(e.Wakes, func(w aor.Wake) bool {
		return !now.After(w.Deadline) || w.Held && !now.After(w.StartedAt.Add(store.Keep(&w.Wake)))
	})
}
