package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/trace/homer"
	"github.com/sipwake/sipwake/internal/trace/otlp"
)

// openTraces returns the store of timelines, nil if they are not stored.
func (a *App) openTraces(log *slog.Logger) (trace.Store, error) {
	if a.cfg.Traces.Disabled {
		return nil, nil
	}
	if shared, ok := a.store.(*redis.Store); ok {
		return shared.Traces(a.cfg.Traces), nil
	}
	s, err := local.OpenTraces(local.TracesPath(a.cfg.Store.Local.Path), a.cfg.Traces, log)
	if err != nil {
		return nil, problem(a.cfg, "store.local.path", err)
	}
	a.onStop("traces", func(context.Context) error { return s.Close() })
	return s, nil
}

// keepTraces writes timelines to the store until the returned function is called.
func (a *App) keepTraces(k *trace.Keeper) (stop func(context.Context)) {
	a.traces = k
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() { k.Run(ctx) })
	return func(context.Context) {
		cancel()
		writing.Wait()
	}
}

// exporters returns the configured exporters.
func (a *App) exporters() (list []trace.Exporter, err error) {
	if a.cfg.Homer.Address != "" {
		e, err := homer.New(a.cfg.Homer, homer.Where{RPC: a.cfg.RPC.Listen, Node: a.nodes.address})
		if err != nil {
			return nil, problem(a.cfg, "homer", err)
		}
		list = append(list, e)
	}
	if a.cfg.OTLP.Endpoint != "" {
		e, err := otlp.New(a.cfg.OTLP, a.version)
		if err != nil {
			return nil, problem(a.cfg, "otlp", err)
		}
		list = append(list, e)
	}
	return list, nil
}

// checkExporters reads the files of the exporters.
func checkExporters(cfg *config.Config, problems *config.Problems) {
	if cfg.Homer.Address != "" && !problems.Has("homer") {
		_, err := homer.New(cfg.Homer, homer.Where{})
		problems.Add("homer", err)
	}
	if cfg.OTLP.Endpoint != "" && !problems.Has("otlp") {
		e, err := otlp.New(cfg.OTLP, "")
		problems.Add("otlp", err)
		if err == nil {
			problems.Add("otlp", e.Close())
		}
	}
}

// exportTraces exports timelines until the returned function is called. That function
// waits until the last ones are sent or ctx ends, but not for a system that does not
// answer.
func exportTraces(x *trace.Export) (stop func(context.Context)) {
	if x == nil {
		return func(context.Context) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	final, give := context.WithCancel(context.Background())
	var exporting sync.WaitGroup
	exporting.Go(func() { x.Run(ctx, final) })
	return func(until context.Context) {
		cancel()
		until, done := context.WithTimeout(until, lastExport)
		defer done()
		stopped := context.AfterFunc(until, give)
		exporting.Wait()
		stopped()
		give()
	}
}

// lastExport is how long the exit of the process waits for the last exports.
const lastExport = 3 * time.Second
