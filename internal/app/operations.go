package app

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/store"
)

// operations is the listener for monitoring: /metrics, /healthz (RPC answers) and
// /readyz (sipwake can do its work).
type operations struct {
	*listener
	mux   *http.ServeMux
	ready atomic.Bool // false before Start and while stopping
}

// readyPatience limits the check of the store for /readyz, and the check of RPC for both
// /healthz and /readyz.
const readyPatience = time.Second

// Monitoring needs few connections: the one that has been idle longest is closed.
const (
	operationsConns     = 256
	operationsPerClient = 64
)

// newOperations returns the listener, with metrics at /metrics. rpc checks whether RPC
// answers.
func newOperations(metrics http.Handler, st store.Backend, rpc func(context.Context) error, log *limit.Log) *operations {
	o := &operations{}
	alive := newRarely(rpc)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if o.ready.Load() && alive.result() != nil { // it is also healthy while it starts and stops
			o.fail(w, "RPC does not answer")
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyPatience)
		defer cancel()
		switch {
		case !o.ready.Load():
			o.fail(w, "not serving")
		case alive.result() != nil:
			o.fail(w, "RPC does not answer")
		case st.Ping(ctx) != nil:
			o.fail(w, "store unavailable")
		default:
			fmt.Fprintln(w, "ok")
			if n, ok := st.(noticing); ok && n.Notice() != "" {
				fmt.Fprintln(w, n.Notice())
			}
		}
	})
	o.mux = mux
	o.listener = newListener("operations listener", mux, limit.ConnLimits{
		Most: operationsConns, Unproven: operationsConns, PerClient: operationsPerClient}, log)
	return o
}

// noticing is a store that may have a notice even though it works.
type noticing interface{ Notice() string }

func (o *operations) fail(w http.ResponseWriter, why string) {
	http.Error(w, why, http.StatusServiceUnavailable)
}

// rarely runs a check at most once a second and shares the result among all callers.
type rarely struct {
	ask   func(context.Context) error
	turn  chan struct{} // a lock for the fields below
	asked time.Time
	err   error
}

func newRarely(ask func(context.Context) error) *rarely {
	return &rarely{ask: ask, turn: make(chan struct{}, 1)}
}

const rarelyEvery = time.Second

// result returns a result that is at most a second old. Callers that arrive during the
// check wait for its result, at most readyPatience.
func (r *rarely) result() error {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	if !r.asked.IsZero() && time.Since(r.asked) < rarelyEvery {
		return r.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyPatience)
	defer cancel()
	r.err = r.ask(ctx)
	r.asked = time.Now()
	return r.err
}
