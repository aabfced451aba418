package local

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/aor"
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

// apply does everything for a Register except waiting for the disk. It reads the wakes
// under the same lock under which it stores the registration: a later Start finds the
// registration, and an earlier Start is among the wakes.
func (s *Store) apply(ctx context.Context, r *wake.Registration) (res wake.Registered, wait *batch, err error) {
	if err := s.writer.admit(ctx); err != nil {
		return res, nil, err
	}
	sh, st, err := s.lockFor(ctx, r.AOR, r)
	if err != nil {
		return res, nil, err
	}
	defer sh.mu.Unlock()
	now := time.Now()
	st.Expire(now)
	s.expireDevices(st, now)
	a, err := st.Apply(r, &sh.scratch, now, s.config.Recent)
	if err != nil {
		return res, nil, err
	}
	res = wake.Registered{Status: a.Status, Devices: st.Bound(), Wakes: a.Wakes}
	if a.Changed {
		s.writer.lazy(st)
	}
	bind := r.Action == wake.ActionBind && (a.Status == wake.StatusStored || a.Status == wake.StatusRefreshed)
	if bind {
		s.expires(st.AOR, r.Device, r.ExpiresAt)
	}
	var changed []tokenHash
	went := st.took(a.Went, now)
	switch {
	case a.Status == wake.StatusRemoved:
		wait = s.writer.urgent(st, s.index.release(st.AOR, went))
	case bind && a.Status == wake.StatusStored:
		if changed, res.PreviousAORs, err = s.index.take(st.AOR, tokens(a.Head), went, r.Late); err == nil {
			wait = s.writer.urgent(st, changed)
		}
	case bind && !r.Gone:
		if changed, res.PreviousAORs, err = s.index.refreshed(st.AOR, a.Head); len(changed) > 0 {
			s.writer.lazyTokens(changed)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: cannot read file: %w", wake.ErrUnavailable, err)
	}
	return res, wait, err
}

// recall returns the state of an AOR without reading the file, nil if that cannot be: the
// AOR has one binding, and the REGISTER is for it and changes nothing but its times.
func (s *Store) recall(sh *shard, r *wake.Registration) *state {
	if r == nil || r.Action != wake.ActionBind || r.Gone {
		return nil
	}
	var room [256]byte
	has, ok := s.refreshes.get(hashBinding(appendKey(room[:0], r.AOR, r.Device)))
	if !ok || !has.alone {
		return nil
	}
	value, _, err := store.AppendBinding(sh.scratch[:0], &r.Binding, r.RegisteredAt)
	if err != nil {
		return nil // Apply reports it
	}
	if sh.scratch = value; keptOf(value).lasting != has.lasting {
		return nil
	}
	value = bytes.Clone(value)
	copy(store.Times(value), has.times[:])
	d := &aor.Device{Name: strings.Clone(r.Device), Value: value, Filed: has.lasting}
	return &state{State: aor.State{AOR: strings.Clone(r.AOR), Devices: []*aor.Device{d}}}
}

// expireDevices removes the devices that are past the retention.
func (s *Store) expireDevices(st *state, now time.Time) int {
	went := st.DropOld(now.Add(-s.config.Retention))
	if len(went) > 0 {
		s.writer.lazyTokens(s.index.release(st.AOR, st.took(went, now)))
		s.writer.lazy(st)
	}
	return len(went)
}

// bindings returns the bindings within the retention; with a token, only those that have
// it.
func (s *Store) bindings(st *state, now time.Time, token []byte) ([]wake.Binding, error) {
	oldest := now.Add(-s.config.Retention)
	return st.Bindings(func(h store.Head) bool {
		return h.Registered.After(oldest) && (token == nil || h.HasToken(token))
	})
}
