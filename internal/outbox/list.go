package outbox

import (
	"context"
	"slices"

	"github.com/sipwake/sipwake/internal/wake"
)

// ListParams are the parameters of push.list. A message must match every field that is
// set; for State and App, one of its devices must match both.
type ListParams struct {
	By     wake.Caller // a tenant sees only what it sent itself
	State  TargetState
	AOR    string
	App    string
	Job    string
	Cursor string // of the page before; empty: the first page
	Limit  int    // approximately the most messages
}

// How many messages one read takes from the store.
const (
	listPage  = 500
	listLeast = 100
)

// List returns a page of messages, in no order. To read the next page, call it with the
// cursor that it returned, until that is empty. A page has fewer messages than the
// limit, or none, if ctx ends first.
func (s *Service) List(ctx context.Context, p ListParams) (page []Message, next string, err error) {
	switch p.State {
	case "", TargetQueued, TargetSent, TargetFailed:
	default:
		return nil, "", &wake.ParamError{Field: "state", Problem: "must be queued, sent or failed"}
	}
	if p.AOR != "" {
		if p.AOR, err = wake.CleanAOR(p.AOR); err != nil {
			return nil, "", err
		}
	}
	next = p.Cursor
	for first := true; first || next != "" && len(page) < p.Limit && ctx.Err() == nil; first = false {
		list, cursor, err := s.store.Messages(ctx, next, min(listPage, max(p.Limit, listLeast)))
		if err != nil {
			if ctx.Err() != nil && !first {
				return page, next, nil
			}
			return nil, "", err
		}
		for _, m := range list {
			if p.wants(&m) {
				page = append(page, m)
			}
		}
		next = cursor
	}
	return page, next, nil
}

func (p *ListParams) wants(m *Message) bool {
	if m.isWord() || len(m.Users) > 0 || len(m.Targets) == 0 && m.Many == nil { // a part of a push to many, or a message without a device
		return false
	}
	if p.By.Scope != nil && p.By.Name != m.Owner {
		return false
	}
	if p.AOR != "" && p.AOR != m.AOR || p.Job != "" && p.Job != m.Job {
		return false
	}
	if m.Many != nil {
		return (p.State == "" || p.State == TargetQueued && !m.Many.Ended) && (p.App == "" || p.App == m.Many.App)
	}
	return slices.ContainsFunc(m.Targets, func(t Target) bool {
		return (p.State == "" || p.State == t.State) && (p.App == "" || p.App == t.Address.App)
	})
}
