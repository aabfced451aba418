package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/config"
)

// logged is a log that can be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// started runs an App with nobody to wake, with the lines of more in its configuration, and ends it with
// the test.
func started(t *testing.T, more ...string) (*App, *logged) {
	t.Helper()
	a, said := prepared(t, more...)
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	return a, said
}

// prepared is started for tests that have something to do before Start.
func prepared(t *testing.T, more ...string) (*App, *logged) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "sipwake.yml")
	text := "rpc: {listen: \"127.0.0.1:0\"}\noperations: {listen: \"127.0.0.1:0\"}\nstore: {local: {path: " + filepath.Join(dir, "sipwake.db") + "}}\n" + strings.Join(more, "\n")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	said := &logged{}
	a, err := New(cfg, "test", slog.New(slog.NewJSONHandler(said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = a.Stop(ctx)
	})
	return a, said
}

func get(t *testing.T, a *App, path string) (status int, text string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get("http://" + a.OperationsAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(b))
}

// /healthz is what RPC is, but for the start and the end.
func TestHealthIsThatOfRPC(t *testing.T) {
	a, _ := started(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, text := get(t, a, path); status != 200 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	a.rpcListener.Close()
	err := <-a.Failed()
	if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "RPC") {
		t.Errorf("failed with %v", err)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		for deadline := time.Now().Add(10 * time.Second); ; { // an answer may be a second old
			status, text := get(t, a, path)
			if status == 503 && text == "RPC does not answer" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s without RPC: %d %s", path, status, text)
			}
		}
	}
	a.operations.ready.Store(false) // as Stop does
	if status, _ := get(t, a, "/healthz"); status != 200 {
		t.Errorf("/healthz while stopping: %d", status)
	}
	if status, text := get(t, a, "/readyz"); status != 503 || text != "not serving" {
		t.Errorf("/readyz while stopping: %d %s", status, text)
	}
}

// RPC that takes connections and says nothing is not alive either; and however
// often it is asked about, it is asked once a second.
func TestHealthAsksRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		r := newRarely(func(ctx context.Context) error {
			n++
			<-ctx.Done()
			return ctx.Err()
		})
		ask := func() {
			t.Helper()
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if err := r.result(); !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		began := time.Now()
		ask()
		if took := time.Since(began); n != 1 || took != readyPatience {
			t.Errorf("asked %d times in %s", n, took)
		}
		time.Sleep(rarelyEvery)
		ask()
		if n != 2 {
			t.Errorf("asked %d times in two rounds", n)
		}
	})
}

// Strangers who hold connections do not keep a monitor out.
func TestOperationsConnections(t *testing.T) {
	a, said := started(t)
	s := a.operations.server
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 {
		t.Errorf("it waits for ever: %+v", s)
	}
	monitor := http.Client{Transport: &http.Transport{}}
	defer monitor.CloseIdleConnections()
	for range 3 * operationsConns {
		c, err := net.Dial("tcp", a.OperationsAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range 10 {
		res, err := monitor.Get("http://" + a.OperationsAddr() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("/metrics: %d", res.StatusCode)
		}
	}
	if open := a.operations.conns.Stats().Open; open > operationsPerClient {
		t.Errorf("%d connections of one client are open", open)
	}
	s.ErrorLog.Print("http: Accept error: too many open files; retrying in 5ms")
	for line := range strings.Lines(said.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a line of the log: %s", line)
		}
	}
	if !strings.Contains(said.String(), `"level":"WARN","msg":"operations listener","err":"http: Accept error`) {
		t.Errorf("net/http's complaint is not in the log: %s", said)
	}
}

// A drain that has run out does not make parts fail that have nothing to finish.
func TestStopAfterTheDrain(t *testing.T) {
	a, _ := started(t)
	a.onStop("a part that never ends", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := a.Stop(ctx)
	if want := "cannot stop a part that never ends: context deadline exceeded"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
