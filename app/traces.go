package app

import (
	"context"
	"log/slog"
	"sync"

	"github.com/sipwake/sipwake/store/local"
	"github.com/sipwake/sipwake/store/redis"
	"github.com/sipwake/sipwake/trace"
)

// openTraces returns where timelines are kept, nil if they are not.
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

// keepTraces writes timelines until the function that it returns is called.
func (a *App) keepTraces(k *trace.Keeper) (stop func()) {
	a.traces = k
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() { k.Run(ctx) })
	return func() {
		cancel()
		writing.Wait()
	}
}
