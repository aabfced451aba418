// Package rpc is the JSON-RPC 2.0 interface of sipwake over HTTP: POST /rpc,
// single requests, batches and notifications. It authenticates callers and checks
// requests; package wake does the rest. Only this package uses fasthttp.
package rpc

import (
	"context"
	"crypto/tls"
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

	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/relay"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

// Server answers JSON-RPC requests. Safe for concurrent use.
type Server struct {
	service *wake.Service
	outbox  *outbox.Service
	upper   *upper.Service
	relay   *relay.Service
	traces  func(ctx context.Context, q trace.Query, part string) trace.Found
	info    func() any
	stats   func() (any, error)
	backup  func(context.Context) (string, int64, error)
	log     *limit.Log
	debug   *slog.Logger
	metrics *metrics
	table   map[string]method
	http    *fasthttp.Server
	parsers fastjson.ParserPool
	conns   *limit.Conns
	gate    gate
	rates   *limit.Buckets[netip.Addr] // of the clients

	tenantRates *limit.Buckets[string] // by name

	settings atomic.Pointer[settings]
}

// settings holds what a reload replaces.
type settings struct {
	Config
	access *access
	tls    *tls.Config // nil without TLS
	rate   limit.Rate  // of one client
}

// maxClients is how many clients get their own rate limit. Further clients share one.
const maxClients = 4096

// Backend holds what the methods use. Every field except Backup is required.
type Backend struct {
	Wakes  *wake.Service
	Outbox *outbox.Service
	Upper  *upper.Service
	Relay  *relay.Service
	// Traces is trace.Keeper's Find.
	Traces func(ctx context.Context, q trace.Query, part string) trace.Found
	// Info and Stats return the results of service.info and service.stats.
	Info  func() any
	Stats func() (any, error)
	// Backup makes a backup of the store and returns its file and size. It is nil if
	// the store cannot back itself up.
	Backup func(ctx context.Context) (file string, bytes int64, err error)
}

// New returns a Server that is not listening yet.
func New(cfg Config, b Backend, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	s := &Server{service: b.Wakes, outbox: b.Outbox, upper: b.Upper, relay: b.Relay, traces: b.Traces, info: b.Info, stats: b.Stats, backup: b.Backup, log: limit.NewLog(log), debug: log, rates: limit.New[netip.Addr](maxClients), tenantRates: limit.New[string](maxTenants)}
	apply, err := s.Prepare(cfg)
	if err != nil {
		return nil, err
	}
	apply()
	s.table = s.methods()
	s.gate.most = int64(cfg.InFlight)
	s.conns = newConns(cfg, s.log)
	s.metrics = newMetrics(s.table, s.conns.Stats, reg)
	s.http = &fasthttp.Server{
		Handler:               s.handle,
		MaxRequestBodySize:    cfg.MaxBody,
		Concurrency:           1 << 20,          // conns sets the limit
		ReadTimeout:           10 * time.Second, // for a whole request, and until the first one begins
		WriteTimeout:          10 * time.Second,
		IdleTimeout:           5 * time.Minute, // proxies keep connections open
		NoDefaultServerHeader: true,
		NoDefaultDate:         true,
		CloseOnShutdown:       true,
		Logger:                quiet{log, s.log},
		ErrorHandler:          badRequest,
		ExpectHandler:         s.expects,

		DisablePreParseMultipartForm: true,
	}
	return s, nil
}

// Prepare reads a new configuration; apply then activates it: tokens, networks,
// certificates, deadline, rate limit and batch limit. A restart is needed to change
// the listening address, TLS on or off, and the limits on bodies and connections.
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
			prepared.tls = old.tls // the listener still uses TLS
		}
	}
	return func() { s.settings.Store(prepared) }, nil
}

// Check reads the files that cfg names and returns what is wrong with them.
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
	if cfg.ClientCertFile != "" { // used by the commands, which read it from here
		if _, err := tls.LoadX509KeyPair(cfg.ClientCertFile, cfg.ClientKeyFile); err != nil {
			return nil, fmt.Errorf("client_cert_file: cannot load certificate and key: %w", err)
		}
	}
	if cfg.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file: cannot load certificate and key: %w", err)
		}
		st.tls = a.tlsConfig(cert)
	}
	return st, nil
}

// Load returns how much of the request capacity is in use, from 0 to 1.
func (s *Server) Load() float64 { return s.gate.load() }

// newConns returns the connection limit. At least half of the connections are
// reserved for authenticated clients.
func newConns(cfg Config, log *limit.Log) *limit.Conns {
	limits := limit.ConnLimits{Most: cfg.Connections, Unproven: max(1, cfg.Connections/2), PerClient: cfg.ConnectionsPerClient}
	if cfg.CertFile == "" {
		limits.Refusal = []byte("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	}
	return limit.NewConns(limits, log)
}

// Listen opens the configured address.
func (s *Server) Listen() (net.Listener, error) {
	st := s.settings.Load()
	l, err := net.Listen("tcp", st.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	l = s.conns.Listen(l)
	if st.tls == nil {
		return l, nil
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.settings.Load().tls, nil },
	}), nil
}

// Serve answers requests on l, which Listen returned, until Stop. If it returns
// before Stop, the server no longer serves requests.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Stop closes the listener, waits for running requests until ctx ends, and closes
// the connections.
func (s *Server) Stop(ctx context.Context) error {
	defer s.log.Close()
	s.conns.CloseUnused()
	if err := s.http.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("cannot finish RPC requests: %w", err)
	}
	return nil
}
