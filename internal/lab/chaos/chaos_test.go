package chaos

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// need skips the test unless the programs have been set up, or must have been.
func need(t *testing.T) {
	t.Helper()
	for _, name := range []string{"kamailio", "redis-server"} {
		if _, err := stack.Find(name); err != nil {
			if os.Getenv("SIPWAKE_REQUIRE_ALL") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sipwake")
	if out, err := exec.Command("go", "build", "-o", path, "../../../cmd/sipwake").CombinedOutput(); err != nil {
		t.Fatalf("cannot build sipwake: %v: %s", err, out)
	}
	return path
}

// A short run with the cheap faults finds nothing, and leaves nothing behind.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	need(t)
	var out bytes.Buffer
	res, err := Run(t.Context(), Config{Sipwake: program(t), Seed: 1, Duration: 8 * time.Second, Phones: 24,
		Faults: []string{"sipwake-kill", "provider-5xx", "redis-restart"}, Calls: 2, Registers: 20, Out: &out})
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if res.Faults == 0 || res.Calls == 0 {
		t.Errorf("%+v", res)
	}
	nothingLeft(t)
}

func nothingLeft(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/" + namespacePrefix, "/sys/class/net/" + bridgePrefix, os.TempDir() + "/" + dirPrefix} {
		left, err := filepath.Glob(pattern + pid() + "*")
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %q %v", left, err)
		}
	}
}

// An interrupted run ends all that it has started.
func TestInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	need(t)
	ctx, interrupt := context.WithCancel(t.Context())
	out := &trigger{text: "everything is up", f: func() { time.AfterFunc(time.Second, interrupt) }}
	_, err := Run(ctx, Config{Sipwake: program(t), Seed: 1, Duration: time.Minute, Phones: 4, Faults: []string{"redis-pause"},
		Calls: 1, Registers: 5, Out: out})
	if err == nil || ctx.Err() == nil {
		t.Errorf("%v: %s", err, out.seen.String())
	}
	nothingLeft(t)
}

// trigger calls f when a text is written.
type trigger struct {
	text string
	f    func()
	seen bytes.Buffer
}

func (w *trigger) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.text) {
		w.f()
	}
	return w.seen.Write(b)
}

// A seed repeats the order of the faults and what each of them draws.
func TestSeed(t *testing.T) {
	order := func(seed uint64) string {
		var names []string
		for f, r := range newPlan(seed, faults()).all() {
			names = append(names, f.name, time.Duration(r.Uint64()).String())
			if len(names) == 200 {
				break
			}
		}
		return strings.Join(names, " ")
	}
	first := order(7)
	if first != order(7) {
		t.Error("the same seed makes another run")
	}
	if first == order(8) {
		t.Error("another seed makes the same run")
	}
	for _, f := range faults() {
		if !strings.Contains(first, f.name) {
			t.Errorf("%s never comes", f.name)
		}
	}
}

// Two at once break different parts, and all come before any comes again.
func TestTwoAtOnce(t *testing.T) {
	parts := make(map[string]string)
	for _, f := range faults() {
		parts[f.name] = f.part
	}
	came, pairs := make(map[string]bool), 0
	for f := range newPlan(3, faults()).all() {
		names := strings.Split(f.name, " + ")
		if len(names) == 2 {
			pairs++
			if parts[names[0]] == parts[names[1]] {
				t.Errorf("%s: both break %s", f.name, parts[names[0]])
			}
		}
		for _, name := range names {
			if came[name] || parts[name] == "" {
				t.Errorf("%s comes again, or breaks nothing", name)
			}
			came[name] = true
		}
		if len(came) == len(parts) {
			break
		}
	}
	if pairs < len(parts)/4 {
		t.Errorf("two at once only %d times", pairs)
	}
}
