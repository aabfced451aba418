package redis

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	errors, rejected prometheus.Counter
	outbox           atomic.Int64 // number of messages that Redis last reported
}

func newMetrics(reg prometheus.Registerer, c *Config, queued func() int) *metrics {
	m := &metrics{
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_store_errors_total", Help: "Store calls that failed because the store was out of reach."}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_store_outbox_rejected_total", Help: "Messages refused because the outbox was full."}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	queue, outbox := float64(c.Queue), float64(c.Outbox)
	reg.MustRegister(m.errors, m.rejected,
		gauge("sipwake_store_queue", "Commands that wait for the store.", func() float64 { return float64(queued()) }),
		gauge("sipwake_store_queue_capacity", "Commands that may wait for the store.", func() float64 { return queue }),
		gauge("sipwake_store_outbox", "Messages in the outbox, done ones included.",
			func() float64 { return float64(m.outbox.Load()) }),
		gauge("sipwake_store_outbox_capacity", "Messages that the outbox may hold.", func() float64 { return outbox }))
	return m
}
