// Package sim has the common parts of the simulated push services: an HTTPS server with
// its own certificate authority, its connections, scripts of behaviours, faults
// instead of answers, and what it was sent.
package sim

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
	"strings"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/lab/labca"
)

// Config of a Server.
type Config struct {
	// Service is its name in errors, in its certificate authority and, in small letters,
	// in the name of the CA's file.
	Service string
	// Address to listen on; default 127.0.0.1:0.
	Address string
	// Names are host names of the server beside its address and localhost.
	Names []string
	// CA issues the server's certificate; default a new one.
	CA *labca.CA
	// MaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS.
	MaxStreams int
	// HTTP2 allows HTTP/2 only, like APNs, and accepts client certificates of the CA.
	HTTP2 bool
	// Mark creates the Mark of a new Conn; it may be nil.
	Mark func() any
}

// Server is an HTTPS server of the lab. Safe for concurrent use once it serves.
type Server struct {
	ca      *labca.CA
	file    string // of the CA
	host    string
	listen  net.Listener
	http    *http.Server
	served  chan struct{}
	closing chan struct{}
	stop    func()
	mark    func() any

	mu    sync.Mutex
	conns map[net.Conn]*Conn
	total int
}

// Conn is a client's connection.
type Conn struct {
	net.Conn
	ID   int // 1 for the first connection, and so on
	Mark any // the service's own data
}

// Listen opens the listener. Call Serve next.
func Listen(c Config) (*Server, error) {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if c.CA == nil {
		ca, err := labca.New("sipwake lab " + c.Service)
		if err != nil {
			return nil, err
		}
		c.CA = ca
	}
	listener, err := net.Listen("tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen as %s: %w", c.Service, err)
	}
	host, _, _ := net.SplitHostPort(listener.Addr().String()) // always a TCP address
	cert, err := c.CA.Server(append([]string{host, "localhost"}, c.Names...)...)
	if err != nil {
		_ = listener.Close() // the other error counts
		return nil, err
	}
	s := &Server{
		ca: c.CA, file: strings.ToLower(strings.ReplaceAll(c.Service, " ", "")) + "-ca.pem", host: listener.Addr().String(), listen: listener, mark: c.Mark,
		served: make(chan struct{}), closing: make(chan struct{}), conns: make(map[net.Conn]*Conn),
	}
	s.stop = sync.OnceFunc(func() { close(s.closing) })
	s.http = &http.Server{
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: c.MaxStreams},
		ReadHeaderTimeout: 10 * time.Second,
		// Do not log clients that close the connection during the handshake.
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnContext: s.connContext,
		ConnState:   s.connState,
		TLSConfig:   &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}},
	}
	if c.HTTP2 {
		s.http.Protocols = new(http.Protocols)
		s.http.Protocols.SetHTTP2(true)
		s.http.TLSConfig.ClientAuth, s.http.TLSConfig.ClientCAs = tls.VerifyClientCertIfGiven, c.CA.Pool()
	}
	return s, nil
}

// Serve answers requests with h, in its own goroutines, until Close.
func (s *Server) Serve(h http.Handler) {
	s.http.Handler = h
	go func() {
		defer close(s.served)
		if err := s.http.ServeTLS(s.listen, "", ""); !errors.Is(err, http.ErrServerClosed) {
			panic("BUG: the simulator stopped serving: " + err.Error())
		}
	}()
}

// Close ends all connections and waits for the server to end.
func (s *Server) Close() {
	s.stop()
	_ = s.http.Close() // an error of the listener does not matter
	<-s.served
}

// Host returns the server's "127.0.0.1:port".
func (s *Server) Host() string { return s.host }

// URL returns the endpoint for clients, "https://127.0.0.1:port".
func (s *Server) URL() string { return "https://" + s.host }

// Authority returns the CA that issued the server's certificate.
func (s *Server) Authority() *labca.CA { return s.ca }

// CA returns the certificate, in PEM, that clients must trust.
func (s *Server) CA() []byte { return s.ca.PEM() }

// WriteCA writes the certificate that clients must trust into dir.
func (s *Server) WriteCA(dir string) (file string, err error) {
	file = filepath.Join(dir, s.file)
	if err := os.WriteFile(file, s.CA(), 0o600); err != nil {
		return "", fmt.Errorf("cannot write CA: %w", err)
	}
	return file, nil
}

type connKey struct{}

func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total++
	conn := &Conn{Conn: c, ID: s.total}
	if s.mark != nil {
		conn.Mark = s.mark()
	}
	s.conns[c] = conn
	return context.WithValue(ctx, connKey{}, conn)
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Connections returns how many connections are open and how many there ever were.
func (s *Server) Connections() (open, ever int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.total
}

// EachConn calls f with each current connection.
func (s *Server) EachConn(f func(*Conn)) {
	s.mu.Lock()
	all := make([]*Conn, 0, len(s.conns))
	for _, c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// Drop closes the current connections without notice.
func (s *Server) Drop() {
	s.EachConn(func(c *Conn) { _ = c.Close() }) // it is closed in any case
}

// ConnOf returns the connection that the request came over.
func ConnOf(r *http.Request) *Conn { return r.Context().Value(connKey{}).(*Conn) }

// Wait waits for d and reports whether the client is still connected.
func (s *Server) Wait(r *http.Request, d time.Duration) bool {
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

// Silence waits until the client has gone or the server closes.
func (s *Server) Silence(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.closing:
	}
}
