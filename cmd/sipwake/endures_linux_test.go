package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// status asks the operations listener; 0 is no answer.
func (s *service) ask(path string) (status int) {
	s.t.Helper()
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get("http://" + s.operations + path)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// answers reports whether RPC does.
func (s *service) answers() bool {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Post("http://"+s.rpc+"/rpc", "", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"service.info"}`))
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Strangers take every file descriptor, by either listener. When they are gone all
// is as before, and meanwhile the log says what is missing.
func TestServeOutlivesDescriptors(t *testing.T) {
	s := serve(t, configured(t))
	if err := unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 40, Max: 40}, nil); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{s.operations, s.rpc} {
		var conns []net.Conn
		for range 84 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		s.waitFor(`"msg":"cannot accept connections"`)
		for _, c := range conns {
			c.Close()
		}
		deadline := time.Now().Add(patience)
		for !s.answers() || s.ask("/healthz") != 200 || s.ask("/readyz") != 200 {
			if time.Now().After(deadline) {
				t.Fatalf("after the descriptors of %s were gone: RPC answers %v, /healthz %d, /readyz %d", addr, s.answers(), s.ask("/healthz"), s.ask("/readyz"))
			}
		}
	}
	for line := range strings.Lines(s.said()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a line of the log: %s", line)
		}
	}
	s.signal(os.Interrupt)
	if status := s.status(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// A service whose listener is gone for good says so and ends, that something may
// start it again.
func TestServeEndsWithItsListeners(t *testing.T) {
	for _, which := range []string{"RPC", "operations"} {
		t.Run(which, func(t *testing.T) {
			s := serve(t, configured(t))
			addr := s.rpc
			if which == "operations" {
				addr = s.operations
			}
			s.shut(addr)
			if status := s.status(); status != 1 {
				t.Errorf("status %d", status)
			}
			if said := s.said(); !strings.Contains(said, `"level":"ERROR","msg":"cannot go on serving"`) || !strings.Contains(said, which) {
				t.Errorf("it does not say why:\n%s", said)
			}
			for line := range strings.Lines(s.said()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("not a line of the log: %s", line)
				}
			}
		})
	}
}

// shut shuts down the service's socket that listens on addr, as nothing but the
// service itself can: by a copy of its descriptor.
func (s *service) shut(addr string) {
	s.t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		s.t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	pid := s.cmd.Process.Pid
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		s.t.Skip(err)
	}
	defer unix.Close(process)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range open {
		n, err := strconv.Atoi(f.Name())
		if err != nil {
			s.t.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(process, n, 0)
		if err != nil {
			s.t.Skip(err) // not allowed here
		}
		defer unix.Close(fd)
		listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil || listens == 0 {
			continue
		}
		if a, err := unix.Getsockname(fd); err == nil {
			if in, ok := a.(*unix.SockaddrInet4); ok && in.Port == port {
				if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
					s.t.Fatal(err)
				}
				return
			}
		}
	}
	s.t.Fatalf("nothing of the service listens on %s", addr)
}
