package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/wake"
)

// scanBatch is how many keys one step of Scan reads.
const scanBatch = 500

var errClaim = errors.New("a key and a time are needed")

// Claim implements wake.Sweeper. A claim is as durable as everything that Redis
// acknowledges.
func (s *Store) Claim(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	if key == "" || ttl <= 0 {
		return false, fmt.Errorf("cannot claim %q: %w", key, errClaim)
	}
	ms := max((ttl+time.Millisecond-1)/time.Millisecond, 1)
	cmd := goredis.NewStatusCmd(ctx, "set", s.config.Prefix+"c:"+key, "1", "nx", "px", int64(ms))
	err := s.do(ctx, cmd)
	if errors.Is(err, goredis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot claim %q: %w", key, s.unavailable(ctx, err))
	}
	return true, nil
}

// Release implements wake.Sweeper.
func (s *Store) Release(ctx context.Context, key string) error {
	if err := s.do(ctx, goredis.NewIntCmd(ctx, "del", s.config.Prefix+"c:"+key)); err != nil {
		return fmt.Errorf("cannot release claim of %q: %w", key, s.unavailable(ctx, err))
	}
	return nil
}

// Scan implements wake.Sweeper. It scans the masters one after the other, on separate
// connections, so that no RPC waits behind it. It may miss keys that move between
// masters while a cluster is resharded. It skips AORs whose bindings cannot be read.
func (s *Store) Scan(ctx context.Context, f func([]wake.Binding) error) error {
	masters, err := s.masters(ctx)
	if err != nil {
		return fmt.Errorf("cannot scan bindings: %w", s.unavailable(ctx, err))
	}
	unreadable := 0
	for _, m := range masters {
		for cursor := uint64(0); ; {
			var keys []string
			keys, cursor, err = m.Scan(ctx, cursor, globEscape(s.config.Prefix)+"b:{*}", scanBatch).Result()
			if err != nil {
				return fmt.Errorf("cannot scan bindings: %w", s.unavailable(ctx, err))
			}
			list, bad, err := s.read(ctx, keys)
			if err != nil {
				return fmt.Errorf("cannot scan bindings: %w", err)
			}
			unreadable += bad
			if len(list) > 0 {
				if err := f(list); err != nil {
					return err
				}
			}
			if cursor == 0 {
				break
			}
		}
	}
	if unreadable > 0 {
		s.log.Error("bindings cannot be read", "count", unreadable)
	}
	return nil
}

// masters returns the clients of the servers that hold the keys.
func (s *Store) masters(ctx context.Context) ([]goredis.Cmdable, error) {
	cluster, ok := s.client.(*goredis.ClusterClient)
	if !ok {
		return []goredis.Cmdable{s.client}, nil
	}
	var mu sync.Mutex
	var list []goredis.Cmdable
	err := cluster.ForEachMaster(ctx, func(_ context.Context, m *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, m)
		return nil
	})
	return list, err
}

// read returns the bindings stored at the keys, and how many AORs it could not read.
func (s *Store) read(ctx context.Context, keys []string) (list []wake.Binding, unreadable int, err error) {
	if len(keys) == 0 {
		return nil, 0, nil
	}
	p := s.client.Pipeline()
	values := make([]*goredis.StringCmd, len(keys))
	for i, key := range keys {
		values[i] = p.Get(ctx, key)
	}
	_, _ = p.Exec(ctx) // every command has its own error
	oldest := time.Now().Add(-s.config.Retention)
	for i, cmd := range values {
		switch err := cmd.Err(); {
		case errors.Is(err, goredis.Nil): // it was removed meanwhile
			continue
		case goredis.HasErrorPrefix(err, "WRONGTYPE"):
			unreadable++
			continue
		case err != nil:
			return nil, 0, s.unavailable(ctx, err)
		}
		entries, err := split(s.aorOf(keys[i]), cmd.Val())
		if err != nil {
			unreadable++
			continue
		}
		for _, e := range entries {
			if e.RegisteredAt.After(oldest) {
				list = append(list, e.Binding)
			}
		}
	}
	return list, unreadable, nil
}

// aorOf undoes keys.
func (s *Store) aorOf(key string) string {
	aor := strings.TrimSuffix(strings.TrimPrefix(key, s.config.Prefix+"b:{"), "}")
	return strings.NewReplacer("%7D", "}", "%25", "%").Replace(aor)
}

func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}
