package chaos

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/labca"
)

// relay sits between sipwake and a push service. It can break connections in ways that
// the service cannot.
type relay struct {
	listener net.Listener
	target   string
	foreign  tls.Certificate // of an authority that nobody trusts
	mode     atomic.Int32
	work     sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// What a relay does.
const (
	passOn    int32 = iota
	resetAll        // connections are reset, new ones too
	blackHole       // connections are accepted but never answered
	badTLS          // a certificate that nobody trusts
)

func startRelay(target string) (*relay, error) {
	ca, err := labca.New("somebody else")
	if err != nil {
		return nil, err
	}
	cert, err := ca.Server("127.0.0.1", "localhost")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot listen as a relay: %w", err)
	}
	r := &relay{listener: l, target: target, foreign: cert, conns: make(map[net.Conn]struct{})}
	r.work.Add(1)
	go r.serve()
	return r, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

// set changes what happens to new connections, and ends the current ones.
func (r *relay) set(mode int32) {
	r.mode.Store(mode)
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		reset(c)
	}
}

// reset closes a connection with a TCP reset.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // it is closed anyway
	}
	_ = c.Close()
}

func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	_ = r.listener.Close()
	r.set(resetAll)
	r.work.Wait()
}

func (r *relay) serve() {
	defer r.work.Done()
	for {
		c, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // too many files: others close theirs
			continue
		}
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			reset(c)
			continue
		}
		r.conns[c] = struct{}{}
		r.work.Add(1)
		r.mu.Unlock()
		go func() {
			defer r.work.Done()
			defer r.forget(c)
			r.handle(c)
		}()
	}
}

func (r *relay) forget(c net.Conn) {
	_ = c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *relay) handle(c net.Conn) {
	switch r.mode.Load() {
	case resetAll:
		reset(c)
	case blackHole:
		_, _ = io.Copy(io.Discard, c)
	case badTLS:
		_ = tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{r.foreign}}).Handshake()
	default:
		r.pass(c)
	}
}

func (r *relay) pass(c net.Conn) {
	out, err := net.Dial("tcp", r.target)
	if err != nil {
		reset(c)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(c, out)
		_ = c.Close()
	}()
	_, _ = io.Copy(out, c)
	_ = out.Close()
	<-done
}
