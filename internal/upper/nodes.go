package upper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// awayFor is how long an unreachable node is asked only after all others.
const awayFor = 10 * time.Second

// away remembers until when to skip unreachable nodes, so that not every refresh
// waits for a dead one. Safe for concurrent use.
type away struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (a *away) set(id string, is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !is {
		delete(a.until, id)
		return
	}
	if a.until == nil {
		a.until = make(map[string]time.Time)
	}
	a.until[id] = time.Now().Add(awayFor)
}

func (a *away) is(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.until[id])
}

// inOrder returns the nodes in the order to ask them: first, the others by id, then
// the unreachable ones.
func (s *Service) inOrder(cfg *settings, first string) []string {
	ids := slices.Sorted(maps.Keys(cfg.nodes))
	rank := func(id string) int {
		n := 1
		if id == first {
			n = 0
		}
		if s.away.is(id) {
			n += 2
		}
		return n
	}
	slices.SortStableFunc(ids, func(a, b string) int { return rank(a) - rank(b) })
	return ids
}

// send sends a REGISTER through the node of u, or through another that knows its
// PBX, because a contact at a dead node would be useless.
func (s *Service) send(ctx context.Context, cfg *settings, u *Registration, k attempt, authorization string) error {
	expires := u.Granted
	if cfg.Expires != 0 {
		expires = cfg.Expires
	}
	if k.ends {
		expires = 0
	}
	r := Request{Node: u.Node, Contact: u.Contact, Key: k.String(), AOR: u.AOR, Server: u.Server, Set: u.Set, URI: u.URI, To: u.To,
		CallID: "upper-" + hash(u.AOR) + "@sipwake", CSeq: k.cseq, Expires: int(expires / time.Second), Authorization: authorization}
	err := fmt.Errorf("no node can register users, not even %q", u.Node)
	for i, id := range s.inOrder(cfg, u.Node) {
		failed := cfg.nodes[id].RegisterUpper(ctx, r)
		refused := errors.Is(failed, ErrRefused)
		s.away.set(id, failed != nil && !refused)
		if failed == nil {
			return nil
		}
		if i == 0 || !refused {
			err = failed
		}
		if ctx.Err() != nil {
			break
		}
	}
	return err
}
