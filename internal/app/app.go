// Package app assembles the parts of sipwake: New builds them, Start runs them, Reload
// replaces what a new configuration may change, Stop ends them in order.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sipwake/sipwake/internal/cluster"
	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/metric"
	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/page"
	"github.com/sipwake/sipwake/internal/relay"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/fallback"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/acrobits"
	"github.com/sipwake/sipwake/rpc"
)

// App is one sipwake. Several can run in one process. Call Start, Reload and Stop from
// one goroutine.
type App struct {
	version string
	log     *slog.Logger
	reg     *prometheus.Registry
	began   time.Time

	cfg        *config.Config // at the start
	store      store.Backend
	fallback   *fallback.Store // nil if the store is always available, or by configuration
	dispatcher *push.Dispatcher
	service    *wake.Service
	outbox     *outbox.Service
	upper      *upper.Service
	nodes      *nodes
	traces     *trace.Keeper
	history    *page.History
	rpc        *rpc.Server
	operations *operations
	load       *listener // nil without one
	reporting  *listener // nil without one
	reports    atomic.Pointer[acrobits.Reports]
	password   atomic.Pointer[secret.Text] // of the pages

	reportsCert atomic.Pointer[tls.Certificate] // of the listener for reports; nil without TLS
	reloads     reloadMetrics
	certs       *certificates
	started     chan struct{} // closed by Start

	rpcListener net.Listener
	served      chan error // the result of the RPC server's Serve
	failed      chan error // the error of what ended without Stop
	stopping    atomic.Bool
	teardown    []step // run in reverse order
}

// step is one part of the teardown.
type step struct {
	name string
	stop func(context.Context) error
}

// New builds an App from a configuration that config.Load accepted. It reads key files
// and opens the embedded store, but does no network I/O. Call Stop even if the App was
// not started.
func New(cfg *config.Config, version string, log *slog.Logger) (*App, error) {
	parts, err := prepare(cfg, log)
	if err != nil {
		return nil, err
	}
	a := &App{version: version, log: log, reg: prometheus.NewRegistry(), began: time.Now(), cfg: cfg,
		served: make(chan error, 1), failed: make(chan error, 4), started: make(chan struct{})}
	a.reg.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(version))
	a.reloads = newReloadMetrics(a.reg)
	a.certs = newCertificates(cfg, a.reg)
	a.reports.Store(parts.reports)
	a.reportsCert.Store(parts.reportsCert)

	if a.store, err = openStore(cfg, log, a.reg); err != nil {
		return nil, problem(cfg, storeField(cfg), err)
	}
	a.onStop("store", func(context.Context) error { return a.store.Close() })
	rules, err := a.openFallback(log)
	if err != nil {
		return nil, errors.Join(err, a.Stop(context.Background()))
	}
	a.dispatcher = push.NewDispatcher(log, a.reg)
	if cfg.Operations.Exemplars {
		a.dispatcher.AddExemplars()
	}
	if err := a.dispatcher.SetApps(parts.apps); err != nil {
		return nil, errors.Join(err, a.Stop(context.Background()))
	}
	kept, err := a.openTraces(log)
	if err != nil {
		return nil, errors.Join(err, a.Stop(context.Background()))
	}
	a.nodes = newNodes(log, a.reg)
	exporters, err := a.exporters()
	if err != nil {
		return nil, errors.Join(err, a.Stop(context.Background()))
	}
	a.newService(parts, rules, kept, exporters)
	relayed := relay.New(a.dispatcher, a.store, a.reg)
	a.onStop("relayed pushes", func(context.Context) error { relayed.Stop(); return nil })
	a.onStop("pushes", a.dispatcher.Stop)
	backend := rpc.Backend{Wakes: a.service, Outbox: a.outbox, Upper: a.upper, Relay: relayed, Traces: a.traces.Find, Info: a.info, Stats: a.stats, Backup: a.backup()}
	if a.rpc, err = rpc.New(cfg.RPC, backend, log, a.reg); err != nil {
		return nil, errors.Join(err, a.Stop(context.Background()))
	}
	a.service.AddLoad("rpc", a.rpc.Load)
	a.operations = newOperations(a.metrics(), a.store, a.rpcReacts, limit.NewLog(log))
	a.history = page.NewHistory()
	a.password.Store(&parts.password)
	a.operations.addPages(a.pages(), func() secret.Text { return *a.password.Load() })
	return a, nil
}

