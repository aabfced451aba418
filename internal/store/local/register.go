package local

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// Register implements wake.Store.
func (s *Store) Register(ctx context.Context, r wake.Registration) (wake.Registered, error) {
	if r.AOR == "" || r.Device == "" && r.Action != wake.ActionSeen {
		return wake.Registered{}, fmt.Errorf("cannot register %q: %w", r.AOR, errUsage)
	}
	if err := checkKey(&r); err != nil {
		return wake.Registered{}, fmt.Errorf("cannot register: %w", err)
	}
	if r.RegisteredAt.IsZero() {
		r.RegisteredAt = time.Now()
	}
	if r.CreatedAt.IsZero() {
		r.CreatedAt = r.RegisteredAt
	}
	res, wait, err := s.apply(ctx, &r)
	if err == nil && wait != nil {
		err = s.writer.wait(ctx, wait)
	}
	if err != nil {
		return wake.Registered{}, fmt.Errorf("cannot register %q: %w", r.AOR, err)
	}
	return res, nil
}

// apply does all of a Register but wait for the disk. The wakes are read under
// the same lock that stored the registration: a Start that comes later finds
// the one, a Start that came earlier is among the other.
func (s *Store) apply(ctx context.Context, r *wake.Registration) (wake.Registered, *batch, error) {
	if err := s.writer.admit(ctx); err != nil {
		return wake.Registered{}, nil, err
	}
	sh, st, err := s.lock(ctx, r.AOR)
	if err != nil {
		return wake.Registered{}, nil, err
	}
	defer sh.mu.Unlock()
	now := time.Now()
	st.expire(now)
	s.expireDevices(st, now)
	d := st.device(r.Device)
	stale, err := st.newer(r, d)
	if err == nil && !stale && r.Late {
		stale, err = st.later(r, d)
	}
	if err != nil {
		return wake.Registered{}, nil, err
	}
	if stale {
		return wake.Registered{Status: wake.StatusStale, Devices: st.bound()}, nil, nil
	}

	res := wake.Registered{Status: wake.StatusNone}
	var wait *batch
	switch {
	case r.Action == wake.ActionBind && !r.Gone:
		wait, err = s.bind(sh, st, d, r, now, &res)
	case r.Action == wake.ActionBind:
		err = s.unregister(st, d, r, &res)
	case r.Action == wake.ActionUnbind:
		wait, err = s.unbind(st, d, now, &res)
	}
	if r.GoneAll() {
		s.endAll(st)
	}
	if err == nil && !r.Late && (r.Action != wake.ActionBind || r.Gone) {
		err = st.remember(r, now, now.Add(s.config.Recent))
	}
	if err != nil {
		return wake.Registered{}, nil, err
	}
	res.Devices = st.bound()
	switch {
	case r.Gone:
	case r.Late:
		res.Wakes = st.openBack(r.RegisteredAt, now)
	default:
		res.Wakes = st.open(r.RegisteredAt)
	}
	return res, wait, nil
}

// bind stores or refreshes the binding.
func (s *Store) bind(sh *shard, st *state, d *device, r *wake.Registration, now time.Time, res *wake.Registered) (*batch, error) {
	value, head, err := store.AppendBinding(sh.scratch[:0], &r.Binding, now)
	if err != nil {
		return nil, err
	}
	sh.scratch = value
	var went []tokenHash
	same := false
	if d != nil && !d.gone {
		old, err := store.ReadHead(d.value)
		if err != nil {
			return nil, err
		}
		store.KeepCreated(value, d.value)
		if same = sameAddress(old, head); !same {
			went = tokens(old)
		}
	}
	replaced, err := st.replace(d, head, now)
	if err != nil {
		return nil, err
	}
	went = append(went, replaced...)
	if d == nil || d.gone {
		went = append(went, st.makeRoom(now)...)
	}
	if d == nil {
		d = &device{name: strings.Clone(r.Device)}
		st.devices = append(st.devices, d)
	}
	refresh := same && d.durable()
	d.value = append(d.value[:0], value...)
	if d.gone = false; !r.Late {
		d.seen = now
	}
	d.change(refresh)
	s.expires(st.aor, d.name, r.ExpiresAt)
	if len(st.memory) > 0 && !r.Late {
		st.forget(store.DeviceKey(r))
	}
	var changed []tokenHash
	if refresh && len(replaced) == 0 {
		res.Status = wake.StatusRefreshed
		s.writer.lazy(st)
		changed, res.PreviousAORs, err = s.index.refreshed(st.aor, head)
		if len(changed) > 0 {
			s.writer.lazyTokens(changed)
		}
	} else {
		res.Status = wake.StatusStored
		owned := tokens(head)
		if changed, res.PreviousAORs, err = s.index.take(st.aor, owned, went, r.Late); err == nil {
			return s.writer.urgent(st, changed), nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: cannot read file: %w", wake.ErrUnavailable, err)
	}
	return nil, nil
}

// replace drops the other devices that have one of the tokens, and returns the tokens
// that went.
func (st *state) replace(d *device, head store.Head, now time.Time) (went []tokenHash, err error) {
	for _, o := range st.devices {
		if o.gone || o == d {
			continue
		}
		h, err := store.ReadHead(o.value)
		if err != nil {
			return nil, err
		}
		if shares(h, head) {
			went = append(went, st.drop(o, h, wake.RemovedReplaced, now)...)
		}
	}
	return went, nil
}

// unregister is a Bind that ends the registration: of a known binding the order
// and the expiry change, an unknown one stays unknown.
func (s *Store) unregister(st *state, d *device, r *wake.Registration, res *wake.Registered) error {
	if d == nil || d.gone {
		return nil
	}
	value, _, err := store.AppendBinding(nil, &r.Binding, time.Time{})
	if err != nil {
		return err
	}
	d.value = store.AppendOrder(nil, d.value, value)
	d.change(true)
	s.expires(st.aor, d.name, r.ExpiresAt)
	s.writer.lazy(st)
	res.Status = wake.StatusRefreshed
	return nil
}

// endAll ends every registration: nobody is awake.
func (s *Store) endAll(st *state) {
	for i := range st.memory {
		store.MarkGone(st.memory[i].value)
	}
	for _, d := range st.devices {
		if d.seen = (time.Time{}); !d.gone {
			store.EndRegistration(d.value)
			d.change(true)
			s.writer.lazy(st)
		}
	}
}

func (s *Store) unbind(st *state, d *device, now time.Time, res *wake.Registered) (*batch, error) {
	if d == nil {
		return nil, nil
	}
	res.Status = wake.StatusRemoved
	if d.gone { // and not on the disk yet, or it were not here
		return s.writer.urgent(st, nil), nil
	}
	h, err := store.ReadHead(d.value)
	if err != nil {
		return nil, err
	}
	return s.writer.urgent(st, s.index.release(st.aor, st.drop(d, h, wake.RemovedUnbind, now))), nil
}

// expireDevices removes what is past the retention.
func (s *Store) expireDevices(st *state, now time.Time) int {
	oldest := now.Add(-s.config.Retention)
	n := 0
	for _, d := range st.devices {
		if d.gone {
			continue
		}
		h, err := store.ReadHead(d.value)
		if err != nil || h.Registered.After(oldest) {
			continue
		}
		s.writer.lazyTokens(s.index.release(st.aor, st.drop(d, h, wake.RemovedRetention, now)))
		s.writer.lazy(st)
		n++
	}
	return n
}
