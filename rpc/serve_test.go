package rpc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/lab/labca"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// served is a Server on a port of its own.
type served struct {
	*Server
	t    *testing.T
	addr string
	logs *lines
	reg  *prometheus.Registry
	ca   *labca.CA // nil without TLS
}

const serveToken = "f31c-token-of-the-proxy"

// serve starts a Server whose service.info answers "here"; methods are further
// ones, by their names. before changes it before it serves.
func serve(t *testing.T, cfg Config, methods map[string]method, before ...func(*Server)) *served {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	cfg.SetDefaults()
	s := &served{t: t, logs: &lines{}, reg: prometheus.NewRegistry()}
	var err error
	s.Server, err = New(cfg, Backend{Info: func() any { return "here" }}, slog.New(slog.NewJSONHandler(s.logs, nil)), s.reg)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range methods {
		s.table[name] = m
	}
	for _, f := range before {
		f(s.Server)
	}
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	s.addr = l.Addr().String()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// withToken is a configuration that wants serveToken.
func withToken(t *testing.T, cfg Config) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(serveToken), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.TokenFiles = []string{file}
	return cfg
}

// dial connects; from is an address of this machine, "" for any.
func (s *served) dial(from string) net.Conn {
	s.t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	if s.ca != nil {
		return tls.Client(c, &tls.Config{RootCAs: s.ca.Pool(), ServerName: "127.0.0.1"})
	}
	return c
}

const info = `{"jsonrpc":"2.0","id":1,"method":"service.info"}`

// post is an HTTP request with a body; headers end with CRLF each.
func post(headers, body string) string {
	return fmt.Sprintf("POST /rpc HTTP/1.1\r\nHost: sipwake\r\n%sContent-Length: %d\r\n\r\n%s", headers, len(body), body)
}

// ask sends text on a connection and reads one answer.
func ask(t *testing.T, c net.Conn, text string) (status int, body string, open bool) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		return 0, "", false
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", false
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(b), !res.Close
}

// closes checks that the server closes a connection, and says nothing before.
func closes(t *testing.T, what string, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("%s: %q, %v", what, b, err)
	}
}
