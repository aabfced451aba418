package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// orphanMaker makes this test binary a parent that starts children and waits to be
// killed.
const orphanMaker = "STACK_TEST_ORPHANS"

func TestMain(m *testing.M) {
	if os.Getenv(orphanMaker) != "" {
		os.Exit(makeOrphans())
	}
	goleak.VerifyTestMain(m)
}

const testTimeout = 60 * time.Second

// need skips the test if the program has not been set up, unless everything is
// required.
func need(t *testing.T, name string) context.Context {
	t.Helper()
	if _, err := Find(name); err != nil {
		if os.Getenv("SIPWAKE_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func TestKamailio(t *testing.T) {
	ctx := need(t, "kamailio")
	k, err := StartKamailio(ctx, KamailioConfig{
		Node: "edge1", URL: "http://127.0.0.1:1/rpc", Token: "t", Secret: "s", Hold: 7 * time.Second,
		Defines: map[string]string{"SIPWAKE_ANSWER_FIRST": ""},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	if err := pingSIP(ctx, k.SIPAddress()); err != nil {
		t.Error(err)
	}
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, k.SignalURL(),
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"give_up","params":{"call":"1-1"}}`))
	req.Header.Set("Authorization", "Bearer s")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("a signal got HTTP %d", res.StatusCode)
	}
	if out, err := k.Command(ctx, "core.version"); err != nil || !strings.Contains(out, "kamailio") {
		t.Errorf("core.version: %q, %v", out, err)
	}
	pid := k.cmd.Process.Pid
	if n := len(group(t, pid)); n < 5 {
		t.Errorf("%d processes, want Kamailio's many", n)
	}
	k.Stop()
	k.Stop()
	if left := group(t, pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(filepath.Dir(k.Log())); !os.IsNotExist(err) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
}

func TestKamailioThatFails(t *testing.T) {
	ctx := need(t, "kamailio")
	f := func(c KamailioConfig, want string) {
		t.Helper()
		k, err := StartKamailio(ctx, c)
		if err == nil {
			k.Stop()
			t.Fatal("started")
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	f(KamailioConfig{Node: "bad", Script: "nonsense\n"}, "parse error")
	busy := httptest.NewServer(http.NotFoundHandler())
	defer busy.Close()
	port, _ := strconv.Atoi(busy.URL[strings.LastIndex(busy.URL, ":")+1:])
	park, err := FreePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	f(KamailioConfig{Node: "busy", SIPPort: port, ParkPort: park}, "Address already in use")
}

func TestOpenSIPS(t *testing.T) {
	if _, _, err := FindOpenSIPS(); err != nil {
		if os.Getenv("SIPWAKE_REQUIRE_OPENSIPS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	o, err := StartOpenSIPS(ctx, OpenSIPSConfig{
		Node: "edge1", URL: "http://127.0.0.1:1/rpc", Token: "t", Hold: 7 * time.Second,
		Settings: map[string]string{"sipwake_strict": "i:1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Stop()
	for name, want := range map[string]string{"sipwake_hold_s": "7", "sipwake_strict": "1", "sipwake_token": "t"} {
		if out, err := o.Command(ctx, "shv_get", "name="+name); err != nil || !strings.Contains(out, `"`+want+`"`) && !strings.Contains(out, ":"+want) {
			t.Errorf("%s: %q, %v; want %s", name, out, err, want)
		}
	}
	if _, err := o.Command(ctx, "nonsense"); err == nil {
		t.Error("an unknown command succeeded")
	}
	pid := o.cmd.Process.Pid
	if n := len(group(t, pid)); n < 5 {
		t.Errorf("%d processes, want OpenSIPS' many", n)
	}
	o.Stop()
	if left := group(t, pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := StartOpenSIPS(ctx, OpenSIPSConfig{Node: "bad", Script: "nonsense\n"}); err == nil || !strings.Contains(err.Error(), "parse error") {
		t.Errorf("a bad script: %v", err)
	}
}

func TestRedis(t *testing.T) {
	ctx := need(t, "redis-server")
	dir := t.TempDir()
	r, err := StartRedis(ctx, RedisConfig{Dir: dir, Options: []string{"--appendonly", "yes"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	if err := r.ready(ctx); err != nil {
		t.Error(err)
	}
	r.Kill()
	if err := r.ready(ctx); err == nil {
		t.Error("answers after it was killed")
	}
	if err := r.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a dead child: %v", err)
	}
	if _, err := os.Stat(r.Log()); err != nil {
		t.Errorf("the log of a caller's directory is gone: %v", err)
	}
	var g Group
	g.Add(r)
	g.Stop()
	g.Stop()
}

// A service is ready when it says so, and not before.
func TestSipwakeIsReadyWhenItSaysSo(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "service")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\"\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := asked.Add(1); r.URL.Path != "/readyz" || n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	c := SipwakeConfig{Program: program, Config: "x.yml", Operations: strings.TrimPrefix(s.URL, "http://"), Dir: dir}
	p, err := StartSipwake(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	if got := p.LogTail(); got != "serve --config x.yml\n" {
		t.Errorf("log is %q", got)
	}
	c.Program = "/bin/false"
	s.Config.Handler = http.NotFoundHandler()
	if _, err = StartSipwake(t.Context(), c); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v", err)
	}
	c.Program = filepath.Join(dir, "none")
	if _, err = StartSipwake(t.Context(), c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c.Program = program
	if _, err = StartSipwake(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("SIPWAKE_CACHE", t.TempDir())
	if _, err := StartKamailio(t.Context(), KamailioConfig{Node: "n"}); !errors.Is(err, ErrMissing) {
		t.Errorf("kamailio: %v", err)
	}
	if _, err := StartRedis(t.Context(), RedisConfig{}); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "make setup") {
		t.Errorf("redis: %v", err)
	}
}

// No child outlives a parent that is killed.
func TestChildrenDieWithTheirParent(t *testing.T) {
	need(t, "kamailio")
	ctx := need(t, "redis-server")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(exe)
	parent.Env = append(os.Environ(), orphanMaker+"="+t.TempDir())
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for lines := bufio.NewScanner(out); len(pids) < 2 && lines.Scan(); {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(lines.Text())
		}
		pids = append(pids, pid)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	if len(pids) < 2 {
		t.Fatal("the children did not start")
	}
	for _, pid := range pids {
		for len(group(t, pid)) > 0 {
			select {
			case <-ctx.Done():
				t.Fatalf("still there: %v", group(t, pid))
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func makeOrphans() int {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	dir := os.Getenv(orphanMaker)
	k, err := StartKamailio(ctx, KamailioConfig{Node: "orphan", Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	r, err := StartRedis(ctx, RedisConfig{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("%d\n%d\n", k.cmd.Process.Pid, r.cmd.Process.Pid)
	<-ctx.Done() // killed long before
	return 1
}

// group lists the living processes of a process group.
func group(t *testing.T, pgid int) (pids []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // ended in the meantime
		}
		// pid (name) state ppid pgrp ...
		fields := strings.Fields(string(b[strings.LastIndex(string(b), ")")+1:]))
		if len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(pgid) {
			pids = append(pids, path)
		}
	}
	return pids
}

// A port that is chosen for a program stays free until it takes it: it is none that the
// system gives to outgoing connections.
func TestFreePort(t *testing.T) {
	for range 100 {
		port, err := FreePort("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if port >= 32768 {
			t.Errorf("port %d is one for outgoing connections", port)
		}
	}
	if _, err := FreePort("192.0.2.1"); err == nil {
		t.Error("a port of another machine is free")
	}
}
