package app

import (
	"context"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/sipwake/sipwake/internal/page"
)

// sample adds samples of the metrics to the pages' history until ctx ends.
func (a *App) sample(ctx context.Context) {
	tick := time.NewTicker(page.SampleEvery)
	defer tick.Stop()
	for {
		if families, err := a.reg.Gather(); err == nil {
			a.history.Add(sampleOf(families))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// verdictsEvery is how often to ask push services for delivery statistics. They count by
// day.
const verdictsEvery = 6 * time.Hour

// askVerdicts asks push services for the statistics until ctx ends.
func (a *App) askVerdicts(ctx context.Context) {
	tick := time.NewTicker(verdictsEvery)
	defer tick.Stop()
	for {
		a.dispatcher.AskVerdicts(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func sampleOf(families []*dto.MetricFamily) page.Sample {
	s := page.Sample{At: time.Now(), Apps: map[page.AppKey]page.AppCount{},
		Expiry: map[page.AppKey]time.Time{}, Signals: map[string]map[string]float64{}}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make(map[string]string, len(m.GetLabel()))
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			addMetric(&s, f.GetName(), labels, m)
		}
	}
	return s
}

func addMetric(s *page.Sample, name string, labels map[string]string, m *dto.Metric) {
	key := page.AppKey{Provider: labels["provider"], App: labels["app"]}
	c := s.Apps[key]
	n := m.GetCounter().GetValue()
	switch name {
	case "sipwake_instances":
		s.Instances = int(m.GetGauge().GetValue())
		return
	case "sipwake_credential_expiry_timestamp_seconds":
		if at := m.GetGauge().GetValue(); at > 0 {
			s.Expiry[key] = time.Unix(int64(at), 0)
		}
		return
	case "sipwake_node_signals_total":
		node := labels["node"]
		if s.Signals[node] == nil {
			s.Signals[node] = map[string]float64{}
		}
		s.Signals[node][labels["result"]] += n
		return
	case "sipwake_wake_devices_total":
		switch labels["result"] {
		case "woken":
			c.Woken += n
		case "silent":
			c.Silent += n
		case "failed":
			c.Failed += n
		}
	case "sipwake_wake_seconds":
		c.Waited += m.GetHistogram().GetSampleSum()
		c.Back += float64(m.GetHistogram().GetSampleCount())
	case "sipwake_push_total":
		if labels["reason"] != "accepted" && n > 0 {
			if c.Errors == nil {
				c.Errors = map[string]float64{}
			}
			c.Errors[labels["reason"]] += n
		}
	default:
		return
	}
	s.Apps[key] = c
}
