package redis

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/wake"
)

const (
	// expiringParts is the number of sorted sets. There are several, so that in a cluster
	// each server has some.
	expiringParts = 64
	// expiringKept is how long bindings stay indexed by time after the last use.
	expiringKept = time.Hour
)

// settleScript: KEYS set; ARGV member, the score it must have, its new score or 0 to
// remove it, ...
func settleScript() *script {
	return newScript(`
for i = 1, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    if ARGV[i + 2] == '0' then
      redis.call('ZREM', KEYS[1], ARGV[i])
    else
      redis.call('ZADD', KEYS[1], ARGV[i + 2], ARGV[i])
    end
  end
end`)
}

func expiringMember(aor, device string) string {
	m := binary.BigEndian.AppendUint16(make([]byte, 0, 64), uint16(len(aor)))
	return string(appendDevice(append(m, aor...), device))
}

// cutMember undoes expiringMember, except for the packing.
func cutMember(m string) (aor string, ok bool) {
	if len(m) < 2 {
		return "", false
	}
	n := 2 + int(m[0])<<8 + int(m[1])
	if len(m) < n {
		return "", false
	}
	return m[2:n], true
}

func (s *Store) expiringKey(part int) string {
	return s.config.Prefix + "x:" + strconv.Itoa(part)
}

func expiringPart(aor string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(aor))
	return int(h.Sum32() % expiringParts)
}

// expiring reports whether bindings are indexed by time.
func (s *Store) expiring() bool {
	until := s.expiringUntil.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// expiry returns the entry of a REGISTER in the sorted sets, and the key of its set. The
// key is empty if it has no entry.
func (s *Store) expiry(r *wake.Registration) (key string, z goredis.Z) {
	if r.Action != wake.ActionBind || r.Gone || r.ExpiresAt.IsZero() {
		return "", z
	}
	return s.expiringKey(expiringPart(r.AOR)), goredis.Z{Score: float64(r.ExpiresAt.UnixMicro()), Member: expiringMember(r.AOR, r.Device)}
}

// keepByTime indexes a binding that is already in Redis.
func (s *Store) keepByTime(ctx context.Context, r *wake.Registration) error {
	set, z := s.expiry(r)
	if set == "" {
		return nil
	}
	if err := s.client.ZAdd(ctx, set, z).Err(); err != nil {
		return s.unavailable(ctx, err)
	}
	return nil
}

// Expiring implements wake.Sweeper. The first call scans all bindings, whatever other
// instances have done: some of them may not have indexed theirs by time.
func (s *Store) Expiring(ctx context.Context, by time.Time, f func(wake.Binding) (time.Time, error)) error {
	if err := s.startExpiring(ctx); err != nil {
		return fmt.Errorf("cannot look for bindings that expire: %w", err)
	}
	until := by.UnixMicro()
	p := s.client.Pipeline()
	sets := make([]*goredis.ZSliceCmd, expiringParts)
	for i := range sets {
		sets[i] = p.ZRangeByScoreWithScores(ctx, s.expiringKey(i), someUntil(until))
		p.PExpire(ctx, s.expiringKey(i), 2*expiringKept)
	}
	_, _ = p.Exec(ctx) // every command has its own error
	for i, cmd := range sets {
		for {
			list, err := cmd.Result()
			if err != nil {
				return fmt.Errorf("cannot look for bindings that expire: %w", s.unavailable(ctx, err))
			}
			if err := s.expired(ctx, s.expiringKey(i), list, until, f); err != nil {
				return err
			}
			if len(list) < scanBatch {
				break
			}
			cmd = s.client.ZRangeByScoreWithScores(ctx, s.expiringKey(i), someUntil(until))
		}
	}
	return nil
}

func someUntil(until int64) *goredis.ZRangeBy {
	return &goredis.ZRangeBy{Min: "-inf", Max: strconv.FormatInt(until, 10), Count: scanBatch}
}

// expired calls f with the bindings of the list and sets their next times in the set.
func (s *Store) expired(ctx context.Context, set string, list []goredis.Z, until int64, f func(wake.Binding) (time.Time, error)) error {
	if len(list) == 0 {
		return nil
	}
	keys := make([]string, 0, len(list))
	for _, z := range list {
		if aor, ok := cutMember(z.Member.(string)); ok {
			key, _, _ := s.keys(aor)
			keys = append(keys, key)
		}
	}
	all, _, err := s.read(ctx, keys)
	if err != nil {
		return fmt.Errorf("cannot look for bindings that expire: %w", err)
	}
	bindings := make(map[string]wake.Binding, len(all))
	for _, b := range all {
		bindings[expiringMember(b.AOR, b.Device)] = b
	}
	args := make([]any, 0, 3*len(list))
	for _, z := range list {
		next := int64(0)
		if b, ok := bindings[z.Member.(string)]; ok {
			var t time.Time
			if t, err = f(b); err != nil {
				break
			}
			if !t.IsZero() {
				next = max(t.UnixMicro(), until+1)
			}
		}
		args = append(args, z.Member, int64(z.Score), next)
	}
	if len(args) > 0 {
		if _, settled := s.run(ctx, s.settle, []string{set}, args...); settled != nil && err == nil {
			err = fmt.Errorf("cannot look for bindings that expire: %w", settled)
		}
	}
	return err
}

// startExpiring turns on indexing by time for a while: every new REGISTER is indexed. It
// also indexes the existing bindings.
func (s *Store) startExpiring(ctx context.Context) error {
	s.expiringStart.Lock()
	defer s.expiringStart.Unlock()
	until := time.Now().Add(expiringKept).UnixNano()
	if s.expiring() {
		s.expiringUntil.Store(until)
		return nil
	}
	s.expiringUntil.Store(math.MaxInt64)
	err := s.Scan(ctx, func(list []wake.Binding) error {
		p := s.client.Pipeline()
		for i := range list {
			if key, z := s.expiry(&wake.Registration{Binding: list[i], Action: wake.ActionBind}); key != "" {
				p.ZAddNX(ctx, key, z)
			}
		}
		if p.Len() == 0 {
			return nil
		}
		if _, err := p.Exec(ctx); err != nil {
			return s.unavailable(ctx, err)
		}
		return nil
	})
	if err != nil {
		until = 0
	}
	s.expiringUntil.Store(until)
	return err
}
