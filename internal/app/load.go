package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/limit"
)

// maxLoadClients is how many clients of the load listener get their own rate limit.
// Further clients share one.
const maxLoadClients = 65536

var errStoreAway = errors.New("store unavailable")

// loadListener tells phones and load balancers how busy this instance is: "OK" and a
// number from 0 (low) to 4 (extreme), or an error with HTTP 503 if it cannot work. It
// serves nothing else, so that it can be exposed to the internet.
func (a *App) loadListener(c config.LoadListener, log *limit.Log) *listener {
	rates, rate := limit.New[netip.Addr](maxLoadClients), limit.Per(time.Second, *c.RateLimit)
	works := newRarely(a.works)
	h := func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Type", "text/plain; charset=utf-8")
		head.Set("Cache-Control", "no-store")
		head.Set("Access-Control-Allow-Origin", "*") // it is no secret, and web phones ask, too
		head.Set("X-Content-Type-Options", "nosniff")
		peer, _ := netip.ParseAddrPort(r.RemoteAddr)
		switch {
		case !rates.Take(limit.Client(peer.Addr().Unmap()), rate, time.Now()):
			head.Set("Retry-After", "1")
			head.Set("Connection", "close")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprintln(w, "ERROR: too many requests")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			head.Set("Allow", "GET, HEAD")
			head.Set("Connection", "close")
			w.WriteHeader(http.StatusMethodNotAllowed)
			fmt.Fprintln(w, "ERROR: GET only")
		case !a.operations.ready.Load() || works.result() != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "ERROR: not available")
		default:
			level, _ := a.service.Load()
			fmt.Fprintf(w, "OK %d\n", level)
		}
	}
	l := newListener("load listener", http.HandlerFunc(h), limit.ConnLimits{
		Most: c.Connections, Unproven: c.Connections, PerClient: max(1, c.Connections/8)}, log)
	l.server.MaxHeaderBytes = 4 << 10
	l.server.ReadTimeout, l.server.WriteTimeout, l.server.IdleTimeout = 5*time.Second, 5*time.Second, 10*time.Second
	return l
}

// works returns an error if RPC does not answer or the store cannot be reached.
func (a *App) works(ctx context.Context) error {
	if err := a.rpcReacts(ctx); err != nil {
		return err
	}
	if a.store.Ping(ctx) != nil {
		return errStoreAway
	}
	return nil
}

// startLoad opens the load listener if one is configured.
func (a *App) startLoad() error {
	if a.cfg.Load.Listen == "" {
		return nil
	}
	l := a.loadListener(a.cfg.Load, limit.NewLog(a.log))
	if err := l.start(a.cfg.Load.Listen, a.ended("load listener")); err != nil {
		return problem(a.cfg, "load.listen", err)
	}
	a.load = l
	// Closed among the last: it reports that sipwake is stopping.
	a.teardown = append([]step{{"load listener", l.stop}}, a.teardown...)
	return nil
}

// LoadAddr returns the address of the load listener, after Start; empty without one.
func (a *App) LoadAddr() string {
	if a.load == nil {
		return ""
	}
	return a.load.addr()
}
