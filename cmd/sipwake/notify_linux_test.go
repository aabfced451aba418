package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is the end of the socket that systemd has.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// listenAsSystemd opens a socket and has what is started from now on notify it.
func listenAsSystemd(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "")
	t.Setenv("WATCHDOG_PID", "")
	return &manager{t, conn}
}

// next returns the next notification.
func (m *manager) next() string {
	m.t.Helper()
	s, ok := m.within(patience)
	if !ok {
		m.t.Fatal("no notification came")
	}
	return s
}

// within is next with a patience of its own; ok is false if nothing came.
func (m *manager) within(d time.Duration) (s string, ok bool) {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	return string(buf[:n]), err == nil
}

// expect reads one notification for each pattern.
func (m *manager) expect(patterns ...string) {
	m.t.Helper()
	for _, p := range patterns {
		if s := m.next(); !regexp.MustCompile("^(?:" + p + ")$").MatchString(s) {
			m.t.Fatalf("want %q, got %q", p, s)
		}
	}
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

// Ready, two reloads of which one fails, and the end; no watchdog unless asked for.
func TestNotifyLife(t *testing.T) {
	m := listenAsSystemd(t)
	s := serve(t, configured(t))
	m.expect("READY=1\nSTATUS=Serving")
	const reloading = `RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=.*`
	before := monotonic(t)
	s.signal(syscall.SIGHUP)
	said := m.next()
	match := regexp.MustCompile("^" + reloading + "$").FindStringSubmatch(said)
	if match == nil {
		t.Fatalf("reloading: %q", said)
	}
	if at, err := strconv.ParseInt(match[1], 10, 64); err != nil || at < before || at > monotonic(t) {
		t.Errorf("the reload began at %s, it was asked for at %d", match[1], before)
	}
	m.expect("READY=1\nSTATUS=Serving")
	edit(t, s.dir, "url: http", "uri: http")
	s.signal(syscall.SIGHUP)
	m.expect(reloading, "READY=1\nSTATUS=Serving with the old configuration.*")
	s.signal(syscall.SIGTERM)
	m.expect("STOPPING=1\nSTATUS=.*")
	if status := s.status(); status != 0 {
		t.Errorf("status %d", status)
	}
	if s, ok := m.within(time.Millisecond); ok {
		t.Errorf("after the end: %q", s)
	}
}

// A service that does not come up says nothing, so that systemd sees it fail.
func TestNotifyNotReady(t *testing.T) {
	m := listenAsSystemd(t)
	dir := configured(t)
	edit(t, dir, "url: http", "uri: http")
	if _, _, status := sipwake(t, dir, "serve", "--config", "sipwake.yml"); status != 1 {
		t.Errorf("status %d", status)
	}
	if s, ok := m.within(time.Millisecond); ok {
		t.Errorf("it said %q", s)
	}
}

// The sign of life says that the service can serve, not that a timer runs: it
// stays away while no connection can be made, and comes back.
func TestWatchdog(t *testing.T) {
	m := listenAsSystemd(t)
	t.Setenv("WATCHDOG_USEC", "600000")
	s := serve(t, configured(t))
	m.expect("READY=1\n.*", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1")

	var was unix.Rlimit
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}, nil); err != nil {
		t.Fatal(err)
	}
	s.waitFor("the service does not answer")
	for _, ok := m.within(time.Millisecond); ok; _, ok = m.within(time.Millisecond) { // from before
	}
	s.waitFor("the service does not answer")
	s.waitFor("the service does not answer")
	if said, ok := m.within(time.Millisecond); ok {
		t.Errorf("it cannot serve and says %q", said)
	}
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
		t.Fatal(err)
	}
	m.expect("WATCHDOG=1", "WATCHDOG=1")
}

// Without its Redis the service is ready and alive for systemd, which could not
// help by restarting it, and not ready for who asks it.
func TestNotifyWithoutStore(t *testing.T) {
	m := listenAsSystemd(t)
	t.Setenv("WATCHDOG_USEC", "6000000")
	dir := configured(t)
	edit(t, dir, "store:", "store:\n  type: redis\n  redis:\n    addresses: [\""+freePort(t)+"\"]\n  fallback:\n    spool: "+dir+"/spool")
	s := serve(t, dir)
	m.expect("READY=1\n.*", "WATCHDOG=1", "WATCHDOG=1")
	res, err := http.Get("http://" + s.operations + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready without a store: %d", res.StatusCode)
	}
}

// With TLS and a token, too, the RPC listener is seen to live.
func TestWatchdogTLS(t *testing.T) {
	m := listenAsSystemd(t)
	t.Setenv("WATCHDOG_USEC", "6000000")
	dir := configured(t)
	edit(t, dir, "rpc:\n", "rpc:\n  token_files: [rpc.token]\n  cert_file: cert.pem\n  key_file: key.pem\n")
	serve(t, dir)
	m.expect("READY=1\n.*", "WATCHDOG=1", "WATCHDOG=1")
}

// A socket that is not there keeps nobody from running.
func TestNotifyNoSocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	s := serve(t, configured(t))
	if !strings.Contains(s.said(), "cannot open systemd's socket") {
		s.waitFor("cannot open systemd's socket")
	}
}

func TestWatchdogInterval(t *testing.T) {
	f := func(usec, pid string, want time.Duration, bad bool) {
		t.Helper()
		t.Setenv("WATCHDOG_USEC", usec)
		t.Setenv("WATCHDOG_PID", pid)
		if got, err := watchdogInterval(); got != want || bad != (err != nil) {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, %v", usec, pid, got, err)
		}
	}
	f("", "", 0, false)
	f("30000000", "", 30*time.Second, false)
	f("30000000", strconv.Itoa(os.Getpid()), 30*time.Second, false)
	f("30000000", "1", 0, false)
	f("0", "", 0, true)
	f("soon", "", 0, true)
}

// Operators' commands and the service find systemd's credentials.
func TestCredentialsDirectory(t *testing.T) {
	dir := configured(t)
	edit(t, dir, "secret_file: node.secret", "secret_file: ${CREDENTIALS_DIRECTORY}/sip1")
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	_, stderr, status := sipwake(t, dir, "check", "sipwake.yml")
	if !strings.Contains(stderr, "nodes[0].secret_file: cannot read secret: open ") || status != 1 {
		t.Errorf("status %d: %s", status, stderr)
	}
	write(t, os.Getenv("CREDENTIALS_DIRECTORY"), "sip1", []byte("hunter2"))
	if _, stderr, status := sipwake(t, dir, "check", "sipwake.yml"); status != 0 {
		t.Errorf("status %d: %s", status, stderr)
	}
	serve(t, dir)
}
