package redis_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

var writeGolden = flag.String("write-golden", "", "write what this version stores to this file of testdata, for later ones to read")

func goldenRegistrations() (bound, web wake.Registration) {
	bound = storetest.Registration("golden@example.com", 1)
	web = storetest.Registration("golden@example.com", 2)
	web.Address.Environment, web.UserAgent = "sandbox", ""
	web.Device = "no urn"
	for _, r := range []*wake.Registration{&bound, &web} {
		r.RegisteredAt = time.Date(2035, 1, 2, 3, 4, 5, 678901000, time.UTC) // never past the retention
		r.CreatedAt, r.ExpiresAt = r.RegisteredAt, r.RegisteredAt.Add(time.Hour)
	}
	return bound, web
}

func goldenWake() wake.Wake {
	at := time.Date(2035, 1, 2, 3, 4, 5, 0, time.UTC)
	return wake.Wake{ID: "id-1", AOR: "golden@example.com", Node: "edge-1", Call: "call-1", CallID: "callid-1", Kind: "call",
		StartedAt: at, Deadline: at.Add(30 * time.Second)}
}

func goldenMessage() outbox.Message {
	m := storetest.Message(1)
	m.CreatedAt = time.Date(2035, 1, 2, 3, 4, 5, 0, time.UTC)
	m.NextTry, m.Deadline = m.CreatedAt, m.CreatedAt.Add(time.Hour)
	return m
}

// dump writes every key and value as text.
func dump(t *testing.T, c *goredis.Client, file string) {
	t.Helper()
	ctx := context.Background()
	var lines []string
	b64 := base64.StdEncoding.EncodeToString
	for _, key := range c.Keys(ctx, "*").Val() {
		if strings.HasSuffix(key, "ping") {
			continue
		}
		switch kind := c.Type(ctx, key).Val(); kind {
		case "string":
			lines = append(lines, fmt.Sprintf("set %s %s\n", b64([]byte(key)), b64([]byte(c.Get(ctx, key).Val()))))
		case "hash":
			for f, v := range c.HGetAll(ctx, key).Val() {
				lines = append(lines, fmt.Sprintf("hset %s %s %s\n", b64([]byte(key)), b64([]byte(f)), b64([]byte(v))))
			}
		case "zset":
			for _, z := range c.ZRangeWithScores(ctx, key, 0, -1).Val() {
				lines = append(lines, fmt.Sprintf("zadd %s %s %s\n", b64([]byte(key)), b64(fmt.Appendf(nil, "%.0f", z.Score)), b64([]byte(z.Member.(string)))))
			}
		default:
			t.Fatalf("%s is a %s", key, kind)
		}
	}
	slices.Sort(lines)
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
}

