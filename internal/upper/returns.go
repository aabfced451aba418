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
	maxReturns = 16               // in progress
	sameReturn = 15 * time.Second // within which reports of several nodes are the same event
)

// returned is a PBX that is up again, and may have lost its registrations.
type returned struct {
	server string
	at     time.Time // registrations refreshed since then are in place
	cursor string
	users  int
}

// returns holds the PBXs whose users still need a refresh. Safe for concurrent use.
type returns struct {
	mu   sync.Mutex
	list []*returned
}

// Returned handles a node's report that a PBX of its list is up again. The
// registrations there become due at half of upper.rate, so that those due anyway are
// not late. If several nodes and instances report it, only one does the work.
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

// add adds a server to the list, or starts over if it is already there.
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

// duePage is the number of registrations read at a time.
const duePage = 100

// makeDue makes about budget registrations due at PBXs that are back, taking the
// PBXs in turn. A page of other registrations counts as one.
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

// due makes a registration due, unless it changes at the same moment.
func (s *Service) due(ctx context.Context, u *Registration) {
	u.Due = time.Now()
	if err := s.put(ctx, u); err != nil {
		s.log.Warn("cannot refresh registration", "aor", u.AOR, "err", err)
	}
}
