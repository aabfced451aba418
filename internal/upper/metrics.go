package upper

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	refreshes     *prometheus.CounterVec
	registrations *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sipwake_upper_refreshes_total", Help: "Registrations at a PBX that were refreshed, by how it ended: ok, ended, retrying, failed."},
		[]string{"result"}),
		registrations: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sipwake_upper_registrations", Help: "Registrations at a PBX that are kept alive, by state, counted every 5 minutes by each instance."},
			[]string{"state"})}
	reg.MustRegister(m.refreshes, m.registrations)
	for _, result := range []string{"ok", "ended", string(StateRetrying), string(StateFailed)} {
		m.refreshes.WithLabelValues(result)
	}
	for _, state := range []State{StateOK, StateRetrying, StateFailed} {
		m.registrations.WithLabelValues(string(state))
	}
	return m
}

func (m metrics) count(result string) { m.refreshes.WithLabelValues(result).Inc() }
