package wake

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/metric"
	"github.com/sipwake/sipwake/push"
)

// metrics are the metrics of the wake rules. Label sets are closed: node ids come
// from the configuration.
type metrics struct {
	registers *prometheus.CounterVec   // by status
	wakes     *prometheus.CounterVec   // by kind and outcome
	limited   *prometheus.CounterVec   // by limit
	ends      *prometheus.CounterVec   // by reason
	open      prometheus.Gauge         // wakes this instance started
	ringing   prometheus.Gauge         // those past their hold time
	woken     *prometheus.HistogramVec // wake.start to REGISTER, by provider and app
	devices   *prometheus.CounterVec   // of calls, by provider, app and result
	bindings  *prometheus.GaugeVec     // by provider and app
	signals   *prometheus.CounterVec   // by node and result
	signal    prometheus.Histogram     // one signal with its retries
	removed   *prometheus.CounterVec   // bindings removed, by reason
	adopted   prometheus.Counter
	exemplars metric.Exemplars

	registered map[Status]prometheus.Counter      // of registers
	started    map[startLabels]prometheus.Counter // of wakes

	mu   sync.Mutex
	apps map[appLabels]bool // that are configured
}

// startLabels are the labels of wakes.
type startLabels struct {
	kind    push.Kind
	outcome Outcome
}

// appLabels name an app.
type appLabels struct{ provider, app string }

// otherApp stands for all apps that are not configured.
var otherApp = appLabels{metric.Other, metric.Other}

func newMetrics(reg prometheus.Registerer, exemplars metric.Exemplars) *metrics {
	m := &metrics{
		exemplars: exemplars,
		registers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_registers_total", Help: "REGISTERs seen, by what became of their push data."}, []string{"status"}),
		wakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_wakes_total", Help: "Held requests, by what wake.start answered."}, []string{"kind", "outcome"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_wakes_limited_total", Help: "Held requests that led to no push because of a limit."}, []string{"limit"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_wake_ends_total", Help: "Held requests that ended, by reason."}, []string{"reason"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_wakes_open", Help: "Wakes that this instance owns and whose hold time is not over."}),
		ringing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_wakes_ringing", Help: "Wakes that this instance owns, whose hold time is over and whose wake.end has not come."}),
		woken: prometheus.NewHistogramVec(metric.Histogram("sipwake_wake_seconds", "Time from wake.start to the device's REGISTER.",
			.05, .1, .2, .4, .7, 1, 1.5, 2, 3, 4, 6, 8, 12, 20, 40), []string{"provider", "app"}),
		devices: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_wake_devices_total", Help: "Devices that a held request was to wake, by what became of them."},
			[]string{"provider", "app", "result"}),
		bindings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sipwake_bindings", Help: "Bindings in the store, as they were counted last."}, []string{"provider", "app"}),
		signals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_node_signals_total", Help: "Requests to SIP nodes, by answer; \"error\" is no answer."}, []string{"node", "result"}),
		signal: prometheus.NewHistogram(metric.Histogram("sipwake_node_signal_seconds",
			"Time until a node took a wake signal, retries included.", prometheus.ExponentialBuckets(.001, 2, 14)...)),
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_bindings_removed_total", Help: "Bindings removed, by reason."}, []string{"reason"}),
		adopted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_wakes_adopted_total", Help: "Wakes taken over from instances that ended."}),
	}
	reg.MustRegister(m.registers, m.wakes, m.limited, m.ends, m.open, m.ringing, m.woken, m.devices, m.bindings,
		m.signals, m.signal, m.removed, m.adopted)
	m.registered = make(map[Status]prometheus.Counter)
	for _, s := range []Status{StatusStored, StatusRefreshed, StatusRemoved, StatusQueried, StatusNone, StatusRefused, StatusStale} {
		m.registered[s] = m.registers.WithLabelValues(string(s))
	}
	m.started = make(map[startLabels]prometheus.Counter)
	for _, k := range startKinds {
		for _, o := range outcomes {
			m.started[startLabels{k, o}] = m.wakes.WithLabelValues(string(k), string(o))
		}
	}
	for _, l := range limit.CallLimits() {
		m.limited.WithLabelValues(string(l))
	}
	for _, r := range endReasons {
		m.ends.WithLabelValues(string(r))
	}
	for _, r := range []string{removedDead, removedUnbind, removedMoved, removedOperator, removedRejected, removedFailed,
		removedNoAnswer, removedUnrefreshed, removedCallFailed, removedRegister} {
		m.removed.WithLabelValues(r)
	}
	return m
}

// setApps creates the series of the apps, and deletes those of removed apps.
func (m *metrics) setApps(apps []push.AppInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gone := m.apps
	m.apps = make(map[appLabels]bool, len(apps))
	for _, info := range apps {
		a := appLabels{string(info.Provider), info.Package}
		m.apps[a] = true
		delete(gone, a)
		m.woken.WithLabelValues(a.provider, a.app)
		for _, r := range deviceResults {
			m.devices.WithLabelValues(a.provider, a.app, r)
		}
	}
	for a := range gone {
		labels := prometheus.Labels{"provider": a.provider, "app": a.app}
		m.woken.DeletePartialMatch(labels)
		m.devices.DeletePartialMatch(labels)
		m.bindings.DeletePartialMatch(labels)
	}
}

// observeWoken records the time until the device of r came back for w.
func (m *metrics) observeWoken(a appLabels, w *Wake, r *Registration) {
	m.exemplars.Observe(m.woken.WithLabelValues(a.provider, a.app), r.RegisteredAt.Sub(w.StartedAt).Seconds(), w.CallID)
}

// setBindings sets the number of bindings of each app.
func (m *metrics) setBindings(count map[appLabels]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for a := range m.apps {
		m.bindings.WithLabelValues(a.provider, a.app).Set(float64(count[a]))
	}
	m.bindings.WithLabelValues(otherApp.provider, otherApp.app).Set(float64(count[otherApp]))
}

// addNode creates the series of a node.
func (m *metrics) addNode(id string) {
	for _, a := range []Signal{SignalAdded, SignalDuplicate, SignalUnsent, SignalGone, SignalNoContact, SignalBusy, SignalOK, SignalTold, signalError} {
		m.signals.WithLabelValues(id, string(a))
	}
}

// signalError counts attempts without an answer.
const signalError Signal = "error"

func (m *metrics) countSignal(node string, answer Signal, err error) {
	if err != nil {
		answer = signalError
	}
	m.signals.WithLabelValues(node, string(answer)).Inc()
}

// Reasons for removing bindings: a metric label.
const (
	removedDead     = "token_dead"
	removedUnbind   = "unbind"
	removedMoved    = "account_switched"
	removedOperator = "operator"

	removedRejected    = "rejected"
	removedFailed      = "push_failed"
	removedNoAnswer    = "no_answer"
	removedUnrefreshed = "refresh_unanswered"
	removedCallFailed  = "call_failed"
	removedRegister    = "register_rejected"
)
