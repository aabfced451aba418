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
	// The phone may have gone from this account to one of those since.
	for _, aor := range stored.PreviousAORs {
		list, err := s.store.Bindings(ctx, Query{AOR: aor})
		if err != nil {
			s.log.Warn("cannot read bindings of the other account", "aor", aor, "err", err)
			return
		}
		for _, b := range list {
			if b.RegisteredAt.After(r.RegisteredAt) && slices.ContainsFunc(r.Address.Tokens, func(t pnparam.Token) bool { return b.has(t.Value) }) {
				s.moved(ctx, []string{r.AOR}, r)
			}
		}
	}
	s.moved(ctx, stored.PreviousAORs, r)
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
