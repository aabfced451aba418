// Package webpushsim is a simulated Web Push service with the browsers behind
// it: RFC 8030 over HTTPS with a certificate authority of its own, the checks of
// VAPID (RFC 8292) that real services make, payloads decrypted as the browser
// does (RFC 8291), and any failure on demand.
package webpushsim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim/labca"
	"github.com/sipwake/sipwake/internal/lab/recorder"
	"github.com/sipwake/sipwake/internal/secret"
)

// Options of a Server. The zero Options are an eager server without latency.
type Options struct {
	// Address to listen on; default 127.0.0.1:0.
	Address string
	// Names are host names of the server beside its address and localhost.
	Names []string
	// CA issues the server's certificate; default a new one.
	CA *labca.CA
	// Latency is how long every answer takes.
	Latency time.Duration
	// Clock tells the time by which credentials are judged, in Date headers too;
	// default time.Now.
	Clock func() time.Time
	// Record is how many of the last pushes Pushes returns; default 1000, less
	// than zero for none.
	Record int
	// OnPush is called with each push, in the push's own goroutine, before it is
	// answered. The Status is 0 where a fault takes the place of an answer. It must
	// not block.
	OnPush func(Push)
}

// Server is a running simulator. Safe for concurrent use.
type Server struct {
	options  Options
	ca       *labca.CA
	host     string
	http     *http.Server
	served   chan struct{}
	closing  chan struct{}
	stop     func()
	browsers sync.Map // path → *browser
	all      script   // for those without a script
	recorder recorder.Recorder[Push]

	requests atomic.Uint64
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	opened   uint64
}

// Start listens and serves until Close.
func Start(o Options) (*Server, error) {
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Record == 0 {
		o.Record = 1000
	}
	if o.CA == nil {
		ca, err := labca.New("sipwake lab Web Push")
		if err != nil {
			return nil, err
		}
		o.CA = ca
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen as Web Push service: %w", err)
	}
	host, _, _ := net.SplitHostPort(listener.Addr().String()) // it is a TCP address
	cert, err := o.CA.Server(append([]string{host, "localhost"}, o.Names...)...)
	if err != nil {
		_ = listener.Close() // the other error counts
		return nil, err
	}
	s := &Server{
		options: o, ca: o.CA, host: listener.Addr().String(),
		served: make(chan struct{}), closing: make(chan struct{}),
		recorder: recorder.Recorder[Push]{Most: o.Record}, conns: make(map[net.Conn]struct{}),
	}
	s.stop = sync.OnceFunc(func() { close(s.closing) })
	s.serve(listener, cert)
	return s, nil
}

func (s *Server) serve(listener net.Listener, cert tls.Certificate) {
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.push),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
		ReadHeaderTimeout: 10 * time.Second,
		// A client that goes away in the handshake is nothing to report.
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnContext: s.connContext,
		ConnState:   s.connState,
		TLSConfig:   &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}},
	}
	go func() {
		defer close(s.served)
		if err := s.http.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			panic("BUG: the simulator stopped serving: " + err.Error())
		}
	}()
}

// Close ends all connections and waits for the server to end.
func (s *Server) Close() {
	s.stop()
	_ = s.http.Close() // only the listener's error, of which nothing follows
	<-s.served
}

// Host is the server's "127.0.0.1:port", as a configuration allows it.
func (s *Server) Host() string { return s.host }

// CA is the certificate, in PEM, that clients must trust.
func (s *Server) CA() []byte { return s.ca.PEM() }

// WriteCA writes the certificate that clients must trust into dir.
func (s *Server) WriteCA(dir string) (file string, err error) {
	file = filepath.Join(dir, "webpush-ca.pem")
	if err := os.WriteFile(file, s.CA(), 0o600); err != nil {
		return "", fmt.Errorf("cannot write CA: %w", err)
	}
	return file, nil
}

type connKey struct{}

func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	s.opened++
	return context.WithValue(ctx, connKey{}, c)
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Connections tells how many connections are open, and how many were opened
// since the start.
func (s *Server) Connections() (open int, ever uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.opened
}

// Requests tells how many requests have arrived.
func (s *Server) Requests() uint64 { return s.requests.Load() }

// push is the whole service: every path is a subscription's or nobody's.
func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.options.Clock().UTC().Format(http.TimeFormat))
	s.requests.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return // the client has gone
	}
	p := Push{At: time.Now(), Protocol: r.Proto, Header: r.Header.Clone()}
	v, ok := s.browsers.Load(r.URL.Path)
	if !ok {
		s.refuse(w, &p, Behaviour{Status: http.StatusNotFound})
		return
	}
	b := v.(*browser)
	p.Token = secret.NewToken(b.url)
	m, problem := b.receive(r, body, "https://"+r.Host, s.options.Clock())
	if problem.Status != 0 {
		s.refuse(w, &p, problem)
		return
	}
	p.Message = m
	next := s.behaviour(b)
	if next.Fault != None {
		s.tell(p)
	}
	if !s.wait(r, s.options.Latency+next.Delay) || !s.act(w, r, &p, next) {
		return
	}
	p.Status = http.StatusCreated
	s.record(p)
	w.Header().Set("Location", "https://"+s.host+"/message/"+random(16))
	w.Header().Set("TTL", strconv.Itoa(m.TTL))
	w.WriteHeader(http.StatusCreated)
	if f := b.onDeliver.Load(); f != nil {
		// The browser may be slower than the service's answer is.
		_ = http.NewResponseController(w).Flush() // the client may be gone
		(*f)(m)
	}
}

// wait waits and reports whether the client is still there.
func (s *Server) wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.closing:
	}
	return false
}
