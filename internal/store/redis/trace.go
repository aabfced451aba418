package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/trace"
)

// Traces is a trace.Store in the same Redis. In a cluster its keys are in one slot, so
// that one script keeps them consistent.
type Traces struct {
	*Store
	config     trace.Config
	put        *script
	retentions time.Duration // TTL of a key that is not touched
}

var _ trace.Store = (*Traces)(nil)

// Traces returns the store of traces. It is usable until s is closed.
func (s *Store) Traces(c trace.Config) *Traces {
	c.SetDefaults()
	return &Traces{Store: s, config: c, put: tracesScript(), retentions: 2 * c.Retention}
}

// tracesPerScript is how many parts one script writes. It is limited because a running
// script blocks Redis.
const tracesPerScript = 16

// trimMost is how many calls one script removes, in addition to the number that it adds.
const trimMost = 16

// tracesKey returns a key: "all", "users", "w:" with a call's ID, "x:" with a term.
func (s *Traces) tracesKey(name string) string { return s.Store.config.Prefix + "d:{traces}" + name }

// Put implements trace.Store. Traces use separate connections, so that they do not delay
// other commands.
func (s *Traces) Put(ctx context.Context, parts []trace.Timeline) (kept int, err error) {
	oldest := time.Now().Add(-s.config.Retention)
	for first := true; first || len(parts) > 0; first = false {
		n := min(len(parts), tracesPerScript)
		args := []any{micros(oldest), s.config.Calls, s.retentions.Milliseconds(), 2*n + trimMost, s.tracesKey("")}
		for i := range parts[:n] {
			t := &parts[i]
			if err := store.CheckTrace(t); err != nil {
				return 0, fmt.Errorf("cannot write traces: %w", err)
			}
			if t.StartedAt.Before(oldest) {
				continue
			}
			terms := t.Terms()
			args = append(args, t.ID, micros(t.StartedAt), t.Instance, store.AppendTrace(nil, t, s.config.CallBytes), len(terms))
			for _, term := range terms {
				args = append(args, string(term))
			}
		}
		keys := []string{s.tracesKey("all"), s.tracesKey("users")}
		answer := s.client.EvalSha(ctx, s.put.hash, keys, args...)
		if noScript(answer.Err()) {
			answer = s.client.Eval(ctx, s.put.text, keys, args...)
		}
		if kept, err = answer.Int(); err != nil {
			return 0, fmt.Errorf("cannot write traces: %w", s.unavailable(ctx, err))
		}
		parts = parts[n:]
	}
	return kept, nil
}

// Find implements trace.Store.
func (s *Traces) Find(ctx context.Context, q trace.Query) (found []trace.Timeline, next trace.Cursor, err error) {
	args := goredis.ZRangeArgs{Key: s.tracesKey("all"), ByScore: true, Rev: true, Start: "+inf", Stop: "-inf", Count: min(64, 2*int64(q.Limit))}
	if term := q.Term(); term != "" {
		args.Key = s.tracesKey("x:" + string(term))
	}
	if !q.Since.IsZero() {
		args.Stop = micros(q.Since)
	}
	if !q.Until.IsZero() {
		args.Start = micros(q.Until)
	}
	if !q.Before.IsZero() && (q.Until.IsZero() || q.Before.StartedAt.Before(q.Until)) {
		args.Start = micros(q.Before.StartedAt)
	}
	calls := 0
	for looked := 0; ; {
		list := s.client.ZRangeArgsWithScores(ctx, args)
		if err := list.Err(); err != nil {
			return nil, trace.Cursor{}, fmt.Errorf("cannot read traces: %w", s.unavailable(ctx, err))
		}
		batch := list.Val()
		read, err := s.readCalls(ctx, batch)
		if err != nil {
			return nil, trace.Cursor{}, fmt.Errorf("cannot read traces: %w", err)
		}
		for i, parts := range read {
			if len(parts) > 0 && q.Match(&trace.Merge(parts)[0]) {
				found = append(found, parts...)
				calls++
			}
			last := i == len(batch)-1 && len(batch) < int(args.Count)
			if looked++; calls == q.Limit || looked == trace.MaxLook {
				if last {
					return found, trace.Cursor{}, nil
				}
				return found, placeOf(batch[i]), nil
			}
		}
		if len(batch) < int(args.Count) {
			return found, trace.Cursor{}, nil
		}
		args.Offset += args.Count
	}
}

func placeOf(z goredis.Z) trace.Cursor {
	id, _ := z.Member.(string)
	return trace.Cursor{StartedAt: time.UnixMicro(int64(z.Score)).UTC(), ID: id}
}

