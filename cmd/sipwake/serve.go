package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
)

type serveCmd struct {
	Config string        `short:"c" default:"${config}" help:"Configuration file (${default})." type:"path"`
	Drain  time.Duration `default:"20s" help:"How long to finish what is queued when told to stop (${default})."`
}

// Run serves until SIGTERM or SIGINT. SIGHUP reloads the configuration.
func (c *serveCmd) Run() error {
	// Before the first load, so that a SIGHUP during start-up does not end the process.
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(stop)

	cfg, err := loadConfig(c.Config)
	if err != nil {
		return err
	}
	log := newLogger(cfg.Log)
	redis.SetLogger(redisLog{log}) // it applies to the whole process
	limitMemory(os.DirFS("/"), log)
	a, err := app.New(cfg, buildVersion(), log)
	if err != nil {
		return err
	}
	if err := a.Start(); err != nil {
		return errors.Join(err, c.stop(a))
	}
	systemd := newNotifier(log)
	defer systemd.close()
	systemd.ready("Serving") // whether the store is available or not: it may come back
	stopWatchdog := startWatchdog(systemd, a)
	for {
		select {
		case <-reload:
			systemd.reloading()
			systemd.ready(c.reload(a, log))
		case s := <-stop:
			log.Info("stopping", "signal", s.String())
			systemd.stopping() // from now on systemd does not use the watchdog
			stopWatchdog()
			return c.stop(a)
		case err := <-a.Failed():
			log.Error("cannot go on serving", "err", err)
			systemd.stopping()
			stopWatchdog()
			if err := c.stop(a); err != nil {
				log.Error("cannot stop", "err", err)
			}
			return errLogged
		}
	}
}

// errLogged is an error that has already been logged.
var errLogged = errors.New("see the log")

// startWatchdog sends watchdog notifications to systemd, if it expects them, until the
// returned function is called.
func startWatchdog(systemd *notifier, a *app.App) (stop func()) {
	interval, err := watchdogInterval()
	if err != nil {
		systemd.log.Warn("no watchdog", "err", err)
	}
	if interval == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { systemd.watch(ctx, interval, a.Alive) })
	return func() {
		cancel()
		watching.Wait()
	}
}

// reload reloads the configuration. It returns a line for `systemctl status`.
func (c *serveCmd) reload(a *app.App, log *slog.Logger) (status string) {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		a.ReloadFailed(err)
	} else {
		err = a.Reload(cfg)
	}
	if err != nil {
		log.Error("cannot reload configuration, the old one stays", "err", err)
		return "Serving with the old configuration: the new one has errors"
	}
	return "Serving"
}

func (c *serveCmd) stop(a *app.App) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.Drain)
	defer cancel()
	return a.Stop(ctx)
}

func newLogger(cfg config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == config.LogText {
		return slog.New(slog.NewTextHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, opts))
}

// redisLog logs go-redis' own messages at debug level: operations that fail report their
// own errors. It drops the arguments, which may quote what was sent to Redis.
type redisLog struct{ log *slog.Logger }

// Printf implements the interface of redis.SetLogger.
func (l redisLog) Printf(_ context.Context, format string, _ ...any) {
	l.log.Debug("redis connection failed", "detail", format)
}
