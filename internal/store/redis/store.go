// Package redis keeps bindings, wakes and messages in Redis 7 or later (or Valkey), so
// that any number of sipwakes can share them. Redis can be a single server, a server
// behind Sentinel, or a cluster. Every method except Scan is one script and one round trip.
//
// What Redis has acknowledged is as durable as its configuration makes it: see
// appendonly and the replication settings of Redis.
package redis

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/cluster"
	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

// Store implements wake.Store, wake.Sweeper, outbox.Store, upper.Store, cluster.Store and
// wake.History in Redis.
type Store struct {
	config  Config
	client  goredis.UniversalClient
	pipe    pipe
	metrics *metrics
	log     *slog.Logger
	clock   clock

	register, late, start, end *script
	remove, replace            *script
	put, update, due           *script
	upper                      upperScripts
	beat, retake               *script
	settle                     *script

	// expiringUntil is the time until which bindings are indexed by time, in nanoseconds.
	// expiringStart is held while that index is started.
	expiringUntil atomic.Int64
	expiringStart sync.Mutex
}

var (
	_ wake.Store    = (*Store)(nil)
	_ wake.Sweeper  = (*Store)(nil)
	_ outbox.Store  = (*Store)(nil)
	_ upper.Store   = (*Store)(nil)
	_ cluster.Store = (*Store)(nil)
	_ wake.History  = (*Store)(nil)
)

var errUsage = errors.New("AOR and device are needed")

// New returns a store that connects on first use. It reads the files that the
// configuration names, and does no network I/O.
func New(c Config, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	c.SetDefaults()
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	client := goredis.NewUniversalClient(o)
	if c.WaitReplicas > 0 {
		waitForReplicas(client, c.WaitReplicas)
	}
	pipe, err := newPipe(client, c.Queue)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("cannot make Redis pipeline: %w", err)
	}
	s := &Store{
		config: c, client: client, pipe: pipe, log: log,
		register: registerScript(&c), late: lateScript(&c), start: startScript(), end: endScript(),
		remove: removeScript(), replace: replaceScript(),
		put: putScript(), update: updateScript(), due: dueScript(),
		upper: newUpperScripts(),
		beat:  beatScript(), retake: retakeScript(), settle: settleScript(),
	}
	s.metrics = newMetrics(reg, &c, pipe.Len)
	return s, nil
}

// Ping reports whether Redis answers and accepts writes.
func (s *Store) Ping(ctx context.Context) error {
	// Try a write: a replica or a full server answers a PING but accepts no binding.
	cmd := goredis.NewStatusCmd(ctx, "set", s.config.Prefix+"ping", "1", "px", 60_000)
	if err := s.do(ctx, cmd); err != nil {
		return fmt.Errorf("cannot reach Redis: %w", s.unavailable(ctx, err))
	}
	return nil
}

// Close closes the connections. RPCs in progress get their answers first.
func (s *Store) Close() error {
	err := errors.Join(s.pipe.Close(), s.client.Close())
	if err != nil && !errors.Is(err, goredis.ErrClosed) {
		return errors.New("cannot close connections to Redis")
	}
	return nil
}

// keys returns the AOR's keys. The AOR is their hash tag, in braces, because all keys of
// an AOR must be in one slot.
func (s *Store) keys(aor string) (bindings, memory, notes string) {
	tag := hashTag(aor)
	p := s.config.Prefix
	all := p + "b:{" + tag + "}" + p + "t:{" + tag + "}" + p + "n:{" + tag + "}"
	n := len(all) / 3
	return all[:n], all[n : 2*n], all[2*n:]
}

func (s *Store) appendKey(dst []byte, kind, tag string) []byte {
	return append(append(append(append(dst, s.config.Prefix...), kind...), tag...), '}')
}

// hashTag returns the AOR as it is in keys. A closing brace in the AOR would end the tag
// early, and one at its start would make the tag empty.
func hashTag(aor string) string {
	if strings.IndexByte(aor, '}') >= 0 || strings.IndexByte(aor, '%') >= 0 {
		return strings.NewReplacer("}", "%7D", "%", "%25").Replace(aor)
	}
	return aor
}

// tokenKey returns the key of the token index: 128 bits of the token's hash.
func (s *Store) tokenKey(t secret.Token) string { return string(s.appendTokenKey(nil, t)) }

func (s *Store) appendTokenKey(dst []byte, t secret.Token) []byte {
	var room [256]byte
	sum := sha256.Sum256(append(room[:0], t.Reveal()...))
	dst = append(append(dst, s.config.Prefix...), "k:"...)
	return base64.RawURLEncoding.AppendEncode(dst, sum[:16])
}

