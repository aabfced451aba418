package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// Bindings implements wake.Store. A lookup by token takes two round trips: one for
// the AORs that have the token, and one for their bindings.
func (s *Store) Bindings(ctx context.Context, q wake.Query) ([]wake.Binding, error) {
	if (q.AOR == "") == q.Token.Empty() {
		return nil, errors.New("cannot list bindings: exactly one of AOR and token must be given")
	}
	aors := []string{q.AOR}
	if q.AOR == "" {
		entry, err := s.get(ctx, s.tokenKey(q.Token))
		if err != nil {
			return nil, fmt.Errorf("cannot list bindings: %w", err)
		}
		aors = slices.Sorted(slices.Values(store.ReadAORs([]byte(entry))))
	}
	values := make([]future, len(aors))
	for i, aor := range aors {
		key, _, _ := s.keys(aor)
		values[i] = s.ask(ctx, key)
	}
	oldest := time.Now().Add(-s.config.Retention)
	var res []wake.Binding
	for i, aor := range aors {
		value, err := values[i].wait(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot list bindings: %w", err)
		}
		list, err := split(aor, value)
		if err != nil {
			return nil, fmt.Errorf("cannot list bindings of %q: %w", aor, err)
		}
		slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.Device, b.Device) })
		for _, e := range list {
			has := func(t pnparam.Token) bool { return t.Value == q.Token }
			if e.RegisteredAt.After(oldest) && (q.Token.Empty() || slices.ContainsFunc(e.Address.Tokens, has)) {
				res = append(res, e.Binding)
			}
		}
	}
	return res, nil
}

// future is a string that was requested from Redis.
type future struct {
	s   *Store
	cmd *goredis.StringCmd
	one *pending
	err error // the request was not sent
}

func (s *Store) ask(ctx context.Context, key string) future {
	if err := ctx.Err(); err != nil {
		return future{s: s, err: err}
	}
	cmd := goredis.NewStringCmd(ctx, "get", key)
	return future{s: s, cmd: cmd, one: s.submit(ctx, cmd)}
}

// wait returns the string ("" if there is none), or an error when ctx, which must be that
// of ask, ends.
func (f *future) wait(ctx context.Context) (string, error) {
	err := f.err
	if err == nil {
		err = f.one.wait()
	}
	if errors.Is(err, goredis.Nil) {
		return "", nil
	}
	if err != nil {
		return "", f.s.unavailable(ctx, err)
	}
	return f.cmd.Val(), nil
}

func (s *Store) get(ctx context.Context, key string) (string, error) {
	f := s.ask(ctx, key)
	return f.wait(ctx)
}
