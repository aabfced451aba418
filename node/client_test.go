package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/secret"
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
		err := c.Call(t.Context(), "m", nil, &res)
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
	f(200, `{"result":7}`, "its answer is of another shape", 0)
	f(200, `{}`, "its answer is not JSON-RPC", 0)
	f(200, ``, "its answer is not JSON-RPC", 0)
	f(200, `{"result":{"n":7,"x":"`+strings.Repeat("x", maxAnswer)+`"}}`, "its answer is not JSON-RPC", 0)
	f(403, ``, "another secret", 0)
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
func TestFingerprint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	base := Config{URL: "http://192.0.2.1", SecretFile: file}
	first := newClient(t, base).Fingerprint()
	if newClient(t, base).Fingerprint() != first {
		t.Error("the same settings differ")
	}
	f := func(name string, change func(*Config)) {
		t.Helper()
		c := base
		change(&c)
		if newClient(t, c).Fingerprint() == first {
			t.Errorf("another %s makes no difference", name)
		}
	}
	f("url", func(c *Config) { c.URL = "http://192.0.2.2" })
	f("timeout", func(c *Config) { c.Timeout = time.Minute })
	f("connections", func(c *Config) { c.Connections = 7 })
	f("secret", func(*Config) { write("two") })
	if strings.Contains(fmt.Sprintf("%v %+v", newClient(t, base), *newClient(t, base)), "two") {
		t.Error("the client shows its secret")
	}
}

// Close drops idle connections.
func TestClose(t *testing.T) {
	var mu sync.Mutex
	closed := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"result":{}}`)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateClosed {
			close(closed)
		}
	}
	s.Start()
	defer s.Close()
	c := newClient(t, Config{URL: s.URL, Secret: secret.NewText("x")})
	if err := c.Call(t.Context(), "m", nil, nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-closed
}
