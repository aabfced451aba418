package wake

import (
	"context"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// RejectedParams are the parameters of binding.rejected: a REGISTER that the
// registrar rejected permanently, for example with 403 or 404.
type RejectedParams struct {
	Node    string
	AOR     string
	Contact string            // raw Contact header
	Headers map[string]string // as in RegisterParams
}

// Rejected counts a rejected REGISTER against the AOR's bindings that have one of
// its tokens, and returns their number. RemoveConfig.RegisterRejected sets when they
// are removed. Anybody can send a REGISTER that gets rejected, so only one with the
// binding's own token counts: nobody else knows it.
func (s *Service) Rejected(ctx context.Context, p RejectedParams) (counted int, err error) {
	if _, err := s.node(p.Node); err != nil {
		return 0, err
	}
	aor, err := CleanAOR(p.AOR)
	if err != nil {
		return 0, err
	}
	parsed, err := pnparam.Parse(pnparam.Register{Contact: p.Contact, Headers: p.Headers})
	if err != nil || len(parsed.Address.Tokens) == 0 {
		return 0, nil //nolint:nilerr // there is no token that could be bound
	}
	bindings, err := s.store.Bindings(ctx, Query{AOR: aor})
	if err != nil {
		return 0, err
	}
	limit := s.settings.Load().Remove.RegisterRejected
	for i := range bindings {
		b := &bindings[i]
		if slices.ContainsFunc(parsed.Address.Tokens, func(t pnparam.Token) bool { return b.has(t.Value) }) {
			counted++
			s.countFailure(b, removedRegister, limit, time.Now())
		}
	}
	return counted, nil
}
