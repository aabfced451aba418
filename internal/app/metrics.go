package app

import (
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func buildInfo(version string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sipwake_build_info", Help: "1, with the version in the labels."}, []string{"version", "go_version"})
	g.WithLabelValues(version, runtime.Version()).Set(1)
	return g
}

type reloadMetrics struct {
	successful prometheus.Gauge
	succeeded  prometheus.Gauge
}

func newReloadMetrics(reg prometheus.Registerer) reloadMetrics {
	m := reloadMetrics{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_config_reload_successful", Help: "Whether the last configuration was taken: 1 or 0."}),
		succeeded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_config_reload_success_timestamp_seconds", Help: "Unix time of the last configuration that was taken."}),
	}
	reg.MustRegister(m.successful, m.succeeded)
	m.done(nil)
	return m
}

func (m reloadMetrics) done(err error) {
	if err != nil {
		m.successful.Set(0)
		return
	}
	m.successful.Set(1)
	m.succeeded.Set(float64(time.Now().Unix()))
}

// metrics serves the metrics. It offers OpenMetrics only if exemplars are enabled, since
// that format writes some bucket bounds differently (1.0 for 1).
func (a *App) metrics() http.Handler {
	return promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{EnableOpenMetrics: a.cfg.Operations.Exemplars})
}

// stats returns the result of service.stats: all of sipwake's counters and gauges, by
// name and labels, so that an operator without Prometheus sees the same figures.
func (a *App) stats() (any, error) {
	families, err := a.reg.Gather()
	if err != nil {
		return nil, err
	}
	stats := make(map[string]float64)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sipwake_") {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := make([]string, 0, len(m.GetLabel()))
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case m.GetCounter() != nil:
				stats[name] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				stats[name] = m.GetGauge().GetValue()
			case m.GetHistogram() != nil:
				stats[name+"_count"] = float64(m.GetHistogram().GetSampleCount())
				stats[name+"_sum"] = m.GetHistogram().GetSampleSum()
			}
		}
	}
	return stats, nil
}
