package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Redis is a redis-server for one test.
type Redis struct {
	// Addr is host:port. It stays the same across restarts.
	Addr string

	t      testing.TB
	server string
	args   []string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// StartRedis starts an empty redis-server without persistence, and returns its address.
// The server stops with the test. See NewRedis.
func StartRedis(t testing.TB) (addr string) {
	t.Helper()
	return NewRedis(t).Addr
}

// NewRedis starts a redis-server with additional arguments ("--requirepass", "x"). The
// command is SIPWAKE_REDIS_SERVER, or else redis-server on the PATH, or else
// bin/redis-server in SIPWAKE_CACHE (~/.cache/sipwake). If there is none, the test is
// skipped, or fails if SIPWAKE_REQUIRE_ALL is set.
func NewRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	server, err := findRedis()
	if err != nil {
		if os.Getenv("SIPWAKE_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	r := &Redis{t: t, server: server, args: args, dir: t.TempDir()}
	t.Cleanup(r.Stop)
	// The port is free when it is picked and may be taken a moment later.
	for try := 1; ; try++ {
		r.Addr = freeAddr(t)
		err := r.start()
		if err == nil {
			return r
		}
		if try == 5 {
			t.Fatalf("cannot start %s: %v", server, err)
		}
	}
}

func findRedis() (string, error) {
	if s := os.Getenv("SIPWAKE_REDIS_SERVER"); s != "" {
		if _, err := exec.LookPath(s); err != nil {
			return "", fmt.Errorf("SIPWAKE_REDIS_SERVER is no command: %w", err)
		}
		return s, nil
	}
	if s, err := exec.LookPath("redis-server"); err == nil {
		return s, nil
	}
	cache := os.Getenv("SIPWAKE_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(home, ".cache", "sipwake")
	}
	if s, err := exec.LookPath(filepath.Join(cache, "bin", "redis-server")); err == nil {
		return s, nil
	}
	return "", errors.New("no redis-server: install it or name one in SIPWAKE_REDIS_SERVER")
}

func freeAddr(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().(*net.TCPAddr)
		_ = l.Close()
		if addr.Port < 55_000 { // a cluster's bus takes port+10000
			return addr.String()
		}
	}
}

// Start starts the server again after Stop, on the same address. Whether it still has
// its data depends on its arguments.
func (r *Redis) Start() {
	r.t.Helper()
	if err := r.start(); err != nil {
		r.t.Fatalf("cannot start %s: %v", r.server, err)
	}
}

func (r *Redis) start() error {
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return err
	}
	args := []string{"--save", "", "--bind", host, "--port", port, "--dir", r.dir, "--logfile", "redis.log", "--daemonize", "no"}
	if len(r.args) > 0 && !strings.HasPrefix(r.args[0], "--") {
		args = append([]string{r.args[0]}, args...) // a configuration file comes first
		args = append(args, r.args[1:]...)
	} else {
		args = append(args, r.args...)
	}
	cmd := exec.Command(r.server, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error), make(chan struct{})
	go func() {
		// The server dies with the thread that started it, so this thread stays until the
		// server has ended.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	r.cmd, r.exited = cmd, exited
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		select {
		case <-exited:
			log, _ := os.ReadFile(filepath.Join(r.dir, "redis.log"))
			return fmt.Errorf("it ended: %s", log)
		case <-ctx.Done():
			r.Stop()
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
		if answers(r.Addr) {
			return nil
		}
	}
}

// answers reports whether a Redis answers, even with an error.
func answers(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && line != "" && !strings.HasPrefix(line, "-LOADING")
}

// Stop kills the server. Stopping it twice does nothing.
func (r *Redis) Stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	<-r.exited
	r.cmd = nil
}

// Pause stops the server from answering; its connections stay open. Resume ends that.
func (r *Redis) Pause() { r.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (r *Redis) Resume() { r.signal(syscall.SIGCONT) }

func (r *Redis) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatalf("cannot signal redis-server: %v", err)
	}
}
