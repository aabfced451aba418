package redis_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, c redis.Config) *redis.Store {
	t.Helper()
	s, err := redis.New(c, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// contract runs the suite; each of its stores has a prefix of its own.
func contract(t *testing.T, c redis.Config) {
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Store {
		c := c
		c.Prefix = fmt.Sprintf("test%d:", n.Add(1))
		c.Recent, c.Retention, c.Outbox = o.Recent, o.Retention, o.Outbox
		// Under the race detector scripts queue up behind each other.
		c.Timeout = 20 * time.Second
		return open(t, c)
	})
}

func TestContract(t *testing.T) {
	contract(t, redis.Config{Addresses: []string{storetest.StartRedis(t)}})
}

// An instance that begins to wake phones for refreshes finds those that have registered
// through one that did not keep them by time.
func TestExpiringOfOthers(t *testing.T) {
	addr := storetest.StartRedis(t)
	was, is := open(t, redis.Config{Addresses: []string{addr}}), open(t, redis.Config{Addresses: []string{addr}})
	seen := make(map[string]int)
	look := func(s *redis.Store, by time.Time) {
		t.Helper()
		err := s.Expiring(context.Background(), by, func(b wake.Binding) (time.Time, error) { seen[b.AOR]++; return time.Time{}, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	look(is, time.Now())
	register(t, was, storetest.Registration("alice@example.com", 1))
	register(t, is, storetest.Registration("bob@example.com", 2))
	if keys := client(t, addr).Keys(context.Background(), "sw:x:*").Val(); len(keys) != 1 {
		t.Errorf("kept by time: %q", keys)
	}
	look(was, time.Now())
	for range 2 {
		look(is, time.Now().Add(2*time.Hour))
		look(was, time.Now().Add(2*time.Hour))
	}
	if seen["alice@example.com"] != 1 || seen["bob@example.com"] != 1 {
		t.Errorf("expire: %v", seen)
	}
}

func client(t testing.TB, addr string) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func register(t testing.TB, s wake.Store, r wake.Registration) wake.Registered {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got, err := s.Register(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSentinel(t *testing.T) {
	master := storetest.NewRedis(t, "--requirepass", "hunter2")
	host, port, _ := strings.Cut(master.Addr, ":")
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor phones %s %s 1\nsentinel auth-pass phones hunter2\n", host, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := storetest.NewRedis(t, conf, "--sentinel")
	s := open(t, redis.Config{Addresses: []string{sentinel.Addr}, MasterName: "phones", Password: secret.NewText("hunter2")})
	r := storetest.Registration("alice@example.com", 1)
	if got := register(t, s, r); got.Status != wake.StatusStored {
		t.Errorf("through sentinel: %s", got.Status)
	}
	if err := s.Ping(context.Background()); err != nil {
		t.Error(err)
	}
}

// Redis goes away and comes back: errors are quick and say what they are, and
// nothing needs repair.
func TestRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes many seconds")
	}
	server := storetest.NewRedis(t)
	s := open(t, redis.Config{Addresses: []string{server.Addr}})
	r := storetest.Registration("alice@example.com", 1)
	register(t, s, r)

	fails := func(name string) {
		t.Helper()
		calls := map[string]func(ctx context.Context) error{
			"Register": func(ctx context.Context) error { _, err := s.Register(ctx, r); return err },
			"Start":    func(ctx context.Context) error { _, err := s.Start(ctx, wake.Wake{AOR: "a"}); return err },
			"End":      func(ctx context.Context) error { _, err := s.End(ctx, "a", "n", "c"); return err },
			"Remove":   func(ctx context.Context) error { _, err := s.Remove(ctx, wake.Removal{AOR: "a"}); return err },
			"Bindings": func(ctx context.Context) error { _, err := s.Bindings(ctx, wake.Query{AOR: "a"}); return err },
			"Ping":     s.Ping,
			"Claim":    func(ctx context.Context) error { _, err := s.Claim(ctx, "k", time.Hour); return err },
			"Release":  func(ctx context.Context) error { return s.Release(ctx, "k") },
			"Scan": func(ctx context.Context) error {
				return s.Scan(ctx, func([]wake.Binding) error { return nil })
			},
			"Expiring": func(ctx context.Context) error {
				return s.Expiring(ctx, time.Now(), func(wake.Binding) (time.Time, error) { return time.Time{}, nil })
			},
			"Put":     func(ctx context.Context) error { return s.Put(ctx, storetest.Message(1)) },
			"Update":  func(ctx context.Context) error { return s.Update(ctx, storetest.Message(1)) },
			"Message": func(ctx context.Context) error { _, _, err := s.Message(ctx, "m"); return err },
			"Due": func(ctx context.Context) error {
				_, err := s.Due(ctx, time.Now(), time.Minute, 9)
				return err
			},
		}
		for method, call := range calls {
			ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
			err := call(ctx)
			late := ctx.Err() != nil && time.Since(deadline(ctx)) > 2*time.Second
			cancel()
			if !errors.Is(err, wake.ErrUnavailable) {
				t.Errorf("%s, %s: %v, want ErrUnavailable", name, method, err)
			}
			if late {
				t.Errorf("%s, %s: came long after its deadline", name, method)
			}
		}
	}
	works := func(name string, want wake.Status) {
		t.Helper()
		end := time.Now().Add(20 * time.Second)
		for {
			ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
			got, err := s.Register(ctx, r)
			cancel()
			if err == nil {
				if got.Status != want {
					t.Errorf("%s: %s, want %s", name, got.Status, want)
				}
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: still %v", name, err)
			}
		}
	}
	server.Pause()
	fails("silent")
	server.Resume()
	works("resumed", wake.StatusRefreshed)
	server.Stop()
	fails("stopped")
	server.Start()
	works("restarted, empty and without scripts", wake.StatusStored)
}

func deadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

// No error holds a password or a token, whatever Redis answers.
func TestErrorsHoldNoSecret(t *testing.T) {
	const password = "hunter2-correct-horse"
	server := storetest.NewRedis(t, "--requirepass", "another", "--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
	r := storetest.Registration("alice@example.com", 1)
	check := func(name string, err error, word string) {
		t.Helper()
		if !errors.Is(err, wake.ErrUnavailable) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v, want ErrUnavailable with %q", name, err, word)
		}
		if s := fmt.Sprint(err); strings.Contains(s, password) || strings.Contains(s, r.Address.Tokens[0].Value.Reveal()) {
			t.Errorf("%s: the error holds a secret: %s", name, s)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	wrong := open(t, redis.Config{Addresses: []string{server.Addr}, Password: secret.NewText(password)})
	_, err := wrong.Register(ctx, r)
	check("wrong password", err, "WRONGPASS")
	check("wrong password", wrong.Ping(ctx), "WRONGPASS")
	none := open(t, redis.Config{Addresses: []string{server.Addr}})
	_, err = none.Register(ctx, r)
	check("no password", err, "NOAUTH")
	full := open(t, redis.Config{Addresses: []string{server.Addr}, Password: secret.NewText("another")})
	_, err = full.Register(ctx, r)
	check("full", err, "OOM")
	check("full", full.Ping(ctx), "OOM")
	nobody := open(t, redis.Config{Addresses: []string{"127.0.0.1:1"}, Password: secret.NewText(password)})
	_, err = nobody.Register(ctx, r)
	check("nobody there", err, "refused")
}

// What Redis knows an end for: nothing stays longer than it is of use.
func TestExpiry(t *testing.T) {
	addr := storetest.StartRedis(t)
	s := open(t, redis.Config{Addresses: []string{addr}, Prefix: "p:", Retention: 100 * time.Hour, Recent: 7 * time.Second})
	c := client(t, addr)
	ctx := context.Background()
	r := storetest.Registration("alice@example.com", 1)
	ttl := func(pattern string, most time.Duration) {
		t.Helper()
		keys := c.Keys(ctx, pattern).Val()
		if len(keys) != 1 {
			t.Fatalf("%s: keys %q", pattern, keys)
		}
		if d := c.PTTL(ctx, keys[0]).Val(); d <= most-10*time.Second || d > most {
			t.Errorf("%s lives %s, want %s", pattern, d, most)
		}
	}
	register(t, s, r)
	if keys := c.Keys(ctx, "p:t:*").Val(); len(keys) != 0 {
		t.Errorf("a plain REGISTER left %q", keys)
	}
	ttl("p:b:{alice@example.com}", 100*time.Hour)
	ttl("p:k:*", 100*time.Hour)
	for _, key := range c.Keys(ctx, "*").Val() {
		c.Expire(ctx, key, time.Minute)
	}
	gone := r
	gone.Gone = true
	register(t, s, gone)
	ttl("p:b:*", time.Minute)
	register(t, s, r)
	ttl("p:b:*", 100*time.Hour)
	ttl("p:k:*", 100*time.Hour)
	sign := r
	sign.Action, sign.Device = wake.ActionSeen, "another"
	register(t, s, sign)
	ttl("p:t:*", 7*time.Second)
	w := wake.Wake{AOR: r.AOR, Node: "n", Call: "c", StartedAt: time.Now(), Deadline: time.Now().Add(40 * time.Second)}
	if _, err := s.Start(ctx, w); err != nil {
		t.Fatal(err)
	}
	kept := 40*time.Second + wake.MaxRing + store.WakeMargin
	ttl("p:t:*", kept)
	register(t, s, sign)
	ttl("p:t:*", kept)
	c.Del(ctx, "p:t:{alice@example.com}")
	if _, err := s.End(ctx, r.AOR, "n", "c"); err != nil {
		t.Fatal(err)
	}
	ttl("p:t:*", time.Minute)
	r.Action = wake.ActionUnbind
	register(t, s, r)
	ttl("p:n:{alice@example.com}", store.NoteKeep)
	for name, value := range map[string]string{"token": r.Address.Tokens[0].Value.Reveal(),
		"raw token": string(store.AppendTokenKey(nil, r.Address.Tokens[0].Value)[1:])} {
		if strings.Contains(c.Get(ctx, "p:n:{alice@example.com}").Val(), value) {
			t.Errorf("the %s is in a note", name)
		}
	}
	end := time.Now().Add(20 * time.Second)
	for len(c.Keys(ctx, "p:k:*").Val())+len(c.Keys(ctx, "p:b:*").Val()) > 0 {
		if time.Now().After(end) {
			t.Fatalf("left after unbind: %q", c.Keys(ctx, "*").Val())
		}
	}
}

// A user whom strangers flooded before this version bounded it, or by two
// instances at once, is as others at the next end.
func TestTombstonesOfEarlierVersions(t *testing.T) {
	addr := storetest.StartRedis(t)
	s, c, ctx := open(t, redis.Config{Addresses: []string{addr}}), client(t, addr), context.Background()
	const key = "sw:t:{alice@example.com}"
	for n := range 1000 {
		until := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(time.Minute).UnixMicro()+int64(n)))
		if err := c.HSet(ctx, key, fmt.Sprintf("en\x00%d", n), until).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.End(ctx, "alice@example.com", "n", "last"); err != nil {
		t.Fatal(err)
	}
	fields := c.HKeys(ctx, key).Val()
	if len(fields) != store.MaxTombs || !slices.Contains(fields, "en\x00last") || !slices.Contains(fields, "en\x00999") {
		t.Errorf("%d fields: %q", len(fields), fields)
	}
}

// The budget is 600 bytes a binding, with its keys and its token, as MEMORY USAGE
// counts; used_memory also has Redis' tables of keys and of their ends.
func TestMemory(t *testing.T) {
	addr := storetest.StartRedis(t)
	c := client(t, addr)
	ctx := context.Background()
	s := open(t, redis.Config{Addresses: []string{addr}})
	used := func() int {
		var n int
		for line := range strings.Lines(c.Info(ctx, "memory").Val()) {
			if _, err := fmt.Sscanf(line, "used_memory:%d", &n); err == nil {
				return n
			}
		}
		t.Fatal("no used_memory")
		return 0
	}
	register(t, s, storetest.Registration("warm@example.com", 1_000_000))
	before := used()
	const users = 4000
	for n := range users {
		register(t, s, storetest.Registration(fmt.Sprintf("user%06d@sip.example.com", n), n))
	}
	each := (used() - before) / users
	keys := 0
	for _, k := range c.Keys(ctx, "*user000007@*").Val() {
		keys += int(c.MemoryUsage(ctx, k).Val())
	}
	for _, k := range c.Keys(ctx, "sw:k:*").Val()[:1] {
		keys += int(c.MemoryUsage(ctx, k).Val())
	}
	value := c.StrLen(ctx, "sw:b:{user000007@sip.example.com}").Val()
	t.Logf("a binding: %d bytes by used_memory, %d by MEMORY USAGE, of it %d its value", each, keys, value)
	if keys > 600 {
		t.Errorf("a binding takes %d bytes, the budget is 600", keys)
	}
}

func TestConfig(t *testing.T) {
	var c redis.Config
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("default: %s %s", field, problem) })
	bad := redis.Config{
		Addresses: []string{"one", "a:1"}, DB: -1, Prefix: "{x}", SentinelPasswordFile: "f",
		TLS: redis.TLSConfig{CertFile: "x"}, Cluster: true, MasterName: "m",
	}
	got := make(map[string]bool)
	bad.Validate(func(field, problem string) { got[field] = true })
	for _, field := range []string{"addresses[0]", "db", "prefix", "master_name", "tls.cert_file", "tls.enabled",
		"dial_timeout", "timeout", "retention", "pool_size", "queue", "outbox"} {
		if !got[field] {
			t.Errorf("nothing is said about %s", field)
		}
	}
	for field, c := range map[string]redis.Config{
		"password_file": {PasswordFile: "/nonexistent"}, "sentinel_password_file": {MasterName: "m", SentinelPasswordFile: "/nonexistent"},
		"tls.ca_file": {TLS: redis.TLSConfig{Enabled: true, CAFile: "/nonexistent"}}, "tls.ca_file: " + os.Args[0]: {TLS: redis.TLSConfig{Enabled: true, CAFile: os.Args[0]}},
		"tls.cert_file": {TLS: redis.TLSConfig{Enabled: true, CertFile: "/nonexistent", KeyFile: "/nonexistent"}},
	} {
		if s, err := redis.New(c, slog.New(slog.DiscardHandler), nil); err == nil {
			_ = s.Close()
			t.Errorf("%s: no error", field)
		} else if !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
