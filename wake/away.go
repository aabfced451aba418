package wake

import (
	"context"
	"slices"

	"github.com/sipwake/sipwake/pnparam"
	"github.com/sipwake/sipwake/secret"
)

// What a store that is away leaves to the rules: see package store/fallback.

// Replayed acts on a REGISTER that the store has taken late. Nodes hear of it that
// have held a request since before it came.
func (s *Service) Replayed(ctx context.Context, r Registration, stored Registered) {
	s.registerBack(stored.Wakes, r)
	if stored.Status == Removed {
		s.metrics.removed.WithLabelValues(removedUnbind).Inc()
	}
	if stored.PreviousAOR == "" {
		return
	}
	// The phone may have gone from this account to that one since.
	for _, t := range r.Address.Tokens {
		list, err := s.store.Bindings(ctx, Query{AOR: stored.PreviousAOR})
		if err != nil {
			s.log.Warn("cannot read bindings of the other account", "aor", stored.PreviousAOR, "err", err)
			return
		}
		for _, b := range list {
			if !b.RegisteredAt.After(r.RegisteredAt) || !b.has(t.Value) {
				continue
			}
			if _, err := s.remove(ctx, Removal{AOR: r.AOR, Token: t.Value, NotAfter: r.RegisteredAt}, removedMoved); err != nil {
				s.log.Warn("cannot remove binding of the previous account", "aor", r.AOR, "err", err)
			}
			return
		}
	}
	s.moved(ctx, stored.PreviousAOR, r)
}

// registerBack signals every node that holds one of the wakes.
func (s *Service) registerBack(wakes []Wake, r Registration) {
	for _, w := range wakes {
		s.back(w, r)
	}
}

func (b Binding) has(token secret.Token) bool {
	return slices.ContainsFunc(b.Address.Tokens, func(t pnparam.Token) bool { return t.Value == token })
}