// Register implements wake.Store.
func (s *Store) Register(ctx context.Context, r wake.Registration) (wake.Registered, error) {
	if r.AOR == "" || r.Device == "" && r.Action != wake.ActionSeen {
		return wake.Registered{}, fmt.Errorf("cannot register %q: %w", r.AOR, errUsage)
	}
	if r.RegisteredAt.IsZero() {
		r.RegisteredAt = time.Now()
	}
	if r.CreatedAt.IsZero() {
		r.CreatedAt = r.RegisteredAt
	}
	kept := s.expiring()
	c := s.call(s.register)
	if r.Late {
		c.script = s.late
	}
	err := s.addRegisterAll(c, &r, kept)
	if err != nil {
		return wake.Registered{}, fmt.Errorf("cannot register %q: %w", r.AOR, err)
	}
	var answer any
	if s.config.isCluster() {
		answer, err = s.registerCluster(ctx, c, &r)
	} else {
		answer, err = c.run(ctx)
	}
	if err == nil && !kept && s.expiring() { // it began meanwhile
		err = s.keepByTime(ctx, &r)
	}
	if err == nil {
		var res wake.Registered
		if res, err = s.registered(ctx, &r, answer); err == nil {
			return res, nil
		}
	}
	return wake.Registered{}, fmt.Errorf("cannot register %q: %w", r.AOR, err)
}

// addRegisterAll adds the keys and arguments of a REGISTER. kept says whether it is
// indexed by time. In a cluster that takes a command of its own.
func (s *Store) addRegisterAll(c *call, r *wake.Registration, kept bool) error {
	tag := hashTag(r.AOR)
	for _, kind := range []string{"b:{", "t:{", "n:{"} {
		c.add(s.appendKey(c.buf, kind, tag))
	}
	set, z := "", goredis.Z{}
	if kept && !s.config.isCluster() {
		if set, z = s.expiry(r); set != "" {
			c.str(set)
		}
	}
	if r.Action == wake.ActionBind && !r.Gone {
		for _, token := range r.Address.Tokens {
			c.add(s.appendTokenKey(c.buf, token.Value))
		}
	}
	c.keysEnd()
	if err := s.addRegister(c, r); err != nil {
		return err
	}
	if set != "" {
		c.str(z.Member.(string))
		c.int(int64(z.Score))
	}
	return nil
}

// registerCluster sends the script and the entries of the token index in parallel, to
// different servers. It does not use the shared pipeline, which may send them one after
// the other. It returns what the script would return if it had all keys.
func (s *Store) registerCluster(ctx context.Context, c *call, r *wake.Registration) (any, error) {
	texts, n := c.strings(), c.keys
	keys := make([]string, n)
	for i := range keys {
		keys[i] = texts[i].(string)
	}
	tokens, args, aor, late := keys[3:], texts[n:], r.AOR, c.script == s.late
	p := s.client.Pipeline()
	script := p.EvalSha(ctx, c.script.hash, keys[:3], args...)
	index := make([]*goredis.Cmd, len(tokens))
	for i, key := range tokens {
		set := []any{"set", key, aor, "px", s.config.Retention.Milliseconds(), "get"}
		if late {
			set = append(set, "nx")
		}
		index[i] = p.Do(ctx, set...)
	}
	if set, z := s.expiry(r); set != "" && s.expiring() {
		p.ZAdd(ctx, set, z)
	}
	_, _ = p.Exec(ctx) // every command has its own error
	if noScript(script.Err()) {
		script = s.client.Eval(ctx, c.script.text, keys[:3], args...)
	}
	if err := script.Err(); err != nil {
		return nil, s.unavailable(ctx, err)
	}
	a, ok := registerAnswer(script.Val())
	if !ok {
		return nil, errAnswer
	}
	previous := make([]any, len(index))
	for i, cmd := range index {
		// A binding works without its index entry; the next REGISTER writes it.
		was, _ := cmd.Text()
		previous[i] = was
		if was == "" || was == aor || late && slices.Contains(store.ReadAORs([]byte(was)), aor) {
			continue
		}
		p.Eval(ctx, mergeScript, tokens[i:i+1], aor, s.config.Retention.Milliseconds(), store.MaxAORs, was, flag(late))
	}
	if p.Len() > 0 {
		_, _ = p.Exec(ctx) // the same applies to these
	}
	a[4] = previous
	return a, nil
}

// registerAnswer normalizes the answer of a register script.
func registerAnswer(answer any) ([]any, bool) {
	if n, ok := answer.(int64); ok {
		return []any{string(wake.StatusRefreshed), n, []any{}, []any{}, []any{}}, true
	}
	a, ok := answer.([]any)
	return a, ok && len(a) == 5
}

