package wake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/metric"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// Errors that the Service returns besides ParamError and ErrUnavailable.
var (
	// ErrUnknownNode means that the request names a node that is not configured.
	ErrUnknownNode = errors.New("unknown node")
	// ErrStopped means that the service has been stopped.
	ErrStopped = errors.New("service stopped")
	// ErrBusy means that too much work of this kind is in progress.
	ErrBusy = errors.New("too busy")
	// ErrForbidden is wrapped by a Node's errors when the node rejects our secret.
	ErrForbidden = errors.New("it refused the secret")
)

// Pusher sends pushes; push.Dispatcher is one.
type Pusher interface {
	// Push never blocks. It calls done once, from any goroutine, possibly the
	// caller's. A push whose ctx has ended before an attempt is dropped.
	Push(ctx context.Context, r push.Request, done func(push.Outcome))
	// App returns the name of the app that serves the address, for use as a metric
	// label. ok reports whether there is such an app.
	App(p pnparam.Provider, app string, env pnparam.Environment) (name string, ok bool)
	// Offers lists the providers with at least one app, as advertised to phones that
	// name this app.
	Offers(app string) []push.Offer
	// Policy returns the configured policy for the app of an address.
	Policy(p pnparam.Provider, app string, env pnparam.Environment) push.Policy
	// Load returns the fill level of the fullest queue, 0 to 1.
	Load() float64
}

var _ Pusher = (*push.Dispatcher)(nil)

// Deps are the dependencies of a Service. All but Others are required.
type Deps struct {
	Store   Store
	Sweeper Sweeper
	History History
	Pusher  Pusher
	Traces  *trace.Log
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Others is nil if the store serves only this instance.
	Others Others
	// Exemplars adds the calls, as exemplars, to the duration metrics of wakes and
	// signals.
	Exemplars metric.Exemplars
}

// Service applies the rules. Safe for concurrent use.
type Service struct {
	store   Store
	sweeper Sweeper
	history History
	others  Others
	pusher  Pusher
	traces  *trace.Log
	log     *slog.Logger
	repeats *limit.Log // for messages that strangers or an outage can cause endlessly
	metrics *metrics

	instance string // unique among instances that share the store; changes with each start

	settings atomic.Pointer[settings]
	calls    calls                        // owned by this instance
	late     lateCalls                    // calls that have ended, including other instances'
	signals  *signaller                   // to nodes
	limits   *limit.Calls                 // of calls that cause pushes
	failures limit.Failures[tokenFailure] // consecutive ones
	latency  latency                      // of the store
	sources  []loadSource                 // of the load
	listings listings                     // of all bindings, in progress

	ctx     context.Context // ends when Stop's context does
	cancel  context.CancelFunc
	slots   chan struct{} // one per goroutine of Go
	mu      sync.Mutex    // orders running.Add against Stop
	stopped bool
	stop    chan struct{}  // closed by Stop
	running sync.WaitGroup // goroutines of Go
}

// settings is what a reload swaps.
type settings struct {
	Config
	nodes map[string]Node
}

// maxTasks bounds the store work that no request waits for: removals, lists and what
// Go runs.
const maxTasks = 1024

// New returns a Service with the rules of cfg. SignalsPerNode is fixed for the life
// of the Service. New starts no goroutine. Stop must be called.
func New(cfg Config, nodes map[string]Node, d Deps) *Service {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		store: d.Store, sweeper: d.Sweeper, history: d.History, others: d.Others, pusher: d.Pusher, traces: d.Traces, log: d.Log, repeats: limit.NewLog(d.Log),
		metrics: newMetrics(d.Metrics, d.Exemplars), instance: newInstance(), limits: limit.NewCalls(),
		ctx: ctx, cancel: cancel, slots: make(chan struct{}, maxTasks), stop: make(chan struct{}),
	}
	s.calls.byKey = make(map[callKey]*call)
	s.late.byAOR = make(map[string][]*lateCall)
	s.signals = newSignaller(ctx, cfg.SignalsPerNode, s.deliver, s.unsignalled)
	d.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sipwake_load_level", Help: "How busy this instance is, 0 to 4, as service.load says."},
		func() float64 { return float64(s.level()) }))
	s.AddLoad("push_queue", d.Pusher.Load)
	s.AddLoad("store", s.latency.share)
	s.AddLoad("signals", s.signals.load)
	s.Configure(cfg, nodes)
	return s
}

// newInstance returns a name that no other process has or has had.
func newInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "sipwake"
	}
	return fmt.Sprintf("%.40s-%.8s", host, uuid.NewString())
}

// Instance returns the name of this instance among those that share its store.
func (s *Service) Instance() string { return s.instance }

// Configure swaps the settings and the nodes.
func (s *Service) Configure(cfg Config, nodes map[string]Node) {
	s.settings.Store(&settings{cfg, nodes})
	for id := range nodes {
		s.metrics.addNode(id)
	}
}

// SetApps sets the configured apps. Their metric series exist before anything is
// counted; series of other apps are deleted.
func (s *Service) SetApps(apps []push.AppInfo) { s.metrics.setApps(apps) }

// labels returns the metric labels of the app that serves the address.
func (s *Service) labels(a pnparam.Address) appLabels {
	if name, ok := s.pusher.App(a.Provider, a.App, a.Environment); ok {
		return appLabels{string(a.Provider), name}
	}
	return otherApp
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

// Stop waits until ctx ends for signals and store work in progress, then aborts
// them. No method may be called afterwards.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.stop)
	}
	s.mu.Unlock()
	signals := s.signals.drain()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		<-signals
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		if n := len(s.slots) + s.signals.waiting(); n > 0 {
			err = fmt.Errorf("cannot finish %d signals to nodes and changes of the store: %w", n, ctx.Err())
		}
	}
	s.cancel()
	s.signals.close()
	<-done
	s.calls.dropAll()
	s.late.clear()
	s.repeats.Close()
	return err
}

// Go runs f in a goroutine that Stop waits for. f's context ends when Stop stops
// waiting. If too much is running already Go returns ErrBusy, after Stop it returns
// ErrStopped; in both cases f is not run.
func (s *Service) Go(f func(ctx context.Context)) error {
	select {
	case s.slots <- struct{}{}:
	default:
		return ErrBusy
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		<-s.slots
		return ErrStopped
	}
	s.running.Go(func() {
		defer func() { <-s.slots }()
		f(s.ctx)
	})
	return nil
}

// Stopping reports whether Stop has been called: remaining work is left to another
// instance.
func (s *Service) Stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}
