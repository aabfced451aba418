// Package rpc is the JSON-RPC 2.0 interface of sipwake over HTTP: POST /rpc,
// single requests, batches and notifications. It checks who calls and what is
// sent, and leaves the rest to package wake. Only this package knows fasthttp.
package rpc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"

	"github.com/sipwake/sipwake/limit"
	"github.com/sipwake/sipwake/outbox"
	"github.com/sipwake/sipwake/trace"
	"github.com/sipwake/sipwake/wake"
)

// Server answers JSON-RPC requests. Safe for concurrent use.
type Server struct {
	service *wake.Service
	outbox  *outbox.Service
	traces  func(ctx context.Context, q trace.Query, part string) trace.Found
	info    func() any
	stats   func() (any, error)
	log     *slog.Logger
	metrics *metrics
	table   map[string]method
	http    *fasthttp.Server
	parsers fastjson.ParserPool
	unused  unused
	gate    gate
	rates   *limit.Buckets[netip.Addr] // of the clients

	settings atomic.Pointer[settings]
}

// settings is what a reload swaps.
type settings struct {
	Config
	access *access
	tls    *tls.Config // nil without TLS
	rate   limit.Rate  // of one client
}

// maxClients is how many clients have a rate of their own; further ones share one.
const maxClients = 4096

// Backend is what the methods work with. All of it is required.
type Backend struct {
	Wakes  *wake.Service
	Outbox *outbox.Service
	// Traces is trace.Keeper's Find.
	Traces func(ctx context.Context, q trace.Query, part string) trace.Found
	// Info and Stats make the results of service.info and service.stats.
	Info  func() any
	Stats func() (any, error)
}

// New returns a Server that does not listen yet.
func New(cfg Config, b Backend, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	s := &Server{service: b.Wakes, outbox: b.Outbox, traces: b.Traces, info: b.Info, stats: b.Stats, log: log, rates: limit.New[netip.Addr](maxClients)}
	apply, err := s.Prepare(cfg)
	if err != nil {
		return nil, err
	}
	apply()
	s.table = s.methods()
	s.gate.most = int64(cfg.InFlight)
	s.metrics = newMetrics(s.table, reg)
	s.http = &fasthttp.Server{
		Handler:               s.handle,
		MaxRequestBodySize:    cfg.MaxBody,
		Concurrency:           cfg.Connections,
		ReadTimeout:           10 * time.Second, // a whole request; slow senders are dropped
		WriteTimeout:          10 * time.Second,
		IdleTimeout:           5 * time.Minute, // proxies keep connections open
		NoDefaultServerHeader: true,
		NoDefaultDate:         true,
		CloseOnShutdown:       true,
		Logger:                quiet{log},
		ErrorHandler:          badRequest,
		ConnState:             s.unused.track,
	}
	return s, nil
}

// Prepare reads a new configuration, which apply then takes: tokens, networks,
// certificates, deadline, rate and the limit on batches. The listening address,
// whether it speaks TLS, and the limits on bodies and connections stay as they
// were at the start.
func (s *Server) Prepare(cfg Config) (apply func(), err error) {
	prepared, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	if old := s.settings.Load(); old != nil {
		if old.tls == nil && prepared.access.cas != nil {
			return nil, errors.New("client_ca_file: the listener speaks no TLS until a restart")
		}
		if prepared.tls == nil {
			prepared.tls = old.tls // the listener goes on speaking TLS
		}
	}
	return func() { s.settings.Store(prepared) }, nil
}

// Check reads the files that cfg names and tells what is wrong with them.
func Check(cfg Config) error {
	_, err := prepare(cfg)
	return err
}

func prepare(cfg Config) (*settings, error) {
	a, err := newAccess(cfg)
	if err != nil {
		return nil, err
	}
	st := &settings{Config: cfg, access: a, rate: limit.Per(time.Second, cfg.RateLimit)}
	if cfg.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file: cannot load certificate and key: %w", err)
		}
		st.tls = a.tlsConfig(cert)
	}
	return st, nil
}

// Load is how full the places for requests are, from 0 to 1.
func (s *Server) Load() float64 { return s.gate.load() }

// Listen opens the configured address.
func (s *Server) Listen() (net.Listener, error) {
	st := s.settings.Load()
	l, err := net.Listen("tcp", st.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	if st.tls == nil {
		return l, nil
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.settings.Load().tls, nil },
	}), nil
}

// Serve answers requests on l until Stop.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Stop closes the listener, lets the requests under way finish until ctx ends,
// and closes the connections.
func (s *Server) Stop(ctx context.Context) error {
	s.unused.close()
	if err := s.http.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("cannot finish RPC requests: %w", err)
	}
	return nil
}

func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	if ctx.ConnRequestNum() == 1 {
		s.unused.remove(ctx.Conn())
	}
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	st := s.settings.Load()
	peer, _ := netip.AddrFromSlice(ctx.RemoteIP())
	peer = peer.Unmap()
	switch {
	case !st.access.fromNetwork(peer):
		ctx.SetStatusCode(fasthttp.StatusForbidden)
		ctx.SetConnectionClose()
		return
	case string(ctx.Path()) != "/rpc":
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	case !ctx.IsPost():
		ctx.Response.Header.Set("Allow", "POST")
		ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		return
	}
	ctx.SetContentType("application/json")
	if !s.rates.Take(client(peer), st.rate, time.Now()) { // before the token: it is not to be guessed fast
		s.metrics.limited.Inc()
		s.log.Debug("request refused", "err", "too many requests", "peer", peer.String())
		ctx.Response.Header.Set("Retry-After", "1")
		s.refuse(ctx, &rpcError{Code: codeOverloaded, Message: "too many requests"})
		return
	}
	if !st.access.allows(ctx) {
		s.log.Debug("request refused", "err", "not authorised", "peer", peer.String())
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
		s.refuse(ctx, &rpcError{Code: codeNotAuthorised, Message: "not authorised"})
		return
	}
	s.answer(ctx, st, peer)
}

