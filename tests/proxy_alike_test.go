package tests

import (
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestField08Alike: two phones with equal data are still two phones.
func TestField08Alike(t *testing.T) {
	t.Parallel()
	alike := func(options ...option) func(*scenario) {
		return func(s *scenario) {
			d, e := s.phone(options...), s.phone(options...)
			s.registered(d)
			time.Sleep(1100 * time.Millisecond) // a location may count in seconds
			s.registered(e)
			c := s.calls()
			must(d.WaitInvite(s.ctx))(s)
			must(e.WaitInvite(s.ctx))(s)
			c.cancels()
		}
	}
	onEveryProxy(t, table{name: "alike", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"both ask what is served":         alike(params(";pn-provider")),
		"both have an app that is nobody": alike(header("X-MPUSH", "i:org.example.other:none")),
	}})
}

// TestField03Hangs: a sipwake that accepts no connection delays no phone for long.
func TestField03Hangs(t *testing.T) {
	t.Parallel()
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) {
			s := table{proxy: proxyConfig{URL: unconnectable(t), Hold: 30 * time.Second, SipwakeTimeout: 500 * time.Millisecond}}.
				start(t, kind).scenario(t)
			waited := 0
			for range 20 {
				s.nextUser()
				d := s.phone(params(apnsParams(s.newToken())), answers)
				began := time.Now()
				s.registered(d)
				if time.Since(began) > 400*time.Millisecond {
					waited++
				}
				s.calls().talks(d)
			}
			// The first one finds out, and then one a second.
			if waited > 15 {
				t.Errorf("%d of 20 REGISTERs waited", waited)
			}
		})
	}
}

// unconnectable returns the URL of a server that neither accepts nor refuses connections,
// because its queue is full.
func unconnectable(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	loopback := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := syscall.Bind(fd, loopback); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for full := false; !full; {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if full = err != nil; !full {
			t.Cleanup(func() { c.Close() })
		}
	}
	return "http://" + address + "/rpc"
}
