package local_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

func TestMain(m *testing.M) {
	if child := os.Getenv("SIPWAKE_TEST_CHILD"); child != "" {
		runChild(child)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string, o storetest.Options) *local.Store {
	t.Helper()
	s, err := local.New(local.Config{Path: path, Recent: o.Recent, Retention: o.Retention, Outbox: o.Outbox},
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Store {
		return open(t, filepath.Join(t.TempDir(), "store.db"), o)
	})
}

func register(t testing.TB, s wake.Store, r wake.Registration) wake.Registered {
	t.Helper()
	got, err := s.Register(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func bindings(t testing.TB, s wake.Store, aor string) []wake.Binding {
	t.Helper()
	got, err := s.Bindings(context.Background(), wake.Query{AOR: aor})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Bindings that the file has expire as those do that come later, and nothing is kept
// by time while nobody asks.
func TestExpiringLives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{})
	const users = 50
	for n := range users {
		register(t, s, storetest.Registration(fmt.Sprintf("user%d@example.com", n), n))
	}
	kept := func(want int) {
		t.Helper()
		if got := local.KeptByTime(s); got != want {
			t.Errorf("%d are kept by time, want %d", got, want)
		}
	}
	kept(0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, storetest.Options{})
	register(t, s, storetest.Registration("user7@example.com", 8))
	seen := 0
	look := func(by time.Time) {
		t.Helper()
		if err := s.Expiring(context.Background(), by, func(wake.Binding) (time.Time, error) { seen++; return time.Time{}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	look(time.Now())
	kept(users + 1)
	local.EndExpiring(s, time.Now().Add(time.Minute))
	kept(users + 1)
	local.EndExpiring(s, time.Now().Add(2*time.Hour))
	kept(0)
	if look(time.Now().Add(2 * time.Hour)); seen != users+1 {
		t.Errorf("%d expire", seen)
	}
	kept(0)
}

// What was acknowledged, refreshes too, is there after Close and New.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{})
	const users = 50
	for n := range users {
		r := storetest.Registration(fmt.Sprintf("user%d@example.com", n), n)
		register(t, s, r)
		r.CSeq, r.Contact = 4711, "sip:refreshed"
		if got := register(t, s, r); got.Status != wake.StatusRefreshed {
			t.Fatalf("second REGISTER: %s", got.Status)
		}
	}
	un := storetest.Registration("user7@example.com", 7)
	un.Action, un.CSeq = wake.ActionUnbind, 5000
	register(t, s, un)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Register(context.Background(), un); !errors.Is(err, wake.ErrUnavailable) {
		t.Errorf("Register after Close: %v", err)
	}

	s = open(t, path, storetest.Options{})
	for n := range users {
		got := bindings(t, s, fmt.Sprintf("user%d@example.com", n))
		if n == 7 {
			if len(got) != 0 {
				t.Error("the removed binding is back")
			}
			continue
		}
		if len(got) != 1 || got[0].CSeq != 4711 || got[0].Contact != "sip:refreshed" {
			t.Fatalf("user%d: %+v", n, got)
		}
	}
	token := storetest.Registration("", 3).Address.Tokens[0].Value
	if got, err := s.Bindings(context.Background(), wake.Query{Token: token}); err != nil || len(got) != 1 {
		t.Errorf("by token: %d bindings, %v", len(got), err)
	}
	if got := register(t, s, storetest.Registration("user3@example.com", 3)); got.Status != wake.StatusStale {
		t.Errorf("an older CSeq after the restart: %s", got.Status)
	}
	w := wake.Wake{AOR: "user3@example.com", Node: "n", Call: "c", StartedAt: time.Now(), Deadline: time.Now().Add(time.Minute)}
	if got, err := s.Start(context.Background(), w); err != nil || len(got.Recent) != 0 {
		t.Errorf("recent after a restart: %v, %v", got.Recent, err)
	}
}

// A phone with two accounts has them after a restart, and is told of the other one at
// once; what an earlier version wrote has one AOR for a token.
func TestAccountsReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{})
	home, work := storetest.Registration("home@example.com", 1), storetest.Registration("work@example.com", 1)
	register(t, s, home)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	local.MakeOlder(t, path)
	token := home.Address.Tokens[0].Value
	for round := range 3 {
		s = open(t, path, storetest.Options{})
		if round > 0 {
			if got := register(t, s, home).PreviousAORs; len(got) != 1 || got[0] != work.AOR {
				t.Errorf("round %d: previous AORs %q", round, got)
			}
		}
		if got := register(t, s, work).PreviousAORs; len(got) != 1 || got[0] != home.AOR {
			t.Errorf("round %d: previous AORs %q", round, got)
		}
		list, err := s.Bindings(context.Background(), wake.Query{Token: token})
		if err != nil || len(list) != 2 {
			t.Errorf("round %d: %d bindings by token, %v", round, len(list), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, path, storetest.Options{})
	if _, err := s.Remove(context.Background(), wake.Removal{AOR: home.AOR}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, storetest.Options{})
	if got := register(t, s, work).PreviousAORs; len(got) != 0 {
		t.Errorf("previous AORs %q of the only account", got)
	}
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	inUse := filepath.Join(dir, "used.db")
	open(t, inUse, storetest.Options{})
	write := func(name string, data []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cases := map[string][2]string{
		"in use":      {inUse, "another process has it open"},
		"a directory": {dir, "it is a directory"},
		"no folder":   {filepath.Join(dir, "none", "store.db"), "no such file"},
	}
	if os.Getuid() != 0 { // root may read everything
		cases["no permission"] = [2]string{write("closed.db", []byte("x"), 0), "permission denied"}
	}
	for name, c := range cases {
		began := time.Now()
		s, err := local.New(local.Config{Path: c[0]}, slog.New(slog.DiscardHandler), nil)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		if !strings.Contains(err.Error(), c[1]) || !strings.Contains(err.Error(), c[0]) {
			t.Errorf("%s: error %q, want the path and %q", name, err, c[1])
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("%s: took %s", name, d)
		}
	}
}

// A refresh is on the disk about a second later, without anyone asking, and an
// AOR at rest is no longer in memory.
func TestRefreshIsWritten(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := local.New(local.Config{Path: filepath.Join(t.TempDir(), "store.db"), Recent: time.Millisecond},
		slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	r := storetest.Registration("alice@example.com", 1)
	register(t, s, r)
	commits := func() int {
		all, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.GetName() == "sipwake_store_commit_seconds" {
				return int(m.GetMetric()[0].GetHistogram().GetSampleCount())
			}
		}
		return -1
	}
	if n := commits(); n != 1 {
		t.Fatalf("%d commits after the first REGISTER, want 1", n)
	}
	for range 100 {
		register(t, s, r)
	}
	deadline := time.Now().Add(30 * time.Second)
	for commits() < 2 {
		if time.Now().After(deadline) {
			t.Fatal("the refresh was not written")
		}
		time.Sleep(20 * time.Millisecond)
	}
	for local.Active(s) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d AORs stay in memory", local.Active(s))
		}
		time.Sleep(20 * time.Millisecond)
	}
	if got := bindings(t, s, r.AOR); len(got) != 1 {
		t.Fatalf("%d bindings", len(got))
	}
}

// The sweep removes from the file what nobody asks for, with its token.
func TestSweep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{Retention: 1000 * time.Hour})
	for n := range 2500 {
		r := storetest.Registration(fmt.Sprintf("user%d@example.com", n), n)
		if n%2 == 0 {
			r.RegisteredAt = r.RegisteredAt.Add(-100 * time.Hour)
		}
		go func() { _, _ = s.Register(context.Background(), r) }()
	}
	deadline := time.Now().Add(60 * time.Second)
	for local.Active(s) < 2500 {
		if time.Now().After(deadline) {
			t.Fatal("registers hang")
		}
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, storetest.Options{Retention: 50 * time.Hour})
	for {
		bindings, tokens := local.Stored(t, s)
		if bindings == 1250 && tokens == 1250 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bindings and %d tokens in the file, want 1250 of each", bindings, tokens)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if got := bindings(t, s, "user7@example.com"); len(got) != 1 {
		t.Error("the sweep took too much")
	}
}

// Why a binding went is in the file, for a month; also that its retention ran out.
func TestNotesReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{Retention: time.Hour})
	ctx := context.Background()
	removals := func(aor string) []wake.RemovalNote {
		t.Helper()
		list, err := s.Removals(ctx, aor)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	r, old := storetest.Registration("alice@example.com", 1), storetest.Registration("bob@example.com", 2)
	register(t, s, r)
	if _, err := s.Remove(ctx, wake.Removal{AOR: r.AOR, Reason: "operator"}); err != nil {
		t.Fatal(err)
	}
	old.RegisteredAt = old.RegisteredAt.Add(-2 * time.Hour)
	register(t, s, old)
	before := removals(r.AOR)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	local.PutNote(t, path, "carol@example.com", wake.RemovalNote{Device: "d", At: time.Now().Add(-31 * 24 * time.Hour)})
	s = open(t, path, storetest.Options{Retention: time.Hour})
	if got := removals(r.AOR); len(got) != 1 || got[0] != before[0] || got[0].Reason != "operator" {
		t.Errorf("after a restart: %+v, before: %+v", got, before)
	}
	for end := time.Now().Add(30 * time.Second); len(removals(old.AOR)) != 1 || local.NoteUsers(t, s) != 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v, %d users with notes", removals(old.AOR), local.NoteUsers(t, s))
		}
	}
	if got := removals(old.AOR)[0]; got.Reason != wake.RemovedRetention || got.Device != old.Device {
		t.Errorf("swept: %+v", got)
	}
	if got := removals("carol@example.com"); len(got) != 0 {
		t.Errorf("too old: %+v", got)
	}
}

func TestConfig(t *testing.T) {
	var c local.Config
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("default: %s %s", field, problem) })
	got := ""
	bad := local.Config{Retention: time.Millisecond}
	bad.Validate(func(field, problem string) { got += field + " " + problem + "\n" })
	if want := "path must name a file\nretention must be 1s or more\noutbox must be 1 or more\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
