package push

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/metric"
	"github.com/sipwake/sipwake/internal/pnparam"
)

type outcomeKey struct {
	kind   Kind
	reason Reason
}

// appMetrics are the series of the apps with one name at one provider. All are
// created up front.
type appMetrics struct {
	outcomes  map[outcomeKey]prometheus.Counter
	seconds   prometheus.Observer
	retries   prometheus.Counter
	exemplars metric.Exemplars
}

func (m *appMetrics) knows(kind Kind, reason Reason) bool {
	return m.outcomes[outcomeKey{kind, reason}] != nil
}

func (m *appMetrics) count(kind Kind, reason Reason) {
	if c := m.outcomes[outcomeKey{kind, reason}]; c != nil {
		c.Inc()
	}
}

// observe records the duration of one try.
func (m *appMetrics) observe(took time.Duration, callID string) {
	m.exemplars.Observe(m.seconds, took.Seconds(), callID)
}

// metrics are the metrics of a Dispatcher.
type metrics struct {
	reg        prometheus.Registerer
	collectors []prometheus.Collector
	total      *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	retries    *prometheus.CounterVec
	exemplars  metric.Exemplars
	// refused counts the pushes that no app accepted, by provider.
	refused map[pnparam.Provider]*appMetrics
}

func newMetrics(reg prometheus.Registerer, d *Dispatcher) *metrics {
	m := &metrics{
		reg: reg,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_push_total",
			Help: "Pushes by how they ended, after all tries.",
		}, []string{"provider", "app", "kind", "reason"}),
		seconds: prometheus.NewHistogramVec(metric.Histogram("sipwake_push_seconds",
			"Time of one try until the service answered, in seconds.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10), []string{"provider", "app"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_push_retries_total",
			Help: "Pushes that were given another try.",
		}, []string{"provider", "app"}),
		refused: make(map[pnparam.Provider]*appMetrics),
	}
	for _, p := range []pnparam.Provider{pnparam.APNs, pnparam.FCM, pnparam.WebPush, pnparam.HMS, pnparam.Acrobits, metric.Other} {
		m.refused[p] = &appMetrics{outcomes: m.outcomes(p, metric.Other, NoApp, ShutDown)}
	}
	m.collectors = []prometheus.Collector{m.total, m.seconds, m.retries, newAppCollector(d)}
	reg.MustRegister(m.collectors...)
	return m
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.reg.Unregister(c)
	}
}

// app returns the series of a configured app, and creates them if necessary.
func (m *metrics) app(a *App) *appMetrics {
	return &appMetrics{
		outcomes:  m.outcomes(a.Provider, a.name(), Reasons()...),
		seconds:   m.seconds.WithLabelValues(string(a.Provider), a.name()),
		retries:   m.retries.WithLabelValues(string(a.Provider), a.name()),
		exemplars: m.exemplars,
	}
}

// forget removes the series of an app.
func (m *metrics) forget(a *App) {
	labels := prometheus.Labels{"provider": string(a.Provider), "app": a.name()}
	m.total.DeletePartialMatch(labels)
	m.seconds.DeletePartialMatch(labels)
	m.retries.DeletePartialMatch(labels)
}

func (m *metrics) outcomes(p pnparam.Provider, app string, reasons ...Reason) map[outcomeKey]prometheus.Counter {
	series := make(map[outcomeKey]prometheus.Counter)
	for _, k := range Kinds() {
		for _, r := range reasons {
			series[outcomeKey{k, r}] = m.total.WithLabelValues(string(p), app, string(k), string(r))
		}
	}
	return series
}

// countRefused counts a push that no app accepted.
func (m *metrics) countRefused(p pnparam.Provider, kind Kind, reason Reason) {
	known := m.refused[p]
	if known == nil {
		known = m.refused[metric.Other]
	}
	known.count(kind, reason)
}

// appCollector reads the state of the apps on each scrape: this costs a push nothing,
// and an app's series disappear with the app.
type appCollector struct {
	d                               *Dispatcher
	length, capacity, rejected      *prometheus.Desc
	inFlight, most, breaker, expiry *prometheus.Desc
	chain                           *prometheus.Desc
	verdict                         verdictDescs
}

