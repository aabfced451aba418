package redis

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ errors prometheus.Counter }

func newMetrics(reg prometheus.Registerer, capacity int, queued func() int) *metrics {
	m := &metrics{errors: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sipwake_store_errors_total", Help: "Store calls that failed because the store was out of reach."})}
	size := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sipwake_store_queue_capacity", Help: "Commands that may wait for the store."})
	size.Set(float64(capacity))
	used := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sipwake_store_queue", Help: "Commands that wait for the store."},
		func() float64 { return float64(queued()) })
	if reg != nil {
		reg.MustRegister(m.errors, size, used)
	}
	return m
}
