// Package fcmsim is a simulated Firebase Cloud Messaging: the OAuth 2.0 token endpoint and
// messages:send of the HTTP v1 API over HTTPS with its own certificate authority, Google's
// checks of account, access token and message, and any failure on demand.
package fcmsim

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/labca"
	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/sim"
	"github.com/sipwake/sipwake/internal/secret"
)

// Options of a Server. The zero Options are an eager server without latency.
type Options struct {
	// Address to listen on; default 127.0.0.1:0.
	Address string
	// CA issues the server's certificate; default a new one.
	CA *labca.CA
	// Latency is how long every answer of messages:send takes.
	Latency time.Duration
	// MaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS; default 100, as Google's.
	MaxStreams int
	// TokenLifetime is the lifetime of access tokens; default 1h.
	TokenLifetime time.Duration
	// KnownTokens: only registration tokens given to AddToken are registered.
	KnownTokens bool
	// Clock returns the time for checks of credentials and for Date headers; default
	// time.Now.
	Clock func() time.Time
	// Delivery has the answers of the FCM Data API, by Android app ID. The API is not
	// enabled for other apps.
	Delivery map[string]string
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
	options  Options
	accounts sync.Map // client email → account
	subjects sync.Map // subject's token → project
	subject  atomic.Pointer[string]
	access   sync.Map // access token → grant
	oauth    sim.Script[Behaviour]

	requests, grants atomic.Uint64
}

type grant struct {
	project string
	ends    time.Time
}

// Start listens and serves until Close.
func Start(o Options) (*Server, error) {
	if o.MaxStreams == 0 {
		o.MaxStreams = 100
	}
	if o.TokenLifetime == 0 {
		o.TokenLifetime = time.Hour
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	service, err := sim.NewService[Push, Behaviour](sim.Config{Service: "FCM", Address: o.Address, CA: o.CA, MaxStreams: o.MaxStreams}, o.Record, o.OnPush)
	if err != nil {
		return nil, err
	}
	s := &Server{Service: service, Devices: sim.Devices[device]{Known: o.KnownTokens}, options: o}
	s.Serve(s.routes())
	return s, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /v1/projects/{project}/{method}", s.send)
	mux.HandleFunc("POST /sts/v1/token", s.exchange)
	mux.HandleFunc("GET /v1beta1/projects/{project}/androidApps/{app}/deliveryData", s.deliveryData)
	mux.HandleFunc("POST /v1/projects/-/serviceAccounts/{account}", s.impersonate)
	return mux
}

// Requests returns how many requests for messages:send have arrived, and how many
// access tokens were granted.
func (s *Server) Requests() (sends, grants uint64) { return s.requests.Load(), s.grants.Load() }

// EndAccess makes all current access tokens invalid.
func (s *Server) EndAccess() { s.access.Clear() }

// send serves projects.messages.send.
func (s *Server) send(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return // the client has gone
	}
	p := Push{At: time.Now(), Protocol: r.Proto, Body: body}
	if b := s.authorize(r); b.Status != 0 {
		s.refuse(w, &p, b)
		return
	}
	m, b := parse(body)
	if m != nil {
		p.Token, p.Message = secret.NewToken(m.Token), m
		leak.Tokens(m.Token)
	}
	if b.Status != 0 {
		s.refuse(w, &p, b)
		return
	}
	d := s.Device(m.Token)
	if d == nil {
		s.refuse(w, &p, Unregistered())
		return
	}
	b = s.Behaviour(&d.script)
	if b.Fault != None {
		s.Tell(p)
	}
	if !s.Wait(r, s.options.Latency+b.Delay) || !s.act(w, r, &p, b) {
		return
	}
	p.Status = http.StatusOK
	s.Record(p, true)
	writeJSON(w, http.StatusOK, map[string]string{
		"name": "projects/" + r.PathValue("project") + "/messages/0:" + randomHex(8),
	})
	if f := d.onDeliver.Load(); f != nil {
		// The phone may be slower than Google's answer.
		_ = http.NewResponseController(w).Flush() // the client may have gone
		(*f)(m)
	}
}

// authorize checks path and access token.
func (s *Server) authorize(r *http.Request) Behaviour {
	if r.PathValue("method") != "messages:send" {
		return Behaviour{Status: http.StatusNotFound, Code: "NOT_FOUND"}
	}
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	v, ok := s.access.Load(text)
	if !ok || time.Now().After(v.(grant).ends) {
		return Behaviour{Status: http.StatusUnauthorized, Code: "UNAUTHENTICATED"}
	}
	if v.(grant).project != r.PathValue("project") {
		return Behaviour{Status: http.StatusForbidden, Code: "PERMISSION_DENIED"}
	}
	return Behaviour{}
}

// deliveryData serves the FCM Data API.
func (s *Server) deliveryData(w http.ResponseWriter, r *http.Request) {
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	v, ok := s.access.Load(text)
	answer, enabled := s.options.Delivery[r.PathValue("app")]
	if !ok || v.(grant).project != r.PathValue("project") || !enabled {
		writeJSON(w, http.StatusForbidden, map[string]any{"error": map[string]any{"status": "PERMISSION_DENIED",
			"message": "FCM Data API has not been used in project before or it is disabled."}})
		return
	}
	writeJSON(w, http.StatusOK, json.RawMessage(answer))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