// readCalls returns the parts of each call. It skips parts that cannot be read.
func (s *Traces) readCalls(ctx context.Context, list []goredis.Z) ([][]trace.Timeline, error) {
	p := s.client.Pipeline()
	hashes := make([]*goredis.MapStringStringCmd, len(list))
	for i := range list {
		hashes[i] = p.HGetAll(ctx, s.tracesKey("w:"+placeOf(list[i]).ID))
	}
	if len(list) > 0 {
		if _, err := p.Exec(ctx); err != nil {
			return nil, s.unavailable(ctx, err)
		}
	}
	calls := make([][]trace.Timeline, len(list))
	for i, h := range hashes {
		for field, value := range h.Val() {
			if instance, ok := strings.CutPrefix(field, "p"); ok {
				if t, err := store.DecodeTrace(placeOf(list[i]).ID, instance, []byte(value)); err == nil {
					calls[i] = append(calls[i], t)
				}
			}
		}
	}
	return calls, nil
}

// Users implements trace.Store.
func (s *Traces) Users(ctx context.Context, part string, most int) ([]string, error) {
	list := s.client.ZRangeArgs(ctx, goredis.ZRangeArgs{Key: s.tracesKey("users"), ByLex: true,
		Start: "[" + part, Stop: "(" + part + "\xff", Count: int64(most)})
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("cannot read users of traces: %w", s.unavailable(ctx, err))
	}
	var found []string
	seen := make(map[string]bool)
	for _, member := range list.Val() {
		if _, aor, ok := strings.Cut(member, "\x00"); ok && !seen[aor] {
			seen[aor] = true
			found = append(found, aor)
		}
	}
	return found, nil
}

// tracesScript: KEYS all, users; ARGV oldest us, most calls, TTL of keys in ms, maximum
// number to remove, prefix of keys; then for each part the call's ID, started us,
// instance, value, number of terms, terms. Answers how many calls are kept.
//
// A call is a hash: "p" and the instance -> its part, "t" and a term -> nothing. The
// parts of an AOR are as in trace.Parts.
func tracesScript() *script {
	return newScript(`
local oldest, most, live, prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[5]
local function eachPart(aor, f)
  f(aor)
  local at = 0
  for i = #aor, 1, -1 do
    if string.byte(aor, i) == 64 then at = i break end
  end
  for i = 2, math.min(at, ` + strconv.Itoa(trace.MaxParts) + `) do f(string.sub(aor, i)) end
end
local i = 6
while ARGV[i] do
  local id, score, key = ARGV[i], ARGV[i + 1], prefix .. 'w:' .. ARGV[i]
  redis.call('HSET', key, 'p' .. ARGV[i + 2], ARGV[i + 3])
  redis.call('ZADD', KEYS[1], score, id)
  local n = tonumber(ARGV[i + 4])
  for t = i + 5, i + 4 + n do
    local term = ARGV[t]
    local x = prefix .. 'x:' .. term
    if redis.call('HSET', key, 't' .. term, '') == 1 then
      if string.sub(term, 1, 1) == 'u' and redis.call('EXISTS', x) == 0 then
        local aor = string.sub(term, 2)
        eachPart(aor, function(part) redis.call('ZADD', KEYS[2], 0, part .. '\0' .. aor) end)
      end
      redis.call('ZADD', x, score, id)
    end
    redis.call('PEXPIRE', x, live)
  end
  redis.call('PEXPIRE', key, live)
  i = i + 5 + n
end
local kept = redis.call('ZCARD', KEYS[1])
for _ = 1, tonumber(ARGV[4]) do
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) >= oldest and kept <= most then break end
  local id, key = first[1], prefix .. 'w:' .. first[1]
  local fields = redis.call('HGETALL', key)
  for f = 1, #fields, 2 do
    if string.sub(fields[f], 1, 1) == 't' then
      local term = string.sub(fields[f], 2)
      local x = prefix .. 'x:' .. term
      redis.call('ZREM', x, id)
      if string.sub(term, 1, 1) == 'u' and redis.call('EXISTS', x) == 0 then
        local aor = string.sub(term, 2)
        eachPart(aor, function(part) redis.call('ZREM', KEYS[2], part .. '\0' .. aor) end)
      end
    end
  end
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[1], id)
  kept = kept - 1
end
redis.call('PEXPIRE', KEYS[1], live)
redis.call('PEXPIRE', KEYS[2], live)
return kept`)
}
