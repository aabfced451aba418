package rpc

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/metric"
)

// unknownMethod is the metric label of a method that does not exist.
const unknownMethod = "unknown"

var codes = []int{0, codeParse, codeInvalid, codeNoMethod, codeParams, codeInternal,
	codeNotAuthorised, codeOverloaded, codeNoStore, codeUnknownNode, codeNotAllowed}

type metrics struct {
	requests map[string]map[int]prometheus.Counter // by method and code
	seconds  map[string]prometheus.Observer
	inFlight prometheus.Gauge
	limited  prometheus.Counter
}

func newMetrics(methods map[string]method, conns func() limit.ConnStats, reg prometheus.Registerer) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sipwake_rpc_requests_total", Help: "JSON-RPC requests, by method and error code; 0 is success."}, []string{"method", "code"})
	seconds := prometheus.NewHistogramVec(metric.Histogram("sipwake_rpc_seconds", "Time to answer a JSON-RPC request.",
		.0001, .00025, .0005, .001, .002, .005, .01, .025, .05, .1, .2, .4, 1), []string{"method"})
	m := &metrics{
		requests: make(map[string]map[int]prometheus.Counter),
		seconds:  make(map[string]prometheus.Observer),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_rpc_in_flight", Help: "HTTP requests being answered."}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_rpc_limited_total", Help: "HTTP requests refused because their client sent too many a second."}),
	}
	reg.MustRegister(requests, seconds, m.inFlight, m.limited,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sipwake_rpc_connections", Help: "Open connections to the RPC listener."},
			func() float64 { return float64(conns().Open) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sipwake_rpc_connections_displaced_total", Help: "Connections that waited and were closed to make room for others."},
			func() float64 { return float64(conns().Displaced) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sipwake_rpc_connections_refused_total", Help: "Connections that were refused because there was no room."},
			func() float64 { return float64(conns().Refused) }))
	add := func(name string) {
		m.requests[name] = make(map[int]prometheus.Counter, len(codes))
		for _, c := range codes {
			m.requests[name][c] = requests.WithLabelValues(name, strconv.Itoa(c))
		}
		m.seconds[name] = seconds.WithLabelValues(name)
	}
	add(unknownMethod)
	for name := range methods {
		add(name)
	}
	return m
}

func (m *metrics) count(method string, e *rpcError, took time.Duration) {
	code := 0
	if e != nil {
		code = e.Code
	}
	if m.requests[method] == nil {
		method = unknownMethod
	}
	m.requests[method][code].Inc()
	m.seconds[method].Observe(took.Seconds())
}