// newService builds the rules and the parts that use them.
func (a *App) newService(p parts, rules wake.Store, kept trace.Store, exporters []trace.Exporter) {
	inForce, _ := a.nodes.set(p.nodes)
	a.onStop("nodes", func(context.Context) error { a.nodes.close(); return nil })
	timelines := trace.NewLog(a.cfg.Wake.Traces)
	var stopTraces, stopExport func(context.Context)
	a.onStop("writing of traces", func(ctx context.Context) error { // after everything that adds to them
		stopTraces(ctx)
		stopExport(ctx)
		return nil
	})
	deps := wake.Deps{Store: rules, Sweeper: a.store, History: a.store, Pusher: a.dispatcher, Traces: timelines, Log: a.log, Metrics: a.reg,
		Exemplars: metric.Exemplars(a.cfg.Operations.Exemplars)}
	shared, ok := a.store.(cluster.Store)
	if !ok { // the embedded store belongs to one instance
		a.service = wake.New(a.cfg.Wake, inForce, deps)
		a.onStop("signals", a.service.Stop)
	} else {
		others := cluster.New(shared, a.log, a.reg)
		deps.Others = others
		a.service = wake.New(a.cfg.Wake, inForce, deps)
		others.SetService(a.service)
		a.onStop("signals", a.service.Stop)
		a.share(others)
	}
	instance := a.service.Instance()
	stopExport = exportTraces(trace.NewExport(timelines, exporters, instance, ok, a.log, a.reg))
	stopTraces = a.keepTraces(trace.NewKeeper(timelines, kept, instance, a.log, a.reg))
	a.service.SetApps(a.dispatcher.Apps())
	a.outbox = outbox.New(a.store, a.service, a.service.SendTTL, a.log)
	a.upper = upper.New(a.store, bindings{a.service}, a.store, a.log, a.reg)
	a.upper.Configure(a.cfg.Upper, p.upper, registrars(inForce))
}

func (a *App) onStop(name string, f func(context.Context) error) {
	a.teardown = append(a.teardown, step{name, f})
}

// Start opens the listeners and serves. It returns when requests are answered.
func (a *App) Start() error {
	if err := a.operations.start(a.cfg.Operations.Listen, a.ended("operations listener")); err != nil {
		return problem(a.cfg, "operations.listen", err)
	}
	// First in the teardown list, so closed last: monitoring can watch the drain.
	a.teardown = append([]step{{"operations listener", a.operations.stop}}, a.teardown...)
	a.startLoops()
	close(a.started)
	l, err := a.rpc.Listen()
	if err != nil {
		return problem(a.cfg, "rpc.listen", err)
	}
	a.rpcListener = l
	ended := a.ended("RPC listener")
	go func() {
		err := a.rpc.Serve(l)
		if !a.stopping.Load() {
			ended(err)
		}
		a.served <- err
	}()
	a.onStop("rpc requests", func(ctx context.Context) error {
		err := a.rpc.Stop(ctx)
		_ = l.Close() // if Serve has not begun, Stop did not know the listener
		return errors.Join(err, <-a.served)
	})
	if err := errors.Join(a.startLoad(), a.startReports()); err != nil {
		return err
	}
	a.operations.ready.Store(true)
	a.log.Info("sipwake started", "version", a.version, "rpc", l.Addr().String(),
		"operations", a.operations.addr(), "store", a.cfg.Store.Type)
	return nil
}

// Failed delivers the error of a server that ended before Stop. Nothing restarts it: the
// process should exit.
func (a *App) Failed() <-chan error { return a.failed }

// ended returns a function that reports the end of a listener.
func (a *App) ended(what string) func(error) {
	return func(err error) {
		if err == nil {
			err = net.ErrClosed
		}
		a.failed <- fmt.Errorf("the %s has ended: %w", what, err)
	}
}

// share makes the App cooperate with other instances from Start until all pushes are
// sent. Only then may others adopt the wakes that are open here.
func (a *App) share(others *cluster.Cluster) {
	ctx, cancel := context.WithCancel(context.Background())
	var sharing sync.WaitGroup
	sharing.Go(func() {
		select {
		case <-a.started:
			others.Run(ctx)
		case <-ctx.Done():
		}
	})
	a.onStop("work with other instances", func(context.Context) error {
		cancel()
		sharing.Wait()
		return nil
	})
}