// refuse answers a request that never got to a method.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, e *rpcError) {
	s.metrics.count(unknownMethod, e, 0)
	ctx.SetStatusCode(httpStatus(e))
	ctx.Response.SetBodyRaw(appendResponse(nil, nil, nil, e))
}

// httpStatus gives proxies that look no further than the HTTP status the word
// that they must go on alone.
func httpStatus(e *rpcError) int {
	switch {
	case e == nil:
		return fasthttp.StatusOK
	case e.Code == codeNotAuthorised:
		return fasthttp.StatusUnauthorized
	case e.Code == codeOverloaded, e.Code == codeNoStore:
		return fasthttp.StatusServiceUnavailable
	}
	return fasthttp.StatusOK
}

func (s *Server) answer(ctx *fasthttp.RequestCtx, st *settings, peer netip.Addr) {
	trusted := st.access.proves() || peer.IsLoopback()
	body := ctx.PostBody()
	if tooDeep(body) {
		s.refuse(ctx, &rpcError{Code: codeInvalid, Message: fmt.Sprintf("invalid request: nested deeper than %d levels", maxDepth)})
		return
	}
	parser := s.parsers.Get()
	defer s.parsers.Put(parser)
	v, err := parser.ParseBytes(body)
	if err != nil {
		// The parser's error quotes the text, which may hold a token.
		s.refuse(ctx, &rpcError{Code: codeParse, Message: "parse error: the body is not JSON"})
		return
	}
	if v.Type() != fastjson.TypeArray {
		dst, e, reply := s.one(ctx.Response.Body()[:0], v, st, trusted)
		if !reply {
			ctx.SetStatusCode(fasthttp.StatusNoContent)
			return
		}
		ctx.SetStatusCode(httpStatus(e))
		ctx.Response.SetBody(dst)
		return
	}
	items := v.GetArray()
	if len(items) > 1 {
		s.rates.Owe(client(peer), min(len(items), st.MaxBatch)-1, st.rate, time.Now())
	}
	s.batch(ctx, items, st, trusted)
}

func (s *Server) batch(ctx *fasthttp.RequestCtx, items []*fastjson.Value, st *settings, trusted bool) {
	if len(items) == 0 || len(items) > st.MaxBatch {
		s.refuse(ctx, &rpcError{Code: codeInvalid, Message: fmt.Sprintf("invalid request: a batch holds 1 to %d requests", st.MaxBatch)})
		return
	}
	dst := []byte{'['}
	for _, v := range items {
		before := len(dst)
		if before > 1 {
			dst = append(dst, ',')
		}
		var reply bool
		if dst, _, reply = s.one(dst, v, st, trusted); !reply {
			dst = dst[:before]
		}
	}
	if len(dst) == 1 {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return
	}
	ctx.Response.SetBodyRaw(append(dst, ']'))
}

// one answers one request and appends the response to dst; reply is false for a
// notification, which gets none.
func (s *Server) one(dst []byte, v *fastjson.Value, st *settings, trusted bool) (out []byte, e *rpcError, reply bool) {
	began := time.Now()
	req, e := parseRequest(v)
	var result []byte
	if e == nil {
		result, e = s.call(req, st.Deadline, trusted)
	}
	s.metrics.count(req.method, e, time.Since(began))
	if req.id == nil && (e == nil || e.Code != codeInvalid) {
		return dst, e, false
	}
	return appendResponse(dst, req.id, result, e), e, true
}

func (s *Server) call(req request, deadline time.Duration, trusted bool) ([]byte, *rpcError) {
	m := s.table[req.method]
	if m == nil {
		return nil, &rpcError{Code: codeNoMethod, Message: "method not found"}
	}
	if !trusted && onlyTrusted(req.method) {
		return nil, &rpcError{Code: codeNotAuthorised, Message: "not authorised: this method is for callers with a token or a client certificate, or on this machine"}
	}
	if !s.gate.enter(req.method) {
		return nil, &rpcError{Code: codeOverloaded, Message: "overloaded: too many requests are being worked on"}
	}
	defer s.gate.leave(req.method)
	if onlyTrusted(req.method) {
		deadline = max(deadline, bulkDeadline)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	res, err := m(ctx, newParams(req.params))
	if err == nil {
		var b []byte
		if b, err = json.Marshal(res); err == nil {
			return b, nil
		}
	}
	e := toError(err)
	switch e.Code {
	case codeInternal:
		s.log.Error("cannot answer request", "method", req.method, "err", err)
	case codeNoStore:
		s.log.Warn("cannot reach store", "method", req.method, "err", err)
	default:
		s.log.Debug("request refused", "method", req.method, "err", err)
	}
	return nil, e
}

// badRequest answers what is not a whole HTTP request.
func badRequest(ctx *fasthttp.RequestCtx, err error) {
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		ctx.SetStatusCode(fasthttp.StatusRequestEntityTooLarge)
		return
	}
	ctx.SetStatusCode(fasthttp.StatusBadRequest)
}

// quiet passes fasthttp's own complaints on as debug lines: they are about broken
// clients. Their arguments stay out, for they quote what was sent.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok && errors.Is(err, net.ErrClosed) {
			return
		}
	}
	q.log.Debug("http connection failed", "detail", format)
}
