package upper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Errors of Returned.
var (
	ErrNode = errors.New("no node of that name can register users")
	ErrBusy = errors.New("too many PBXs have come back at once")
)

const (
	maxReturns = 16               // that are worked on
	sameReturn = 15 * time.Second // within which nodes see one and the same
)

// returned is a PBX that lives again, and may have lost its registrations.
type returned struct {
	server string
	at     time.Time // what was refreshed since then is there
	cursor string
	users  int
}

// returns are those whose users are still to be refreshed. Safe for concurrent use.
type returns struct {
	mu   sync.Mutex
	list []*returned
}

// Returned is told by a node that a PBX of its list lives again: the registrations at it
// become due, half as many in a second as upper.rate, so that what is due anyway is not
// late. Of several nodes and instances that are told one does it.
func (s *Service) Returned(ctx context.Context, node, server string) error {
	cfg := s.settings.Load()
	if cfg.off() {
		return nil
	}
	if cfg.nodes[node] == nil {
		return fmt.Errorf("%w: %q", ErrNode, node)
	}
	if s.returns.full() {
		return ErrBusy
	}
	mine, err := s.claims.Claim(ctx, "upper returned "+server, sameReturn)
	if err != nil || !mine {
		return err
	}
	s.log.Info("a PBX is back", "server", server, "node", node)
	return s.returns.add(server)
}

func (r *returns) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list) >= maxReturns
}

// add begins again with a server that is in the list already.
func (r *returns) add(server string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(b *returned) bool { return b.server == server })
	if len(r.list) >= maxReturns {
		return ErrBusy
	}
	r.list = append(r.list, &returned{server: server, at: time.Now()})
	return nil
}

func (r *returns) all() []*returned {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func (r *returns) done(b *returned) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(o *returned) bool { return o == b })
}

// duePage is how many registrations are read at a time.
const duePage = 100

// makeDue makes about so many registrations due at PBXs that are back, each of which has
// its turn. A page of others counts as one.
func (s *Service) makeDue(ctx context.Context, budget int) {
	for all := s.returns.all(); len(all) > 0 && budget > 0 && ctx.Err() == nil; all = s.returns.all() {
		for _, b := range all {
			if budget <= 0 {
				break
			}
			list, next, err := s.store.Uppers(ctx, b.cursor, min(budget, duePage))
			if err != nil {
				s.log.Warn("cannot read registrations at a PBX that is back", "server", b.server, "err", err)
				return
			}
			list = slices.DeleteFunc(list, func(u Registration) bool { return u.Server != b.server || !u.LastOK.Before(b.at) })
			s.each(list, func(u *Registration) { s.due(ctx, u) })
			b.users += len(list)
			budget -= max(1, len(list))
			if b.cursor = next; next == "" {
				s.log.Info("registrations at a PBX that is back are refreshed", "server", b.server, "users", b.users)
				s.returns.done(b)
			}
		}
	}
}

// due makes a registration due, unless something happens to it at this moment.
func (s *Service) due(ctx context.Context, u *Registration) {
	u.Due = time.Now()
	if err := s.put(ctx, u); err != nil {
		s.log.Warn("cannot refresh registration", "aor", u.AOR, "err", err)
	}
}
