// Package apnssim is a simulated Apple Push Notification service: HTTP/2 over
// TLS with its own certificate authority, Apple's checks of credential,
// headers, token and payload, and any failure on demand. It is stricter than
// Apple in one thing: a push without apns-expiration is refused, because Apple
// would store it for 30 days.
package apnssim

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/lab/labca"
	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/sim"
	"github.com/sipwake/sipwake/internal/secret"
)

// Options of a Server. The zero Options are an eager server without latency.
type Options struct {
	// Address to listen on; default 127.0.0.1:0.
	Address string
	// Names are host names of the server beside its address and localhost, such as
	// Apple's for clients that know no other.
	Names []string
	// CA issues the server's certificate and those of MakeCertificate; default a new
	// one. Two servers with the same CA can simulate the two environments.
	CA *labca.CA
	// Latency is how long every answer takes.
	Latency time.Duration
	// MaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS; default 1000.
	MaxStreams int
	// KnownTokens: only tokens given to AddToken belong to this environment.
	KnownTokens bool
	// MinTokenAge: a team that changes its provider token sooner gets 429
	// TooManyProviderTokenUpdates; zero means never.
	MinTokenAge time.Duration
	// Clock returns the time for checks of credentials and for Date headers; default
	// time.Now.
	Clock func() time.Time
	// Record is how many of the last pushes Pushes returns; default 1000, none if
	// negative.
	Record int
	// OnPush is called with each push, in the push's own goroutine, before it is
	// answered. The Status is 0 if a fault replaces the answer. OnPush must not
	// block.
	OnPush func(Push)
}

// Server is a running simulator. Safe for concurrent use.
type Server struct {
	*sim.Service[Push, Behaviour]
	sim.Devices[device]
	options Options
	keys    keyring
}

// Start listens and serves until Close.
func Start(o Options) (*Server, error) {
	if o.MaxStreams == 0 {
		o.MaxStreams = 1000
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	service, err := sim.NewService[Push, Behaviour](sim.Config{Service: "APNs", Address: o.Address, Names: o.Names, CA: o.CA, MaxStreams: o.MaxStreams,
		HTTP2: true, Mark: func() any { return new(mark) }}, o.Record, o.OnPush)
	if err != nil {
		return nil, err
	}
	s := &Server{Service: service, Devices: sim.Devices[device]{Known: o.KnownTokens}, options: o}
	s.Serve(s)
	return s, nil
}

// mark is the state of a connection.
type mark struct {
	muted atomic.Bool
	// unrelated: every provider token is refused as signed with another key than the
	// connection's first one.
	unrelated atomic.Bool
}

func markOf(c *sim.Conn) *mark { return c.Mark.(*mark) }

// Mute stops the current connections from answering pushes. They stay open and answer
// PINGs.
func (s *Server) Mute() {
	s.EachConn(func(c *sim.Conn) { markOf(c).muted.Store(true) })
}

// Unrelate makes the current connections refuse every provider token, as if their first
// push had been signed with another key.
func (s *Server) Unrelate() {
	s.EachConn(func(c *sim.Conn) { markOf(c).unrelated.Store(true) })
}

// GoAway sends GOAWAY on the current connections and closes them. It declares their open
// requests as not processed.
func (s *Server) GoAway() { s.EachConn(goAway) }

// goAway writes the GOAWAY frame (RFC 9113 section 6.8) itself, because the HTTP server
// ends a connection only after it has answered everything.
func goAway(c *sim.Conn) {
	const reason = `{"reason":"Shutdown"}`
	frame := append([]byte{0, 0, 8 + byte(len(reason)), 0x7, 0, 0, 0, 0, 0},
		0, 0, 0, 0, // last stream: none
		0, 0, 0, 0) // NO_ERROR
	_, _ = c.Write(append(frame, reason...)) // the client may have gone
	_ = c.Close()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.options.Clock().UTC().Format(http.TimeFormat))
	c := sim.ConnOf(r)
	token, ok := strings.CutPrefix(r.URL.Path, "/3/device/")
	leak.Tokens(token, strings.TrimPrefix(r.Header.Get("Authorization"), "bearer "))
	p := Push{
		At: time.Now(), Token: secret.NewToken(token), Connection: c.ID,
		Topic: r.Header.Get("apns-topic"), PushType: r.Header.Get("apns-push-type"),
		Priority: r.Header.Get("apns-priority"), Expiration: r.Header.Get("apns-expiration"),
		CollapseID: r.Header.Get("apns-collapse-id"),
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return // the client has gone
	}
	p.Payload = body
	if markOf(c).muted.Load() {
		s.Silence(r)
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
	if markOf(c).unrelated.Load() {
		s.refuse(w, &p, refusal(http.StatusForbidden, "UnrelatedKeyIdInToken"))
		return
	}
	if b := s.check(r, &p, token, len(body)); b.Status != 0 {
		s.refuse(w, &p, b)
		return
	}
	d := s.Device(token)
	b := s.Behaviour(&d.script)
	if b.Fault != None {
		s.Tell(p)
	}
	if !s.Wait(r, s.options.Latency+b.Delay) || !s.act(w, r, &p, b) {
		return
	}
	p.Status = http.StatusOK
	s.Record(p, true)
	w.Header().Set("apns-id", uuid.NewString())
	w.WriteHeader(http.StatusOK)
	// The phone may be slower than Apple's answer.
	_ = http.NewResponseController(w).Flush()            // the client may have gone
	expires, _ := strconv.ParseInt(p.Expiration, 10, 64) // check has validated it
	if now := (stored{body, r.Header, time.Unix(expires, 0)}); !d.keep(now, p.Topic) {
		d.deliver(now)
	}
}
