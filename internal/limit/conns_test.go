package limit

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bounded is a listener of Conns, and its accepted connections by their clients'
// addresses.
type bounded struct {
	t        *testing.T
	conns    *Conns
	listener net.Listener
	accepted map[string]net.Conn
}

func bound(t *testing.T, limits ConnLimits) *bounded {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{t, NewConns(limits, NewLog(slog.New(slog.DiscardHandler))), nil, map[string]net.Conn{}}
	b.listener = b.conns.Listen(l)
	t.Cleanup(func() {
		b.listener.Close()
		for _, c := range b.accepted {
			c.Close()
		}
	})
	return b
}

// dial connects from an address of this machine's own network.
func (b *bounded) dial(from string) net.Conn {
	b.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", b.listener.Addr().String())
	if err != nil {
		b.t.Skip(err) // not a system with 127.0.0.0/8
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

// open connects and waits until it is accepted.
func (b *bounded) open(from string) net.Conn {
	b.t.Helper()
	c := b.dial(from)
	s, err := b.listener.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.accepted[c.LocalAddr().String()] = s
	return c
}

// of returns the server's end of a connection.
func (b *bounded) of(c net.Conn) net.Conn { return b.accepted[c.LocalAddr().String()] }

func (b *bounded) closed(what string, c net.Conn) {
	b.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		b.t.Errorf("%s: %v, want it closed", what, err)
	}
}

// alive checks that the server has not closed it: what it would have sent is there
// at once.
func (b *bounded) alive(what string, c net.Conn) {
	b.t.Helper()
	if _, err := b.of(c).Write([]byte("x")); err != nil {
		b.t.Errorf("%s: %v", what, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		b.t.Errorf("%s: %v", what, err)
	}
}

// One client's connections displace each other, and nobody else's.
func TestConnsPerClient(t *testing.T) {
	b := bound(t, ConnLimits{Most: 10, Unproven: 8, PerClient: 2})
	other := b.open("127.0.0.9")
	first, second := b.open("127.0.0.1"), b.open("127.0.0.1")
	b.conns.Done(b.of(first)) // it was used since: the other one waits longer
	third := b.open("127.0.0.1")
	b.closed("the one that waited longest", second)
	b.conns.Begin(b.of(first))
	b.conns.Prove(b.of(third))
	fourth, fifth := b.open("127.0.0.1"), b.open("127.0.0.1")
	b.closed("the one that waited", fourth)
	b.alive("one that is worked on", first)
	b.alive("one that is proven", third)
	b.alive("the newest", fifth)
	b.alive("another client's", other)
	if got, want := b.conns.Stats(), (ConnStats{Open: 4, Displaced: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if b.conns.Begin(b.of(second)) {
		t.Error("a request of a closed connection is worked on")
	}
}

// Strangers from everywhere leave room for those that prove themselves.
func TestConnsOfStrangers(t *testing.T) {
	b := bound(t, ConnLimits{Most: 6, Unproven: 3, PerClient: 3, Refusal: []byte("no room")})
	strangers := []net.Conn{b.open("127.0.0.1"), b.open("127.0.0.2"), b.open("127.0.0.3")}
	var ours []net.Conn
	for range 5 {
		c := b.open("127.0.0.9")
		b.conns.Prove(b.of(c))
		ours = append(ours, c)
	}
	b.closed("the first stranger", strangers[0])
	b.closed("the second", strangers[1])
	for _, c := range ours {
		b.alive("ours", c)
	}
	next := b.open("127.0.0.4")
	b.closed("the last stranger", strangers[2])
	b.conns.Prove(b.of(next))
	last := b.open("127.0.0.9")
	b.closed("the proven one that waited longest", ours[0])

	for _, c := range append(ours[1:], next, last) {
		b.conns.Begin(b.of(c))
	}
	refused := b.dial("127.0.0.9")
	accepted := make(chan error, 1)
	go func() {
		_, err := b.listener.Accept()
		accepted <- err
	}()
	if text, _ := io.ReadAll(refused); string(text) != "no room" {
		t.Errorf("where all are busy: %q", text)
	}
	if got, want := b.conns.Stats(), (ConnStats{Open: 6, Displaced: 4, Refused: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	b.listener.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	for _, c := range append(ours, next, last) {
		b.of(c).Close()
		b.of(c).Close()
	}
	if s := b.conns.Stats(); s.Open != 0 || len(b.conns.clients) != 0 || b.conns.unproven != 0 {
		t.Errorf("what is closed still counts: %+v", s)
	}
}

// A server that stops closes what was never used, and takes nothing more.
func TestConnsCloseUnused(t *testing.T) {
	b := bound(t, ConnLimits{Most: 6, Unproven: 6, PerClient: 6})
	used, unused := b.open("127.0.0.1"), b.open("127.0.0.1")
	b.conns.Begin(b.of(used))
	b.conns.Done(b.of(used))
	b.conns.CloseUnused()
	b.closed("unused", unused)
	b.alive("used", used)
	late := b.dial("127.0.0.1")
	go b.listener.Accept()
	b.closed("one that comes late", late)
}

// failing is a listener with errors before each connection.
type failing struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	return f.Listener.Accept()
}

// What accept(2) may say of the network or of exhaustion ends nothing.
func TestAcceptErrorsPass(t *testing.T) {
	b := bound(t, ConnLimits{Most: 6, Unproven: 6, PerClient: 6})
	idle := b.open("127.0.0.1")
	f := &failing{Listener: b.listener.(*listener).Listener, errs: []error{syscall.ECONNABORTED, syscall.ENOMEM, syscall.ENOBUFS,
		syscall.ENFILE, syscall.EMFILE, syscall.EPROTO, syscall.EPERM}}
	l := b.conns.Listen(f)
	c := b.dial("127.0.0.2")
	s, err := l.Accept()
	if err != nil || s.RemoteAddr().String() != c.LocalAddr().String() {
		t.Fatalf("%v, %v", s, err)
	}
	s.Close()
	b.closed("one that waits, for its descriptor", idle)

	f.errs = []error{syscall.EINVAL}
	if _, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a listener that is no more: %v", err)
	}
	for range 1000 { // more than the test has time for
		f.errs = append(f.errs, syscall.EMFILE)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "closed") {
		t.Errorf("closed in a pause: %v", err)
	}
}

func TestClient(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"fe80::1%eth0": "fe80::"} {
		if got := Client(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
