package local

import (
	"bytes"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// later reports whether the device, or another one with its token, has registered
// after a Late registration. The order within a Call-ID goes by the CSeq.
func (st *state) later(r *wake.Registration, d *device) (bool, error) {
	since := func(value []byte) (bool, error) {
		h, err := store.ReadHead(value)
		if err != nil || bytes.Equal(h.CallID, []byte(r.CallID)) && h.CSeq != r.CSeq {
			return false, err
		}
		return h.Registered.After(r.RegisteredAt), nil
	}
	if d != nil && !d.gone {
		if is, err := since(d.value); is || err != nil {
			return is, err
		}
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
		if is, err := since(value); is || err != nil {
			return is, err
		}
	}
	if r.Action != wake.ActionBind || r.Gone {
		return false, nil
	}
	for _, o := range st.devices {
		h, err := store.ReadHead(o.value)
		if err != nil {
			return false, err
		}
		if o != d && !o.gone && h.Registered.After(r.RegisteredAt) && slices.ContainsFunc(r.Address.Tokens,
			func(t pnparam.Token) bool { return h.HasToken(store.AppendTokenKey(nil, t.Value)) }) {
			return true, nil
		}
	}
	return false, nil
}

// openBack returns the wakes that were open at t and are open now.
func (st *state) openBack(t, now time.Time) []wake.Wake {
	return slices.DeleteFunc(st.open(t), func(w wake.Wake) bool { return w.StartedAt.After(t) || !w.Deadline.After(now) })
}