func restore(t *testing.T, c *goredis.Client, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		args := []any{words[0]}
		for _, w := range words[1:] {
			b, err := base64.StdEncoding.DecodeString(w)
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, b)
		}
		if err := c.Do(context.Background(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// What earlier versions of sipwake have stored in Redis is there after an upgrade:
// bindings, open wakes, tombstones, messages, the index of tokens. The files were
// written by -write-golden of their version, and are never changed.
func TestReadsEarlierVersions(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if *writeGolden != "" {
		server := storetest.NewRedis(t)
		s := open(t, redis.Config{Addresses: []string{server.Addr}})
		bound, web := goldenRegistrations()
		register(t, s, bound)
		register(t, s, web)
		if _, err := s.Start(ctx, goldenWake()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.End(ctx, bound.AOR, "edge-1", "ended"); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(ctx, goldenMessage()); err != nil {
			t.Fatal(err)
		}
		dump(t, client(t, server.Addr), "testdata/"+*writeGolden)
	}
	files, err := os.ReadDir("testdata")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(file.Name(), func(t *testing.T) { testReadsEarlier(ctx, t, "testdata/"+file.Name()) })
	}
}

func testReadsEarlier(ctx context.Context, t *testing.T, file string) {
	server := storetest.NewRedis(t)
	c := client(t, server.Addr)
	restore(t, c, file)
	// What a hash remembers has an end by Redis' clock, which was long ago.
	for f, v := range c.HGetAll(ctx, "sw:t:{golden@example.com}").Val() {
		c.HSet(ctx, "sw:t:{golden@example.com}", f, "\x7f\x00\x00\x00\x00\x00\x00\x00"+v[8:])
	}
	s := open(t, redis.Config{Addresses: []string{server.Addr}})
	bound, web := goldenRegistrations()
	same := cmp.Comparer(func(a, b secret.Token) bool { return a == b })
	list, err := s.Bindings(ctx, wake.Query{AOR: bound.AOR})
	if d := cmp.Diff([]wake.Binding{bound.Binding, web.Binding}, list, same); d != "" || err != nil {
		t.Errorf("bindings: %v, want - got +\n%s", err, d)
	}
	if list, err = s.Bindings(ctx, wake.Query{Token: web.Address.Tokens[0].Value}); err != nil || len(list) != 1 {
		t.Errorf("by token: %v, %v", list, err)
	}
	w := goldenWake()
	w.Call, w.ID = "ended", "x"
	if st, err := s.Start(ctx, w); err != nil || !st.Ended {
		t.Errorf("the wake that had ended: %+v, %v", st, err)
	}
	// Its index has one AOR for a token: a second account comes to it.
	second := web
	second.AOR = "second@example.com"
	if got := register(t, s, second); len(got.PreviousAORs) != 1 || got.PreviousAORs[0] != web.AOR {
		t.Errorf("another account: %+v", got)
	}
	if list, err = s.Bindings(ctx, wake.Query{Token: web.Address.Tokens[0].Value}); err != nil || len(list) != 2 {
		t.Errorf("by token: %v, %v", list, err)
	}
	expiring := 0 // the file knows nothing of their times
	err = s.Expiring(ctx, bound.ExpiresAt, func(wake.Binding) (time.Time, error) { expiring++; return time.Time{}, nil })
	if err != nil || expiring != 3 {
		t.Errorf("%d bindings expire: %v", expiring, err)
	}
	older := bound
	older.CSeq--
	if got := register(t, s, older); got.Status != wake.StatusStale {
		t.Errorf("an older REGISTER is %s", got.Status)
	}
	got := register(t, s, bound)
	if d := cmp.Diff([]wake.Wake{goldenWake()}, got.Wakes); got.Status != wake.StatusRefreshed || got.Devices != 2 || d != "" {
		t.Errorf("the next REGISTER: %+v, wakes: want - got +\n%s", got, d)
	}
	if ended, err := s.End(ctx, bound.AOR, "edge-1", "call-1"); err != nil || !ended.Known {
		t.Errorf("end: %+v, %v", ended, err)
	}
	m := goldenMessage()
	due, err := s.Due(ctx, m.NextTry.Add(time.Second), time.Minute, 9)
	if err != nil || len(due) != 1 || due[0].ID != m.ID || due[0].Title != m.Title || len(due[0].Targets) != len(m.Targets) {
		t.Errorf("due messages: %+v, %v", due, err)
	}
}

// An earlier version wrote a device such as urn:uuid:... out. It is the same device, and
// shorter from then on.
func TestDeviceWrittenOut(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	server := storetest.NewRedis(t)
	c, s := client(t, server.Addr), open(t, redis.Config{Addresses: []string{server.Addr}})
	const key = "sw:b:{alice@example.com}"
	r := storetest.Registration("alice@example.com", 1)
	r.Device = strings.Trim(r.Device, "<>")
	register(t, s, r)
	short := c.Get(ctx, key).Val()
	old := func() {
		t.Helper()
		if err := c.Set(ctx, key, "\x00\x2e="+r.Device+short[2+17:], goredis.KeepTTL).Err(); err != nil {
			t.Fatal(err)
		}
	}
	old()
	if list, err := s.Bindings(ctx, wake.Query{AOR: r.AOR}); err != nil || len(list) != 1 || list[0].Device != r.Device {
		t.Errorf("bindings: %+v, %v", list, err)
	}
	late := r
	late.Late = true
	for what, again := range map[string]wake.Registration{"again": r, "late": late} {
		old()
		if got := register(t, s, again); got.Status != wake.StatusRefreshed || got.Devices != 1 {
			t.Errorf("%s: %+v", what, got)
		}
		if n := c.StrLen(ctx, key).Val(); n != int64(len(short)) {
			t.Errorf("%s: %d bytes, want %d", what, n, len(short))
		}
	}
	old()
	if got, err := s.Remove(ctx, wake.Removal{AOR: r.AOR, Device: r.Device}); err != nil || got.Bindings != 1 {
		t.Errorf("removed: %+v, %v", got, err)
	}
}

// A rolling upgrade: one instance writes fields that the other one does not know
// yet, and they take turns over one user.
func TestRollingUpgrade(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	server := storetest.NewRedis(t)
	c := client(t, server.Addr)
	config := redis.Config{Addresses: []string{server.Addr}}
	was, is := open(t, config), open(t, config)
	const unknown = "\xc8\x03new"
	// The newer one adds a field to what it has written last: behind the value of
	// the last device, whose length stands before it, and behind the wakes.
	newer := func() {
		t.Helper()
		key := "sw:b:{alice@example.com}"
		v := []byte(c.Get(ctx, key).Val())
		at := 2 + int(v[0])<<8 + int(v[1])
		n := int(v[at+2])<<8 + int(v[at+3])
		if at+4+n != len(v) {
			t.Fatalf("not one device: %d bytes", len(v))
		}
		n += len(unknown)
		v[at+2], v[at+3] = byte(n>>8), byte(n)
		c.Set(ctx, key, string(v)+unknown, goredis.KeepTTL)
		for f, v := range c.HGetAll(ctx, "sw:t:{alice@example.com}").Val() {
			if f[0] == 'w' && !strings.HasSuffix(v, unknown) {
				c.HSet(ctx, "sw:t:{alice@example.com}", f, v+unknown)
			}
		}
	}
	r := storetest.Registration("alice@example.com", 1)
	turn := func(n int, s *redis.Store) {
		t.Helper()
		r.CSeq++
		got := register(t, s, r)
		if want := []wake.Status{wake.StatusStored, wake.StatusRefreshed}[min(n, 1)]; got.Status != want || len(got.Wakes) != n {
			t.Errorf("turn %d: %s with %d wakes, want %s with %d", n, got.Status, len(got.Wakes), want, n)
		}
		w := loadWake(n)
		w.AOR, w.Call = r.AOR, fmt.Sprint(n)
		if st, err := s.Start(ctx, w); err != nil || len(st.Bindings) != 1 || st.Bindings[0].CSeq != r.CSeq {
			t.Errorf("turn %d: %+v, %v", n, st, err)
		}
	}
	for n := range 6 {
		if n%2 == 0 {
			turn(n, is)
			newer()
		} else {
			turn(n, was)
		}
	}
	for n := range 6 {
		if ended, err := was.End(ctx, r.AOR, "n", fmt.Sprint(n)); err != nil || !ended.Known {
			t.Errorf("end %d: %+v, %v", n, ended, err)
		}
	}
}
