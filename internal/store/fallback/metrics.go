package fallback

import "github.com/prometheus/client_golang/prometheus"

// Values of the metric label that says why a REGISTER was dropped from the spool.
const (
	droppedFull    = "full"    // displaced by newer ones
	droppedBusy    = "busy"    // the disk is too slow
	droppedDisk    = "disk"    // the file cannot be written or read
	droppedRefused = "refused" // the store rejects it
)

type metrics struct {
	spooled, replayed, hits, misses prometheus.Counter
	dropped                         *prometheus.CounterVec
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		spooled:  counter("sipwake_store_spooled_total", "REGISTERs kept on this machine because the store was away."),
		replayed: counter("sipwake_store_spool_replayed_total", "REGISTERs of the spool that the store has taken."),
		hits:     counter("sipwake_store_cache_hits_total", "Wakes started from memory because the store was away."),
		misses:   counter("sipwake_store_cache_misses_total", "Wakes that could not be started because the store was away."),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_store_spool_dropped_total", Help: "REGISTERs lost from the spool, by reason."}, []string{"reason"}),
	}
	for _, r := range []string{droppedFull, droppedBusy, droppedDisk, droppedRefused} {
		m.dropped.WithLabelValues(r)
	}
	return m
}

func (m *metrics) drop(reason string, n int) { m.dropped.WithLabelValues(reason).Add(float64(n)) }

func (m *metrics) register(reg prometheus.Registerer, s *Store) {
	if reg == nil {
		return
	}
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	reg.MustRegister(m.spooled, m.replayed, m.hits, m.misses, m.dropped,
		gauge("sipwake_store_away", "1 while the store is away.", func() int {
			if s.health.down.Load() {
				return 1
			}
			return 0
		}),
		gauge("sipwake_store_spool", "REGISTERs that wait for the store.", s.spool.len),
		gauge("sipwake_store_spool_capacity", "REGISTERs that may wait.", func() int { return s.spool.size }),
		gauge("sipwake_store_cache", "AORs whose bindings are remembered.", s.memory.len),
		gauge("sipwake_store_cache_capacity", "AORs that can be remembered.", func() int { return s.memory.size }))
}