func newAppCollector(d *Dispatcher) *appCollector {
	app := []string{"provider", "app", "environment"}
	lane := slices.Concat(app, []string{"lane"})
	desc := func(name, help string, labels []string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &appCollector{
		d:        d,
		length:   desc("sipwake_push_queue_length", "Pushes that wait for a try.", lane),
		capacity: desc("sipwake_push_queue_capacity", "Pushes that may wait for a try.", lane),
		rejected: desc("sipwake_push_queue_rejected_total", "Pushes refused because the queue was full.", lane),
		inFlight: desc("sipwake_push_in_flight", "Requests to the service under way.", app),
		most:     desc("sipwake_push_in_flight_capacity", "Requests to the service that may be under way.", app),
		breaker:  desc("sipwake_push_breaker_state", "State of the breaker: 0 closed, 1 half-open, 2 open.", app),
		expiry: desc("sipwake_credential_expiry_timestamp_seconds",
			"When the app's key or certificate ends, in seconds since 1970; absent if it does not.", app),
		verdict: newVerdictDescs(),
		chain: desc("sipwake_push_chain_expiry_timestamp_seconds",
			"When the first of the CAs ends that vouch for the push service, in seconds since 1970; absent before the first connection.", app),
	}
}

// Describe sends the descriptions of all series.
func (c *appCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.length, c.capacity, c.rejected, c.inFlight, c.most, c.breaker, c.expiry, c.chain, c.verdict.lowered, c.verdict.dozed} {
		ch <- d
	}
}

// Collect sends the current values. What a replaced app still has to send is counted
// for the app of the same name, if there is one.
func (c *appCollector) Collect(ch chan<- prometheus.Metric) {
	queues := c.d.table.Load().queues
	left := make(map[appKey][]*queue)
	for _, q := range c.d.drainingQueues() {
		left[q.key()] = append(left[q.key()], q)
	}
	for _, q := range queues {
		c.collectUse(ch, append(left[q.key()], q))
		c.collectState(ch, q)
		delete(left, q.key())
	}
	for _, group := range left {
		c.collectUse(ch, group)
	}
}

// collectUse sends the combined totals of the queues, which all have the same key.
func (c *appCollector) collectUse(ch chan<- prometheus.Metric, group []*queue) {
	var held [lanes]int
	inFlight := 0
	for _, q := range group {
		q.mu.Lock()
		for i := range q.lane {
			held[i] += q.lane[i].queued + q.lane[i].waiting
		}
		inFlight += q.inFlight()
		q.mu.Unlock()
	}
	labels := group[0].labels()
	gauge(ch, c.inFlight, inFlight, labels...)
	for i, name := range laneNames {
		gauge(ch, c.length, held[i], append(labels, name)...)
	}
}

// collectState sends what only an active app has.
func (c *appCollector) collectState(ch chan<- prometheus.Metric, q *queue) {
	labels := q.labels()
	for i, name := range laneNames {
		lane := slices.Concat(labels, []string{name})
		gauge(ch, c.capacity, q.Limits.Queue, lane...)
		ch <- prometheus.MustNewConstMetric(c.rejected, prometheus.CounterValue, float64(q.rejected[i].Load()), lane...)
	}
	gauge(ch, c.most, q.Limits.InFlight, labels...)
	if q.breaker != nil {
		_, state := q.breaker.state()
		gauge(ch, c.breaker, state, labels...)
	}
	if !q.CredentialExpiry.IsZero() {
		gauge(ch, c.expiry, q.CredentialExpiry.Unix(), labels...)
	}
	if ends := q.Chain.Ends(); !ends.IsZero() {
		gauge(ch, c.chain, ends.Unix(), labels...)
	}
	c.verdict.collect(ch, q)
}

// labels returns provider, app and environment, without spare capacity, so that
// appending copies.
func (q *queue) labels() []string {
	return []string{string(q.Provider), q.name(), string(q.Environment)}
}

func gauge[T int | int64 | float64](ch chan<- prometheus.Metric, desc *prometheus.Desc, value T, labels ...string) {
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
}
