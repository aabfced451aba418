package app

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/page"
)

// The pages' history gets devices, times, errors and signals from the metrics.
func TestSamples(t *testing.T) {
	reg := prometheus.NewRegistry()
	count := func(name string, labels prometheus.Labels, n float64) {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "-", ConstLabels: labels})
		reg.MustRegister(c)
		c.Add(n)
	}
	app := func(name, value string) prometheus.Labels {
		return prometheus.Labels{"provider": "apns", "app": "phone", name: value}
	}
	count("sipwake_wake_devices_total", app("result", "woken"), 3)
	count("sipwake_wake_devices_total", app("result", "silent"), 2)
	count("sipwake_push_total", app("reason", "accepted"), 5)
	count("sipwake_push_total", app("reason", "token_dead"), 1)
	count("sipwake_node_signals_total", prometheus.Labels{"node": "sip1", "result": "added"}, 4)
	waited := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sipwake_wake_seconds", Help: "-",
		ConstLabels: prometheus.Labels{"provider": "apns", "app": "phone"}})
	reg.MustRegister(waited)
	waited.Observe(1.5)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	s := sampleOf(families)
	c := s.Apps[page.AppKey{Provider: "apns", App: "phone"}]
	if len(s.Apps) != 1 || c.Woken != 3 || c.Silent != 2 || c.Waited != 1.5 || c.Back != 1 ||
		len(c.Errors) != 1 || c.Errors["token_dead"] != 1 || s.Signals["sip1"]["added"] != 4 {
		t.Errorf("%+v", s)
	}
}
