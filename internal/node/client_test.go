package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

var errForbidden = errors.New("another secret")

func kind() Kind {
	return Kind{Path: "/signals", Example: "http://192.0.2.1", SecretFile: "must be set", Forbidden: errForbidden, Idle: time.Minute}
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New("sip1", kind(), cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestCall(t *testing.T) {
	var got string
	answer := func(w http.ResponseWriter) {}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization")
		answer(w)
	}))
	defer s.Close()
	c := newClient(t, Config{URL: s.URL, Secret: secret.NewText("s3cret")})
	f := func(status int, body, want string, result int) {
		t.Helper()
		answer = func(w http.ResponseWriter) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
		var res struct{ N int }
		err := c.Ask(t.Context(), "m", nil, &res)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != want || res.N != result {
			t.Errorf("%d %q: %q, %d", status, body, text, res.N)
		}
		if strings.Contains(text, "s3cret") || strings.Contains(text, s.URL) {
			t.Errorf("the error shows too much: %s", text)
		}
	}
	f(200, `{"jsonrpc":"2.0","id":1,"result":{"n":7}}`, "", 7)
	f(200, `{"error":{"code":-3,"message":"no\nthing"}}`, `it answered error -3: "no\nthing"`, 0)
	f(200, `{"result":7}`, "its answer has an unexpected form", 0)
	f(200, `{}`, "its answer is not JSON-RPC", 0)
	f(200, ``, "its answer is not JSON-RPC", 0)
	f(200, `{"result":{"n":7,"x":"`+strings.Repeat("x", maxAnswer)+`"}}`, "its answer is not JSON-RPC", 0)
	f(403, ``, "another secret", 0)
	f(429, ``, "another secret", 0)
	f(401, ``, "another secret", 0)
	f(302, ``, "it answered HTTP 302", 0)
	if got != "POST /signals Bearer s3cret" {
		t.Errorf("sent was %s", got)
	}
	if err := c.Call(t.Context(), "m", func() {}, nil); err == nil {
		t.Error("no error for what JSON cannot hold")
	}
}

// What is unchanged by a reload keeps its connections.
func TestTakeOver(t *testing.T) {
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"result":{}}`) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	file := filepath.Join(t.TempDir(), "secret")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one-secret")
	call := func(c *Client) {
		t.Helper()
		if err := c.Call(t.Context(), "m", nil, nil); err != nil {
			t.Error(err)
		}
	}
	base := Config{URL: s.URL, SecretFile: file}
	first := newClient(t, base)
	call(first)
	f := func(name string, want bool, change func(*Config)) {
		t.Helper()
		cfg := base
		change(&cfg)
		opened.Store(0)
		c := newClient(t, cfg)
		if got := c.TakeOver(first); got != want {
			t.Errorf("%s: taken over %v", name, got)
		}
		call(c)
		if opened.Load() > 0 == want {
			t.Errorf("%s: %d connections opened", name, opened.Load())
		}
	}
	f("the same", true, func(*Config) {})
	f("the default", true, func(c *Config) { c.Timeout = time.Second })
	f("secret itself", true, func(c *Config) { c.Secret, c.SecretFile = secret.NewText("one-secret"), "" })
	f("url", false, func(c *Config) { c.URL += "/other" })
	f("timeout", false, func(c *Config) { c.Timeout = time.Minute })
	f("connections", false, func(c *Config) { c.Connections = 7 })
	f("secret", false, func(*Config) { write("two-secret") })
	for _, shown := range []string{fmt.Sprintf("%v", first), fmt.Sprintf("%+v", *first), fmt.Sprintf("%#v", *first)} {
		if strings.Contains(shown, "one-secret") || regexp.MustCompile("[0-9a-f]{40}").MatchString(shown) {
			t.Errorf("the client shows its secret or a hash of it: %s", shown)
		}
	}
}

// Close drops idle connections, and the others once their requests have ended.
func TestClose(t *testing.T) {
	closed := make(chan struct{}, 3)
	arrived, release := make(chan struct{}), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "slow") {
			close(arrived)
			<-release
		}
		fmt.Fprint(w, `{"result":{}}`)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	s.Start()
	defer s.Close()
	c := newClient(t, Config{URL: s.URL, Secret: secret.NewText("x")})
	slow := make(chan error)
	go func() { slow <- c.Call(t.Context(), "slow", nil, nil) }()
	<-arrived
	call := func() {
		t.Helper()
		if err := c.Call(t.Context(), "m", nil, nil); err != nil {
			t.Error(err)
		}
	}
	call()
	c.Close()
	<-closed
	call() // one whose wake began before the reload
	<-closed
	close(release)
	if err := <-slow; err != nil {
		t.Error(err)
	}
	<-closed
}

// A proxy counts wrong secrets. So one that refuses ours is not asked again at once, and
// it is when there is another secret.
func TestRefusedSecretIsNotRepeated(t *testing.T) {
	var asked atomic.Int32
	var accepted atomic.Value
	accepted.Store("right")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "Bearer "+accepted.Load().(string) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}))
	t.Cleanup(s.Close)
	wrong := newClient(t, Config{URL: s.URL, Secret: secret.NewText("wrong")})
	for range 20 {
		if err := wrong.Call(t.Context(), "m", nil, nil); !errors.Is(err, wrong.forbidden) {
			t.Fatalf("got %v", err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if err := wrong.Ask(t.Context(), "m", nil, nil); !errors.Is(err, wrong.forbidden) || asked.Load() != 2 {
		t.Errorf("a probe: %v, asked %d times", err, asked.Load())
	}
	accepted.Store("wrong") // at the proxy
	if err := wrong.Ask(t.Context(), "m", nil, nil); err != nil {
		t.Errorf("a probe: %v", err)
	}
	if err := wrong.Call(t.Context(), "m", nil, nil); err != nil {
		t.Errorf("after a probe that succeeded: %v", err)
	}
	accepted.Store("right")
	right := newClient(t, Config{URL: s.URL, Secret: secret.NewText("right")})
	right.TakeOver(wrong)
	if err := right.Call(t.Context(), "m", nil, nil); err != nil {
		t.Errorf("with the right secret: %v", err)
	}
}