func (s *Store) registered(ctx context.Context, r *wake.Registration, answer any) (wake.Registered, error) {
	if n, ok := answer.(int64); ok {
		return wake.Registered{Status: wake.StatusRefreshed, Devices: int(n)}, nil
	}
	a, ok := registerAnswer(answer)
	if !ok {
		return wake.Registered{}, errAnswer
	}
	status, ok1 := a[0].(string)
	devices, ok2 := a[1].(int64)
	wakes, ok3 := a[2].([]any)
	went, ok4 := a[3].([]any)
	previous, ok5 := a[4].([]any)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return wake.Registered{}, errAnswer
	}
	res := wake.Registered{Status: wake.Status(status), Devices: int(devices)}
	for _, p := range previous {
		entry, _ := p.(string)
		for _, aor := range store.ReadAORs([]byte(entry)) {
			if aor != r.AOR && !slices.Contains(res.PreviousAORs, aor) && res.Status != wake.StatusStale {
				res.PreviousAORs = append(res.PreviousAORs, aor)
			}
		}
	}
	for _, v := range wakes {
		value, _ := v.(string)
		w, err := s.decodeWake(r.AOR, []byte(value))
		if err != nil {
			return wake.Registered{}, err
		}
		if r.Late && !w.Deadline.After(time.Now()) {
			continue
		}
		res.Wakes = append(res.Wakes, w)
	}
	slices.SortFunc(res.Wakes, func(a, b wake.Wake) int { return a.StartedAt.Compare(b.StartedAt) })
	gone, err := bindings(r.AOR, went)
	if err != nil {
		return wake.Registered{}, err
	}
	var keep []pnparam.Token
	if r.Action == wake.ActionBind {
		keep = r.Address.Tokens
	}
	s.forgetTokens(ctx, gone, keep)
	return res, nil
}

// Start implements wake.Store.
func (s *Store) Start(ctx context.Context, w wake.Wake) (wake.Started, error) {
	if w.AOR == "" {
		return wake.Started{}, fmt.Errorf("cannot start wake %q: %w", w.ID, errUsage)
	}
	if w.StartedAt.IsZero() {
		w.StartedAt = time.Now()
	}
	c := s.call(s.start)
	var err error
	if c.value, err = s.appendWake(c.value[:0], w); err != nil {
		return wake.Started{}, fmt.Errorf("cannot start wake for %q: %w", w.AOR, err)
	}
	tag := hashTag(w.AOR)
	c.add(s.appendKey(c.buf, "b:{", tag))
	c.add(s.appendKey(c.buf, "t:{", tag))
	c.keysEnd()
	c.add(appendWakeField(c.buf, w.Node, w.Call))
	c.bytes(c.value)
	c.int(store.Keep(&w).Microseconds())
	c.str(w.CallID)
	c.str(w.ID)
	c.int(s.config.Recent.Microseconds())
	c.int(s.config.Retention.Milliseconds())
	c.int(store.MaxWakes)
	c.add(store.AppendForked(c.buf))
	c.add(store.AppendInstance(c.buf, w.Instance))
	c.add(store.AppendOwner(c.buf, w.Owner))
	s.own(ctx, &w) // first list it: every stored wake must be adoptable from its owner
	answer, err := c.run(ctx)
	if err == nil {
		var res wake.Started
		if res, err = started(w.AOR, answer); err == nil {
			res.Forked = res.Forked || w.Forked
			return res, nil
		}
	}
	return wake.Started{}, fmt.Errorf("cannot start wake for %q: %w", w.AOR, err)
}

// End implements wake.Store.
func (s *Store) End(ctx context.Context, aor, node, call string) (wake.Ended, error) {
	c := s.call(s.end)
	c.add(s.appendKey(c.buf, "t:{", hashTag(aor)))
	c.keysEnd()
	c.add(appendWakeField(c.buf, node, call))
	c.int(store.Tombstone.Microseconds())
	c.int(store.MaxTombs)
	answer, err := c.run(ctx)
	if err != nil {
		return wake.Ended{}, fmt.Errorf("cannot end wake for %q: %w", aor, err)
	}
	value, ok := answer.(string)
	if !ok {
		return wake.Ended{}, nil
	}
	w, err := s.decodeWake(aor, []byte(value))
	if err != nil {
		return wake.Ended{}, fmt.Errorf("cannot end wake for %q: %w", aor, err)
	}
	s.disown(ctx, &w)
	return wake.Ended{Known: true, Wake: w}, nil
}