// outboxEvery is how often to check the outbox for messages to retry.
const outboxEvery = time.Second

// upperEvery is how often to check for due registrations at PBXs.
const upperEvery = time.Second

// startLoops starts the background loops: refresh wake-ups and the outbox.
func (a *App) startLoops() {
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { a.service.Refresh(ctx) })
	loops.Go(func() { a.nodes.run(ctx) })
	loops.Go(func() { a.sample(ctx) })
	loops.Go(func() { a.askVerdicts(ctx) })
	loops.Go(func() { a.outbox.Run(ctx, outboxEvery) })
	loops.Go(func() { a.upper.Run(ctx, upperEvery) })
	if a.fallback != nil {
		loops.Go(func() { a.fallback.Run(ctx, a.service.Replayed) })
	}
	a.onStop("loops", func(context.Context) error {
		cancel()
		loops.Wait()
		return nil
	})
}

// RPCAddr returns the address of the RPC listener, after Start.
func (a *App) RPCAddr() string { return a.rpcListener.Addr().String() }

// OperationsAddr returns the address of the operations listener, after Start.
func (a *App) OperationsAddr() string { return a.operations.addr() }

// Reload activates a new configuration: apps and their credentials, nodes, rules,
// tokens, networks, certificates and the password of the pages. If any part of it is
// unusable, nothing changes. Listeners, the store and the log need a restart; Reload logs
// their differences from the start.
func (a *App) Reload(cfg *config.Config) error {
	err := a.reload(cfg)
	a.reloads.done(err)
	return err
}

func (a *App) reload(cfg *config.Config) error {
	parts, err := prepare(cfg, a.log)
	if err != nil {
		return err
	}
	for _, field := range needRestart(a.cfg, cfg) {
		a.log.Warn("configuration change needs a restart", "field", field)
	}
	applyRPC, err := a.rpc.Prepare(cfg.RPC)
	if err != nil {
		return problem(cfg, "rpc", err)
	}
	if err := a.dispatcher.SetApps(parts.apps); err != nil {
		return err
	}
	applyRPC()
	a.password.Store(&parts.password)
	inForce, closeOld := a.nodes.set(parts.nodes)
	a.service.Configure(cfg.Wake, inForce)
	a.upper.Configure(cfg.Upper, parts.upper, registrars(inForce))
	a.service.SetApps(a.dispatcher.Apps())
	if parts.reports != nil {
		a.reports.Store(parts.reports)
	}
	if parts.reportsCert != nil {
		a.reportsCert.Store(parts.reportsCert)
	}
	closeOld()
	a.certs.read(cfg)
	a.log.Info("configuration reloaded")
	return nil
}

// ReloadFailed records in the metrics that a new configuration could not be loaded.
func (a *App) ReloadFailed(err error) { a.reloads.done(err) }

// stopGrace is how long each part may take to stop when the ctx of Stop has already
// ended. It is enough for a part that has nothing left to finish.
const stopGrace = 200 * time.Millisecond

// Stop stops accepting requests, finishes queued work until ctx ends, and closes
// everything. It may be called more than once.
func (a *App) Stop(ctx context.Context) error {
	a.stopping.Store(true)
	if a.operations != nil {
		a.operations.ready.Store(false)
	}
	var errs []error
	for i := len(a.teardown) - 1; i >= 0; i-- {
		if err := stopStep(ctx, a.teardown[i]); err != nil {
			errs = append(errs, fmt.Errorf("cannot stop %s: %w", a.teardown[i].name, err))
		}
	}
	a.teardown = nil
	return errors.Join(errs...)
}

func stopStep(ctx context.Context, s step) error {
	if ctx.Err() != nil {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		ctx = grace
	}
	return s.stop(ctx)
}

// info returns the result of service.info.
func (a *App) info() any {
	ids := a.service.Nodes()
	sort.Strings(ids)
	return struct {
		Version   string         `json:"version"`
		Instance  string         `json:"instance"`
		GoVersion string         `json:"go_version"`
		UptimeS   int64          `json:"uptime_s"`
		Store     string         `json:"store"`
		Nodes     []string       `json:"nodes"`
		States    []nodeInfo     `json:"node_states"`
		Apps      []push.AppInfo `json:"apps"`
	}{a.version, a.service.Instance(), runtime.Version(), int64(time.Since(a.began).Seconds()), a.cfg.Store.Type, ids, a.nodes.info(), a.dispatcher.Apps()}
}
