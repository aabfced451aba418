package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/upper"
)

// upperScripts are the scripts for registrations at PBXs. The values are in a hash, the
// times at which they are due in a sorted set. All keys are in one slot, so that one
// script can take what is due.
type upperScripts struct{ put, remove, due *script }

// A stamp is 8 bytes; an empty one overwrites any value.
func newUpperScripts() upperScripts {
	return upperScripts{
		// KEYS values, due; ARGV AOR, stamp, value, due us. Answers whether it was stored.
		put: newScript(`
if ARGV[2] ~= '' then
  local v = redis.call('HGET', KEYS[1], ARGV[1])
  if not v or string.sub(v, 2, 9) ~= ARGV[2] then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
return 1`),
		// KEYS values, due; ARGV AOR.
		remove: newScript(`
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])`),
		// KEYS values, due; ARGV now us, next us, limit. Answers the values.
		due: newScript(`
local list = {}
for _, aor in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, tonumber(ARGV[3]))) do
  local v = redis.call('HGET', KEYS[1], aor)
  if v then
    redis.call('ZADD', KEYS[2], ARGV[2], aor)
    list[#list + 1] = v
  else
    redis.call('ZREM', KEYS[2], aor)
  end
end
return list`),
	}
}

func (s *Store) upperKeys() []string {
	return []string{s.config.Prefix + "u:{upper}", s.config.Prefix + "u:{upper}due"}
}

// PutUpper implements upper.Store.
func (s *Store) PutUpper(ctx context.Context, r upper.Registration) error {
	was := ""
	if r.Stamp != 0 {
		was = string(binary.BigEndian.AppendUint64(nil, r.Stamp))
	}
	value, err := store.AppendUpper(nil, &r, max(r.Stamp+1, uint64(time.Now().UnixMicro())))
	if err == nil {
		var answer any
		if answer, err = s.run(ctx, s.upper.put, s.upperKeys(), r.AOR, was, value, micros(r.Due)); err == nil && answer != int64(1) {
			err = upper.ErrChanged
		}
	}
	if err != nil {
		return fmt.Errorf("cannot store registration of %q: %w", r.AOR, err)
	}
	return nil
}

// Upper implements upper.Store.
func (s *Store) Upper(ctx context.Context, aor string) (u upper.Registration, ok bool, err error) {
	cmd := goredis.NewStringCmd(ctx, "hget", s.upperKeys()[0], aor)
	switch err = s.do(ctx, cmd); {
	case errors.Is(err, goredis.Nil):
		return u, false, nil
	case err != nil:
		err = s.unavailable(ctx, err)
	default:
		u, err = store.DecodeUpper([]byte(cmd.Val()))
	}
	if err != nil {
		return upper.Registration{}, false, fmt.Errorf("cannot read registration of %q: %w", aor, err)
	}
	return u, true, nil
}

// RemoveUpper implements upper.Store.
func (s *Store) RemoveUpper(ctx context.Context, aor string) error {
	if _, err := s.run(ctx, s.upper.remove, s.upperKeys(), aor); err != nil {
		return fmt.Errorf("cannot remove registration of %q: %w", aor, err)
	}
	return nil
}

// DueUppers implements upper.Store.
func (s *Store) DueUppers(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]upper.Registration, error) {
	next := now.Add(max(lease, time.Millisecond))
	answer, err := s.run(ctx, s.upper.due, s.upperKeys(), micros(now), micros(next), limit)
	if err != nil {
		return nil, fmt.Errorf("cannot read due registrations: %w", err)
	}
	values, _ := answer.([]any)
	list := make([]upper.Registration, 0, len(values))
	for _, v := range values {
		text, _ := v.(string)
		u, err := store.DecodeUpper([]byte(text))
		if err != nil { // do not fail the others: they are leased
			s.log.Error("registration cannot be read", "err", err)
			continue
		}
		u.Due = next.UTC().Truncate(time.Microsecond)
		list = append(list, u)
	}
	return list, nil
}

// Uppers implements upper.Store.
func (s *Store) Uppers(ctx context.Context, cursor string, limit int) (list []upper.Registration, next string, err error) {
	at, _ := strconv.ParseUint(cursor, 10, 64) // an invalid cursor starts from the beginning
	cmd := goredis.NewScanCmd(ctx, nil, "hscan", s.upperKeys()[0], at, "count", limit)
	if err := s.do(ctx, cmd); err != nil {
		return nil, "", fmt.Errorf("cannot list registrations: %w", s.unavailable(ctx, err))
	}
	fields, at := cmd.Val()
	for i := 1; i < len(fields); i += 2 {
		u, err := store.DecodeUpper([]byte(fields[i]))
		if err != nil {
			s.log.Error("registration cannot be read", "err", err)
			continue
		}
		list = append(list, u)
	}
	if at != 0 {
		next = strconv.FormatUint(at, 10)
	}
	return list, next, nil
}
