package outbox

import (
	"context"
	"slices"

	"github.com/sipwake/sipwake/internal/wake"
)

// ListParams are the parameters of push.list. What is given must hold for a message,
// State and App for one of its devices.
type ListParams struct {
	By     wake.Caller // a tenant has what it sent itself
	State  TargetState
	AOR    string
	App    string
	Job    string
	Cursor string // of the page before; empty: the first page
	Limit  int    // about as many at most
}

// How many messages of the store are looked at in one go.
const (
	listPage  = 500
	listLeast = 100
)

// List returns messages, a page at a time and in no order; each further page is asked
// for with the cursor of the one before, until it is empty. A page has fewer than the
// limit, or none, if ctx ends before.
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
	if m.isWord() || len(m.Users) > 0 || len(m.Targets) == 0 && m.Many == nil { // a part of a push to many, or nobody was there
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
