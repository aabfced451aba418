// Package webpushsim is a simulated Web Push service with the browsers behind
// it: RFC 8030 over HTTPS with its own certificate authority, the checks of
// VAPID (RFC 8292) that real services make, payloads decrypted as the browser
// does (RFC 8291), and any failure on demand.
package webpushsim

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/labca"
	"github.com/sipwake/sipwake/internal/lab/sim"
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
	options  Options
	browsers sync.Map // path → *browser

	requests atomic.Uint64
}

// Start listens and serves until Close.
func Start(o Options) (*Server, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	service, err := sim.NewService[Push, Behaviour](sim.Config{Service: "Web Push", Address: o.Address, Names: o.Names, CA: o.CA, MaxStreams: 100}, o.Record, o.OnPush)
	if err != nil {
		return nil, err
	}
	s := &Server{Service: service, options: o}
	s.Serve(http.HandlerFunc(s.push))
	return s, nil
}

// Requests returns how many requests have arrived.
func (s *Server) Requests() uint64 { return s.requests.Load() }

// push serves every path: that of a subscription, or of none.
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
	next := s.Behaviour(&b.script)
	if next.Fault != None {
		s.Tell(p)
	}
	if !s.Wait(r, s.options.Latency+next.Delay) || !s.act(w, r, &p, next) {
		return
	}
	p.Status = http.StatusCreated
	s.Record(p, true)
	w.Header().Set("Location", "https://"+s.Host()+"/message/"+random(16))
	w.Header().Set("TTL", strconv.Itoa(m.TTL))
	w.WriteHeader(http.StatusCreated)
	if f := b.onDeliver.Load(); f != nil {
		// The browser may be slower than the service's answer.
		_ = http.NewResponseController(w).Flush() // the client may have gone
		(*f)(m)
	}
}
