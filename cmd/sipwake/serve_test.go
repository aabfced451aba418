package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/leak"
)

// service is a `sipwake serve`.
type service struct {
	t          *testing.T
	cmd        *exec.Cmd
	dir        string
	rpc        string
	operations string

	lines chan string // of standard error; closed at its end
	mu    sync.Mutex
	log   []string
}

// serve starts the service with dir/sipwake.yml and waits until it answers.
func serve(t *testing.T, dir string) *service {
	t.Helper()
	s := launch(t, dir)
	var started struct{ RPC, Operations string }
	if err := json.Unmarshal([]byte(s.waitFor("sipwake started")), &started); err != nil {
		t.Fatal(err)
	}
	s.rpc, s.operations = started.RPC, started.Operations
	return s
}

// launch starts the service and does not wait.
func launch(t *testing.T, dir string) *service {
	t.Helper()
	s := &service{t: t, dir: dir, cmd: command(t, dir, "serve", "--config", "sipwake.yml"), lines: make(chan string, 10_000)}
	errs, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := leak.Record("serve")
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer said.Close()
		defer close(s.lines)
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			s.mu.Lock()
			s.log = append(s.log, lines.Text())
			fmt.Fprintln(said, lines.Text())
			s.mu.Unlock()
			s.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-read
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Logf("the service said:\n%s", s.said())
		}
	})
	return s
}

// said is all of standard error until now.
func (s *service) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

// waitFor returns the next line with the text.
func (s *service) waitFor(text string) string {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the service ended without %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			s.t.Fatalf("the service never said %q", text)
		}
	}
}

// status waits for the end of the service and returns its exit status.
func (s *service) status() int {
	s.t.Helper()
	timeout := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer timeout.Stop()
	for range s.lines { // until standard error is closed: Wait wants it so
	}
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

func (s *service) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// configured returns a directory with every key file and a configuration on
// free ports.
func configured(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	keys(t, dir)
	write(t, dir, "sipwake.yml", []byte(good("127.0.0.1:0", "127.0.0.1:0")))
	return dir
}

func edit(t *testing.T, dir, from, to string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "sipwake.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		t.Fatalf("no %q in the configuration", from)
	}
	write(t, dir, "sipwake.yml", []byte(strings.Replace(string(text), from, to, 1)))
}

func TestServeStopsOnSIGTERM(t *testing.T) {
	dir := configured(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		s := serve(t, dir)
		s.signal(sig)
		if status := s.status(); status != 0 {
			t.Errorf("%v: status %d", sig, status)
		}
		if !strings.Contains(s.said(), `"msg":"stopping"`) {
			t.Errorf("%v: not a word of it", sig)
		}
		if c, err := net.Dial("tcp", s.rpc); err == nil {
			c.Close()
			t.Errorf("%v: it still listens", sig)
		}
	}
}

func TestServeReload(t *testing.T) {
	dir := configured(t)
	s := serve(t, dir)
	nodes := func() string {
		t.Helper()
		var info struct{ Nodes []string }
		s.call("service.info", nil, &info)
		return strings.Join(info.Nodes, " ")
	}
	edit(t, dir, "id: sip1", "id: sip2")
	s.signal(syscall.SIGHUP)
	s.waitFor("configuration reloaded")
	if got := nodes(); got != "sip2" {
		t.Fatalf("nodes are %q", got)
	}
	edit(t, dir, "url: http", "uri: http")
	s.signal(syscall.SIGHUP)
	line := s.waitFor("cannot reload configuration, the old one stays")
	for _, want := range []string{"sipwake.yml:10: nodes[0].uri: unknown key", `"level":"ERROR"`} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	edit(t, dir, "uri: http", "url: http")
	edit(t, dir, "key_file: key.p8", "key_file: cert.pem")
	s.signal(syscall.SIGHUP)
	if line := s.waitFor("cannot reload configuration"); !strings.Contains(line, "sipwake.yml:16: apns[0].key_file: cert.pem is not") {
		t.Error(line)
	}
	if got := nodes(); got != "sip2" {
		t.Errorf("after broken files nodes are %q", got)
	}
	edit(t, dir, "key_file: cert.pem", "key_file: key.p8")
	edit(t, dir, "path: sipwake.db", "path: other.db")
	s.signal(syscall.SIGHUP)
	if line := s.waitFor("needs a restart"); !strings.Contains(line, `"field":"store"`) {
		t.Error(line)
	}
	s.signal(syscall.SIGTERM)
	if status := s.status(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// What keeps a service from starting is said with the field that is to be
// changed.
func TestServeCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().String()
	f := func(from, to, want string) {
		t.Helper()
		dir := configured(t)
		edit(t, dir, from, to)
		_, stderr, status := sipwake(t, dir, "serve", "--config", "sipwake.yml")
		if !strings.HasSuffix(stderr, want+"\n") || status != 1 {
			t.Errorf("status %d, want %s, got\n%s", status, want, stderr)
		}
	}
	f("rpc:\n  listen: 127.0.0.1:0", "rpc:\n  listen: "+busy,
		"sipwake: sipwake.yml:2: rpc.listen: cannot listen: listen tcp "+busy+": bind: address already in use")
	f("operations:\n  listen: 127.0.0.1:0", "operations:\n  listen: "+busy,
		"sipwake: sipwake.yml:4: operations.listen: cannot listen: listen tcp "+busy+": bind: address already in use")
	f("path: sipwake.db", "path: none/sipwake.db",
		`sipwake: sipwake.yml:7: store.local.path: cannot open store "none/sipwake.db": open none/sipwake.db: no such file or directory`)
	f("path: sipwake.db", "path: directory",
		`sipwake: sipwake.yml:7: store.local.path: cannot open store "directory": it is a directory, a file is expected`)
}

func TestServeTwiceOnOneStore(t *testing.T) {
	dir := configured(t)
	serve(t, dir)
	_, stderr, status := sipwake(t, dir, "serve", "--config", "sipwake.yml")
	want := "sipwake: sipwake.yml:7: store.local.path: cannot open store \"sipwake.db\": another process has it open\n"
	if stderr != want || status != 1 {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// The libraries below have loggers of their own. Whatever they say, standard
// error has the log's lines and no others.
func TestServeLogsOnlyItsOwnFormat(t *testing.T) {
	dir := configured(t)
	edit(t, dir, "store:", "store:\n  type: redis\n  redis:\n    addresses: [\""+freePort(t)+"\"]\n  fallback:\n    spool: "+dir+"/spool")
	s := serve(t, dir)
	res, err := http.Get("http://" + s.operations + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready without a store: %d", res.StatusCode)
	}
	s.waitFor("redis connection failed") // go-redis has spoken, else the test proves nothing
	s.signal(syscall.SIGTERM)
	if status := s.status(); status != 0 {
		t.Errorf("status %d", status)
	}
	for line := range strings.Lines(s.said()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a line of the log: %s", line)
		}
	}
}

// A stop that comes before the listener's goroutine has even begun must not be
// lost.
func TestStopRightAfterStart(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "sipwake.yml", []byte("rpc: {listen: \"127.0.0.1:0\"}\noperations: {listen: \"127.0.0.1:0\"}\n"+
		"store: {local: {path: "+filepath.Join(dir, "sipwake.db")+"}}\n"))
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 100 {
		a, err := app.New(cfg, "test", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		err = a.Start()
		go func() { stopped <- a.Stop(ctx) }()
		select {
		case stopErr := <-stopped:
			if err := errors.Join(err, stopErr); err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatal("it never stopped")
		}
	}
}
