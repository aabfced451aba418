package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// appKey is the key for looking up an address.
type appKey struct {
	provider pnparam.Provider
	app      string
	env      pnparam.Environment
}

// table is one configuration of apps. It is immutable.
type table struct {
	byKey   map[appKey]*queue
	queues  []*queue // each once, ordered
	stopped bool
}

// find returns the queue that serves the address, or nil.
func (t *table) find(provider pnparam.Provider, app string, env pnparam.Environment) *queue {
	if q := t.named(provider, app, env); q != nil {
		return q
	}
	return t.named(provider, anyPackage, env)
}

func (t *table) named(provider pnparam.Provider, app string, env pnparam.Environment) *queue {
	if q := t.byKey[appKey{provider, app, env}]; q != nil || env == "" {
		return q
	}
	// A client may name an environment where the provider has none.
	if q := t.byKey[appKey{provider, app, ""}]; q != nil && q.Environment == "" {
		return q
	}
	return nil
}

// anyPackage is the key of the app that serves all packages without an app of their
// own. No client can name it.
const anyPackage = "\x00"

// Dispatcher sends pushes through apps: it queues, retries, limits and counts them.
// All methods are safe for concurrent use.
type Dispatcher struct {
	log      *slog.Logger
	throttle throttle // for what belongs to no app
	metrics  *metrics
	base     context.Context
	giveUp   context.CancelFunc
	table    atomic.Pointer[table]

	background background

	mu       sync.Mutex // held during a change of the table
	draining []*queue
	wg       sync.WaitGroup // one for each draining queue
}

// NewDispatcher returns a dispatcher without apps. It registers its metrics with reg,
// which must not hold those of another dispatcher. Stop unregisters them.
func NewDispatcher(log *slog.Logger, reg prometheus.Registerer) *Dispatcher {
	d := &Dispatcher{log: log}
	d.base, d.giveUp = context.WithCancel(context.Background())
	d.table.Store(&table{})
	d.metrics = newMetrics(reg, d)
	return d
}

// AddExemplars attaches the calls to the push durations, as metric.Exemplars does. It
// must be called before SetApps.
func (d *Dispatcher) AddExemplars() { d.metrics.exemplars = true }

// SetApps replaces all apps at once. An app whose Fingerprint is unchanged keeps its
// queue and client: only Packages, Default, Templates and Policy are taken from the
// new one, whose Client is neither used nor closed. Pushes queued for other old apps
// still go out through the old clients, which are then closed. On error nothing
// changes.
func (d *Dispatcher) SetApps(apps []App) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.table.Load()
	if old.stopped {
		return errors.New("cannot set apps: the dispatcher has stopped")
	}
	if err := checkApps(apps); err != nil {
		return err
	}
	before := make(map[appKey]*queue, len(old.queues))
	for _, q := range old.queues {
		before[q.key()] = q
	}
	t := &table{byKey: make(map[appKey]*queue)}
	for _, a := range apps {
		q := d.queueFor(a, before[a.key()])
		t.queues = append(t.queues, q)
		for _, k := range claims(&a) {
			t.byKey[k] = q
		}
	}
	slices.SortFunc(t.queues, func(a, b *queue) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.name(), b.name()),
			cmp.Compare(a.Environment, b.Environment))
	})
	d.swap(t)
	return nil
}

// queueFor returns the queue for a: the old one if nothing changed.
func (d *Dispatcher) queueFor(a App, old *queue) *queue {
	if a.Templates == nil {
		a.Templates = DefaultTemplates(a.Provider)
	}
	a.Policy.SetDefaults(a.Provider)
	if old != nil && old.Fingerprint == a.Fingerprint && a.Fingerprint != "" {
		old.templates.Store(a.Templates)
		old.policy.Store(&a.Policy)
		return old
	}
	a.Limits.SetDefaults()
	rejected := new([lanes]atomic.Uint64)
	if old != nil {
		rejected = old.rejected
	}
	q := newQueue(d.base, a, d.log, d.metrics.app(&a), rejected)
	q.background = &d.background
	return q
}

