package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// operations is the listener for monitoring: /metrics, /healthz (the process
// answers) and /readyz (it can do its work).
type operations struct {
	server   *http.Server
	listener net.Listener
	served   chan error
	ready    atomic.Bool // false before Start and while stopping
}

// readyPatience bounds the question to the store behind /readyz.
const readyPatience = time.Second

func newOperations(reg *prometheus.Registry, st store) *operations {
	o := &operations{served: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !o.ready.Load() {
			http.Error(w, "not serving", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readyPatience)
		defer cancel()
		if st.Ping(ctx) != nil {
			http.Error(w, "store unavailable", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	o.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return o
}

func (o *operations) start(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	o.listener = l
	go func() { o.served <- o.server.Serve(l) }()
	return nil
}

func (o *operations) addr() string { return o.listener.Addr().String() }

func (o *operations) stop(context.Context) error {
	err := o.server.Close() // a scrape that is cut off is repeated
	if served := <-o.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
