package page

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func sample(at int, k AppKey, c AppCount) Sample {
	return Sample{At: time.Unix(int64(at), 0), Apps: map[AppKey]AppCount{k: c}}
}

// A history shows shares and times of its half hour, and what went wrong last.
func TestHistory(t *testing.T) {
	h, k := NewHistory(), AppKey{"apns", "phone"}
	if h.Add(sample(0, k, AppCount{})); len(h.graphs()) != 0 {
		t.Errorf("graphs of nothing: %+v", h.graphs())
	}
	h.Add(sample(10, k, AppCount{Woken: 3, Failed: 1, Waited: 6, Back: 3, Errors: map[string]float64{"timeout": 1}}))
	g := h.graphs()
	if len(g) != 1 || g[0].Share != "75 %" || g[0].Woken != "3 of 4" || g[0].Seconds != "2.00 s" || !strings.Contains(string(g[0].ShareLine), "polyline") {
		t.Errorf("graphs: %+v", g)
	}
	h.Add(sample(20, k, AppCount{Woken: 3, Failed: 1, Waited: 6, Back: 3, Errors: map[string]float64{"timeout": 1}}))
	if _, _, errors, _ := h.moment(); errors[k].What != "timeout" || errors[k].At.Unix() != 10 {
		t.Errorf("last error: %+v", errors)
	}
	// What was counted more than half an hour ago is no longer there.
	for i := range maxSamples {
		h.Add(sample(30+10*i, k, AppCount{Woken: 4, Silent: 1, Failed: 1, Waited: 7, Back: 4}))
	}
	if n := len(h.graphs()); n != 0 {
		t.Errorf("%d graphs of a quiet half hour", n)
	}
}

// A history stays small whatever is counted, and forgets what is not there any more.
func TestHistoryIsBounded(t *testing.T) {
	h := NewHistory()
	for i := range maxSamples + 10 {
		s := Sample{Apps: map[AppKey]AppCount{}, Signals: map[string]map[string]float64{}}
		for j := range maxSeries + 10 {
			s.Apps[AppKey{"fcm", fmt.Sprint(j)}] = AppCount{Errors: map[string]float64{"timeout": float64(i)}}
			s.Signals[fmt.Sprint(j)] = map[string]float64{"added": float64(i)}
		}
		h.Add(s)
	}
	for k, p := range h.points {
		if len(p) > maxSamples || cap(p) > 2*maxSamples {
			t.Fatalf("%v has %d samples, room for %d", k, len(p), cap(p))
		}
	}
	if len(h.points) > maxSeries || len(h.errors) > maxSeries || len(h.signals) > maxSeries {
		t.Errorf("%d apps, %d errors, %d nodes", len(h.points), len(h.errors), len(h.signals))
	}
	h.Add(Sample{})
	if len(h.points)+len(h.errors)+len(h.signals) > 0 {
		t.Error("what is gone is kept")
	}
}
