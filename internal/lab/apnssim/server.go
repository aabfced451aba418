// Package apnssim is a simulated Apple Push Notification service: HTTP/2 over
// TLS with a certificate authority of its own, Apple's checks of credential,
// headers, token and payload, and any failure on demand. It is stricter than
// Apple in one thing: a push without apns-expiration is refused, because Apple
// would store it for 30 days.
package apnssim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/lab/apnssim/labca"
	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/recorder"
	"github.com/sipwake/sipwake/internal/secret"
)

// Options of a Server. The zero Options are an eager server without latency.
type Options struct {
	// Address to listen on; default 127.0.0.1:0.
	Address string
	// CA issues the server's certificate and those of MakeCertificate; default
	// a new one. Two servers with the same CA can stand for the two
	// environments.
	CA *labca.CA
	// Latency is how long every answer takes.
	Latency time.Duration
	// MaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS; default 1000.
	MaxStreams int
	// KnownTokens: only tokens given to AddToken are this environment's.
	KnownTokens bool
	// MinTokenAge: a team's provider token that changes sooner earns 429
	// TooManyProviderTokenUpdates; zero means never.
	MinTokenAge time.Duration
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
	url      string
	http     *http.Server
	served   chan struct{}
	closing  chan struct{}
	stop     func()
	keys     keyring
	devices  sync.Map // token → *device
	all      device   // for those without a script
	recorder recorder.Recorder[Push]

	mu    sync.Mutex
	conns map[*conn]struct{}
	total int
}

// Start listens and serves until Close.
func Start(o Options) (*Server, error) {
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 1000
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Record == 0 {
		o.Record = 1000
	}
	if o.CA == nil {
		ca, err := labca.New("sipwake lab APNs")
		if err != nil {
			return nil, err
		}
		o.CA = ca
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen as APNs: %w", err)
	}
	host, _, _ := net.SplitHostPort(listener.Addr().String()) // it is a TCP address
	cert, err := o.CA.Server(host, "localhost")
	if err != nil {
		_ = listener.Close() // the other error counts
		return nil, err
	}
	s := &Server{
		options: o, ca: o.CA, url: "https://" + listener.Addr().String(),
		served: make(chan struct{}), closing: make(chan struct{}),
		recorder: recorder.Recorder[Push]{Most: o.Record}, conns: make(map[*conn]struct{}),
	}
	s.stop = sync.OnceFunc(func() { close(s.closing) })
	s.serve(listener, cert)
	return s, nil
}

func (s *Server) serve(listener net.Listener, cert tls.Certificate) {
	var http2 http.Protocols
	http2.SetHTTP2(true)
	s.http = &http.Server{
		Handler:           s,
		Protocols:         &http2,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: s.options.MaxStreams},
		ReadHeaderTimeout: 10 * time.Second,
		// A client that goes away in the handshake is nothing to report.
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnContext: s.connContext,
		ConnState:   s.connState,
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{cert},
			ClientAuth:   tls.VerifyClientCertIfGiven,
			ClientCAs:    s.ca.Pool(),
		},
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

// URL is the endpoint for clients, "https://127.0.0.1:port".
func (s *Server) URL() string { return s.url }

// CA is the certificate, in PEM, that clients must trust.
func (s *Server) CA() []byte { return s.ca.PEM() }

// conn is a client's connection.
type conn struct {
	net   net.Conn
	id    int
	muted atomic.Bool
	// unrelated: every provider token is told to be of another key than the
	// connection's first.
	unrelated atomic.Bool
}

type connKey struct{}

func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total++
	sc := &conn{net: c, id: s.total}
	s.conns[sc] = struct{}{}
	return context.WithValue(ctx, connKey{}, sc)
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sc := range s.conns {
		if sc.net == c {
			delete(s.conns, sc)
		}
	}
}

// Connections tells how many connections are open and how many there ever were.
func (s *Server) Connections() (open, ever int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.total
}

// Mute makes the connections of now never answer another push, though they stay
// open and answer PINGs.
func (s *Server) Mute() {
	s.each(func(c *conn) { c.muted.Store(true) })
}

// Unrelate makes the connections of now refuse every provider token: as if their
// first push had been signed with another key.
func (s *Server) Unrelate() {
	s.each(func(c *conn) { c.unrelated.Store(true) })
}

// Drop closes the connections of now without a word.
func (s *Server) Drop() {
	s.each(func(c *conn) { _ = c.net.Close() }) // closed is closed
}

// GoAway sends GOAWAY on the connections of now and closes them; what is under
// way on them is declared not processed.
func (s *Server) GoAway() { s.each((*conn).goAway) }

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// goAway writes the frame of RFC 9113 section 6.8 past the HTTP server, which
// would only ever end a connection after it has answered everything.
func (c *conn) goAway() {
	const reason = `{"reason":"Shutdown"}`
	frame := append([]byte{0, 0, 8 + byte(len(reason)), 0x7, 0, 0, 0, 0, 0},
		0, 0, 0, 0, // last stream: none
		0, 0, 0, 0) // NO_ERROR
	_, _ = c.net.Write(append(frame, reason...)) // the client may be gone
	_ = c.net.Close()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.options.Clock().UTC().Format(http.TimeFormat))
	c, _ := r.Context().Value(connKey{}).(*conn)
	token, ok := strings.CutPrefix(r.URL.Path, "/3/device/")
	leak.Tokens(token, strings.TrimPrefix(r.Header.Get("Authorization"), "bearer "))
	p := Push{
		At: time.Now(), Token: secret.NewToken(token), Connection: c.id,
		Topic: r.Header.Get("apns-topic"), PushType: r.Header.Get("apns-push-type"),
		Priority: r.Header.Get("apns-priority"), Expiration: r.Header.Get("apns-expiration"),
		CollapseID: r.Header.Get("apns-collapse-id"),
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return // the client has gone
	}
	p.Payload = body
	if c.muted.Load() {
		s.silence(r)
		return
	}
	switch {
	case !ok || strings.Contains(token, "/"):
		s.refuse(w, &p, Behaviour{Status: http.StatusNotFound, Reason: "BadPath"})
		return
	case r.Method != http.MethodPost:
		s.refuse(w, &p, Behaviour{Status: http.StatusMethodNotAllowed, Reason: "MethodNotAllowed"})
		return
	}
	if c.unrelated.Load() {
		s.refuse(w, &p, refusal(http.StatusForbidden, "UnrelatedKeyIdInToken"))
		return
	}
	if b := s.check(r, &p, token, len(body)); b.Status != 0 {
		s.refuse(w, &p, b)
		return
	}
	d := s.device(token)
	b := s.behaviour(d)
	if b.Fault != None {
		s.tell(p)
	}
	if !s.wait(r, s.options.Latency+b.Delay) || !s.act(w, r, c, &p, b) {
		return
	}
	p.Status = http.StatusOK
	s.record(p)
	w.Header().Set("apns-id", uuid.NewString())
	w.WriteHeader(http.StatusOK)
	// The phone may be slower than Apple's answer is.
	_ = http.NewResponseController(w).Flush()            // the client may be gone
	expires, _ := strconv.ParseInt(p.Expiration, 10, 64) // check has read it
	if now := (stored{body, r.Header, time.Unix(expires, 0)}); !d.keep(now, p.Topic) {
		d.deliver(now)
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

func (s *Server) silence(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.closing:
	}
}
