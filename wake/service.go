package wake

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/pnparam"
	"github.com/sipwake/sipwake/push"
)

// Pusher sends pushes; push.Dispatcher is one.
type Pusher interface {
	// Push never blocks. done is called once, from any goroutine, also from the
	// caller's. A push whose ctx has ended before a try is dropped.
	Push(ctx context.Context, r push.Request, done func(push.Outcome))
	// Serves tells whether an app is configured for the address.
	Serves(p pnparam.Provider, app string, env pnparam.Environment) bool
	// Providers lists the providers with at least one app.
	Providers() []pnparam.Provider
	// Policy returns what the configuration says of the app of an address.
	Policy(p pnparam.Provider, app string, env pnparam.Environment) push.Policy
	// Load is the share of the fullest queue that is in use, 0 to 1.
	Load() float64
}

var _ Pusher = (*push.Dispatcher)(nil)

// Service applies the rules. Safe for concurrent use.
type Service struct {
	store   Store
	outbox  Outbox
	sweeper Sweeper
	peers   Peers // nil if no other instance shares the store
	pusher  Pusher
	log     *slog.Logger
	metrics *metrics
	traces  *traces

	instance string // among the peers; another one after each start

	settings  atomic.Pointer[settings]
	calls     calls         // wakes that this instance owns
	strikes   strikes       // failures in a row
	storms    storms        // pushes that callers cause
	questions questions     // to other instances
	others    atomic.Int64  // instances that live, this one aside
	pace      pace          // of the store
	sources   []loadSource  // of the load
	listings  listings      // lists of all bindings under way
	slots     chan struct{} // one per goroutine of spawn

	ctx     context.Context // ends when Stop's patience does
	cancel  context.CancelFunc
	mu      sync.Mutex // orders running.Add against Stop
	stopped bool
	stop    chan struct{}  // closed by Stop: what need not wait goes on at once
	running sync.WaitGroup // of spawn
}

// settings is what a reload swaps.
type settings struct {
	Config
	nodes map[string]Node
}

// NewService returns a Service with the rules of cfg. The size of the trace and
// the bound on signals stay as they are here for the life of the Service. peers
// is nil for a store that one instance has for itself.
func NewService(cfg Config, nodes map[string]Node, store Store, outbox Outbox, sweeper Sweeper, peers Peers, pusher Pusher, log *slog.Logger, reg prometheus.Registerer) *Service {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		store: store, outbox: outbox, sweeper: sweeper, peers: peers, pusher: pusher, log: log, instance: newInstance(), metrics: newMetrics(reg),
		traces: newTraces(cfg.Traces), slots: make(chan struct{}, cfg.Signals), storms: newStorms(),
		ctx: ctx, cancel: cancel, stop: make(chan struct{}),
	}
	s.calls.byKey = make(map[callKey]*call)
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sipwake_load_level", Help: "How busy this instance is, 0 to 4, as service.load says."},
		func() float64 { return float64(s.level()) }))
	s.AddLoad("push_queue", pusher.Load)
	s.AddLoad("store", s.pace.share)
	s.Configure(cfg, nodes)
	return s
}

// newInstance returns a name that no other process has or had.
func newInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "sipwake"
	}
	return fmt.Sprintf("%.40s-%.8s", host, uuid.NewString())
}

// Instance returns the name of this instance among those that share its store.
func (s *Service) Instance() string { return s.instance }

// Configure swaps the settings and the nodes. Wakes under way go on with the
// node they have.
func (s *Service) Configure(cfg Config, nodes map[string]Node) {
	s.settings.Store(&settings{cfg, nodes})
	for id := range nodes {
		for _, sig := range []Signal{Added, Dup, Gone, NoContact, Busy, OK, "error"} {
			s.metrics.signals.WithLabelValues(id, string(sig))
		}
	}
}

// Nodes returns the ids of the configured nodes.
func (s *Service) Nodes() []string {
	nodes := s.settings.Load().nodes
	ids := make([]string, 0, len(nodes))
	for id := range nodes {
		ids = append(ids, id)
	}
	return ids
}

// Stop waits for the signals under way until ctx ends, then cuts them off.
// Nothing may be called afterwards.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.stop)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("cannot finish signals to nodes: %w", ctx.Err())
	}
	s.cancel()
	<-done
	s.calls.dropAll()
	return err
}

// spawn runs f in a goroutine that Stop waits for, unless too many run already.
func (s *Service) spawn(f func()) bool {
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		<-s.slots
		return false
	}
	s.running.Go(func() {
		defer func() { <-s.slots }()
		f()
	})
	return true
}

func (s *Service) node(id string) (Node, error) {
	if id == "" {
		return nil, &ParamError{"node", "is missing"}
	}
	n := s.settings.Load().nodes[id]
	if n == nil {
		return nil, fmt.Errorf("%w %q", ErrUnknownNode, id)
	}
	return n, nil
}