// swap installs t and drains the queues that it does not contain. The caller holds
// the lock.
func (d *Dispatcher) swap(t *table) {
	old := d.table.Load()
	var replaced []*queue
	for _, q := range old.queues {
		if !slices.Contains(t.queues, q) {
			replaced = append(replaced, q)
		}
	}
	d.draining = append(d.draining, replaced...)
	d.table.Store(t) // before they retire, so that a Push that is turned away finds the new table
	for _, q := range replaced {
		q.retire()
		d.wg.Go(func() { d.drain(q) })
	}
}

// drain waits until the retired queue is empty, then closes its client and removes
// the metric series that no other queue shares.
func (d *Dispatcher) drain(q *queue) {
	<-q.drained
	q.Client.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draining = slices.DeleteFunc(d.draining, func(other *queue) bool { return other == q })
	same := func(other *queue) bool { return other.Provider == q.Provider && other.name() == q.name() }
	if !slices.ContainsFunc(d.table.Load().queues, same) && !slices.ContainsFunc(d.draining, same) {
		d.metrics.forget(&q.App)
	}
}

// claims lists the keys that lead to a.
func claims(a *App) []appKey {
	packages := a.Packages
	if len(packages) == 0 {
		packages = []string{""}
	}
	if a.Any {
		packages = append(slices.Clip(packages), anyPackage)
	}
	var keys []appKey
	for _, p := range packages {
		keys = append(keys, appKey{a.Provider, p, a.Environment})
		if a.Default && a.Environment != "" {
			keys = append(keys, appKey{a.Provider, p, ""})
		}
	}
	return keys
}

// AppError reports an app that cannot be served.
type AppError struct {
	Provider pnparam.Provider
	App      string // the app's main package, or the package that is claimed twice
	Problem  string
}

// Error implements error.
func (e *AppError) Error() string {
	return fmt.Sprintf("cannot serve %s app %q: %s", e.Provider, e.App, e.Problem)
}

func checkApps(apps []App) error {
	seen := make(map[appKey]bool)
	for i := range apps {
		a := &apps[i]
		if a.Client == nil {
			return &AppError{a.Provider, a.name(), "it has no client"}
		}
		for _, k := range claims(a) {
			if seen[k] && k.app == anyPackage {
				return &AppError{k.provider, a.name(), "another app has any_package too"}
			}
			if seen[k] {
				return &AppError{k.provider, k.app, "two apps claim it " + claimed(k.env)}
			}
			seen[k] = true
		}
	}
	return nil
}

func claimed(env pnparam.Environment) string {
	if env == "" {
		return "where no environment is named"
	}
	return "in environment " + string(env)
}

// App returns the name of the app that serves an address, as in the metrics and in
// Apps. ok reports whether there is one.
func (d *Dispatcher) App(provider pnparam.Provider, app string, env pnparam.Environment) (name string, ok bool) {
	q := d.table.Load().find(provider, app, env)
	if q == nil {
		return "", false
	}
	return q.name(), true
}

// Policy returns the policy of the app for an address, or the default policy if there
// is no app. The caller must not modify it.
func (d *Dispatcher) Policy(provider pnparam.Provider, app string, env pnparam.Environment) Policy {
	if q := d.table.Load().find(provider, app, env); q != nil {
		return *q.policy.Load()
	}
	var p Policy
	p.SetDefaults(provider)
	return p
}

// Offer is a push service that is available to phones.
type Offer struct {
	Provider pnparam.Provider
	// VAPID is the key for subscribing to Web Push. It is empty for other services,
	// and where it depends on the app that the phone names.
	VAPID string
}

