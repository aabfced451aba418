package local

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/metric"
)

type metrics struct {
	errors, swept, rejected, repairs prometheus.Counter
	commit                           prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_store_errors_total", Help: "Reads and writes of the store that failed."}),
		swept: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_store_swept_total", Help: "Bindings removed because their retention ran out."}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_store_outbox_rejected_total", Help: "Messages refused because the outbox was full."}),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_store_repairs_total", Help: "Times that the file was damaged and made anew."}),
		commit: prometheus.NewHistogram(metric.Histogram("sipwake_store_commit_seconds", "Time of one write to the disk.",
			prometheus.ExponentialBuckets(.0005, 2, 13)...)),
	}
}

func (m *metrics) register(reg prometheus.Registerer, s *Store) {
	if reg == nil {
		return
	}
	size := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sipwake_store_queue_capacity", Help: "AORs that may wait for the disk."})
	size.Set(dirtyMax)
	outbox := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sipwake_store_outbox_capacity", Help: "Messages that the outbox may hold."})
	outbox.Set(float64(s.config.Outbox))
	reg.MustRegister(m.errors, m.swept, m.rejected, m.repairs, m.commit, size, outbox,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sipwake_store_outbox", Help: "Messages in the outbox, done ones included."},
			func() float64 { return float64(s.messages()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sipwake_store_queue", Help: "AORs with refreshes that wait for the disk."},
			func() float64 { return float64(s.writer.waiting.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sipwake_store_failing", Help: "1 when the last write failed."},
			func() float64 {
				if s.writer.err() != nil {
					return 1
				}
				return 0
			}))
}
