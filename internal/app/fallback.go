package app

import (
	"context"
	"log/slog"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/store/fallback"
	"github.com/sipwake/sipwake/internal/wake"
)

// openFallback returns the store as the rules see it. A store that is shared with other
// machines can be unavailable; then this machine does what it can.
func (a *App) openFallback(log *slog.Logger) (wake.Store, error) {
	c := a.cfg.Store
	if c.Type != config.StoreRedis || c.Fallback.Disabled {
		return a.store, nil
	}
	f, err := fallback.New(c.Fallback, a.store, a.store.Ping, log, a.reg)
	if err != nil {
		return nil, problem(a.cfg, "store.fallback", err)
	}
	a.fallback = f
	a.onStop("spool", func(context.Context) error { return f.Close() })
	return f, nil
}