// Offers lists the providers that have at least one app, in order, with the VAPID key
// of the app that serves phones which name this app. A phone that names none gets the
// key only if there is exactly one.
func (d *Dispatcher) Offers(app string) []Offer {
	t := d.table.Load()
	var list []Offer
	for _, q := range t.queues { // ordered by provider
		n := len(list)
		if n == 0 || list[n-1].Provider != q.Provider {
			list = append(list, Offer{q.Provider, q.VAPID})
			continue
		}
		list[n-1].VAPID = ""
	}
	for i := range list {
		if q := t.find(list[i].Provider, app, ""); q != nil {
			list[i].VAPID = q.VAPID
		} else if app != "" {
			list[i].VAPID = ""
		}
	}
	return list
}

// Load returns the load of the fullest app, from 0 to 1. Slots in flight account for
// up to one half, the queue for up to 1.
func (d *Dispatcher) Load() float64 {
	share := 0.0
	for _, q := range d.table.Load().queues {
		share = max(share, q.load())
	}
	return share
}

// Apps returns the state of each app, ordered by provider, package and environment.
func (d *Dispatcher) Apps() []AppInfo {
	queues := d.table.Load().queues
	list := make([]AppInfo, len(queues))
	for i, q := range queues {
		list[i] = q.info()
	}
	return list
}

// Push sends r and calls done exactly once with the outcome. It never blocks. Push
// calls done itself when it refuses r at once. Otherwise another goroutine does,
// which holds up other pushes, so done must return quickly.
//
// When ctx ends before a try, the outcome is Dropped; a try in flight is not cut
// short. A push that was tried and gets no further try ends with the reason of its
// last try.
func (d *Dispatcher) Push(ctx context.Context, r Request, done func(Outcome)) {
	j := &job{ctx: ctx, r: r, done: done, lane: laneRest}
	if r.Kind == Call {
		j.lane = laneCalls
	}
	for {
		t := d.table.Load()
		q := t.find(r.Provider, r.App, r.Environment)
		switch {
		case t.stopped:
			d.refuse(j, ShutDown)
		case q == nil:
			d.refuse(j, NoApp)
		default:
			reason := q.precheck(j)
			if reason == "" {
				reason = q.admit(j)
			}
			if reason == ShutDown { // retired: there is a newer table
				continue
			}
			if reason != "" {
				q.finish(j, reason)
			}
		}
		return
	}
}

// precheck returns why the job need not be queued at all, or "".
func (q *queue) precheck(j *job) Reason {
	r := &j.r
	switch {
	case r.Token.Empty() || !tokenAllowed(r.Provider, r.Service, r.Kind):
		return NoToken
	case j.ctx.Err() != nil:
		return Dropped
	case !time.Now().Before(r.Deadline):
		return Expired
	case q.breaker.open():
		return BreakerOpen
	}
	return ""
}

// tokenAllowed returns false for a VoIP token with anything but a call: iOS kills an
// app that receives a VoIP push without reporting a call, and then stops delivering.
func tokenAllowed(provider pnparam.Provider, service pnparam.Service, kind Kind) bool {
	return provider != pnparam.APNs || service != pnparam.VoIP || kind == Call
}

// hasBreaker reports whether all tokens of an app belong to the same service.
func hasBreaker(provider pnparam.Provider) bool { return provider != pnparam.WebPush }

// Stop refuses new pushes and finishes the pending ones until ctx ends. It gives up
// the rest as ShutDown, closes the clients and waits for all goroutines. It returns
// the error of ctx if ctx ended first. A second Stop waits like the first.
func (d *Dispatcher) Stop(ctx context.Context) error {
	d.mu.Lock()
	d.swap(&table{stopped: true})
	d.mu.Unlock()

	empty := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(empty)
	}()
	var err error
	select {
	case <-empty:
	case <-ctx.Done():
		err = fmt.Errorf("cannot finish all pushes: %w", ctx.Err())
		d.giveUp()
		for _, q := range d.drainingQueues() {
			q.abort()
		}
		<-empty
	}
	d.giveUp()
	d.metrics.unregister()
	return err
}

func (d *Dispatcher) drainingQueues() []*queue {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.draining)
}
