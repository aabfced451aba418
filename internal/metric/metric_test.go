package metric_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sipwake/sipwake/internal/metric"
)

// observe returns what a histogram says after one observation of a call.
func observe(t *testing.T, e metric.Exemplars, callID string) *dto.Histogram {
	t.Helper()
	h := prometheus.NewHistogram(metric.Histogram("test_seconds", "A test.", 1, 2))
	e.Observe(h, 1.5, callID)
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetHistogram()
}

func TestHistogramIsClassicAndNative(t *testing.T) {
	h := observe(t, false, "call-1")
	if len(h.GetBucket()) != 2 || h.GetBucket()[1].GetCumulativeCount() != 1 {
		t.Errorf("classic buckets: %v", h.GetBucket())
	}
	if h.Schema == nil || len(h.GetPositiveSpan()) != 1 {
		t.Errorf("no native buckets: %v", h)
	}
}

func TestExemplars(t *testing.T) {
	const callID, hash = "call-1", "5d7963c4f471e142" // printf %s call-1 | sha256sum | cut -c 1-16
	exemplar := func(e metric.Exemplars, callID string) *dto.Exemplar {
		for _, b := range observe(t, e, callID).GetBucket() {
			if b.GetExemplar() != nil {
				return b.GetExemplar()
			}
		}
		return nil
	}
	if got := exemplar(true, callID); got == nil || got.GetLabel()[0].GetName() != metric.CallHash || got.GetLabel()[0].GetValue() != hash {
		t.Errorf("exemplar %v, want %s", got, hash)
	}
	if got := exemplar(false, callID); got != nil {
		t.Errorf("exemplar %v though there are to be none", got)
	}
	if got := exemplar(true, ""); got != nil {
		t.Errorf("exemplar %v of no call", got)
	}
}
