package upper

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ refreshes *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sipwake_upper_refreshes_total", Help: "Registrations at a PBX that were refreshed, by how it ended: ok, ended, retrying, failed."},
		[]string{"result"})}
	reg.MustRegister(m.refreshes)
	for _, result := range []string{"ok", "ended", string(StateRetrying), string(StateFailed)} {
		m.refreshes.WithLabelValues(result)
	}
	return m
}

func (m metrics) count(result string) { m.refreshes.WithLabelValues(result).Inc() }
