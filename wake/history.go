package wake

import "context"

// Removals returns why bindings of the AOR went, the oldest first, as far as the
// store knows: see History.
func (s *Service) Removals(ctx context.Context, aor string) ([]RemovalNote, error) {
	aor, err := cleanAOR(aor)
	if err != nil {
		return nil, err
	}
	h, ok := s.store.(History)
	if !ok {
		return nil, nil
	}
	return h.Removals(ctx, aor)
}
