package page

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"
	"time"
)

// SampleEvery is how often to add a Sample to a History.
const SampleEvery = 10 * time.Second

// Limits of a History: half an hour, and the number of apps and nodes.
const (
	maxSamples = 180
	maxSeries  = 100
)

// AppKey names an app at its push service.
type AppKey struct{ Provider, App string }

// AppCount has the counters of an app since the start.
type AppCount struct {
	Woken, Silent, Failed float64 // devices
	Waited, Back          float64 // seconds until devices were back, and how many came back
	Errors                map[string]float64
}

func (c *AppCount) devices() float64 { return c.Woken + c.Silent + c.Failed }

// Sample is the state of the metrics at one moment.
type Sample struct {
	At        time.Time
	Instances int
	Apps      map[AppKey]AppCount
	Expiry    map[AppKey]time.Time          // of credentials that expire
	Signals   map[string]map[string]float64 // by node and answer
}

// last is the most recent event of a kind that is otherwise only counted.
type last struct {
	What string
	At   time.Time
}

// History keeps the last samples. It is safe for concurrent use.
type History struct {
	mu      sync.Mutex
	now     Sample
	points  map[AppKey][]AppCount
	errors  map[AppKey]last
	signals map[string]last
}

// NewHistory returns an empty History.
func NewHistory() *History {
	return &History{points: map[AppKey][]AppCount{}, errors: map[AppKey]last{}, signals: map[string]last{}}
}

// Add adds a sample. It forgets the apps and nodes that are not in the sample.
func (h *History) Add(s Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.points {
		if _, ok := s.Apps[k]; !ok {
			delete(h.points, k)
			delete(h.errors, k)
		}
	}
	for k, c := range s.Apps {
		p, known := h.points[k]
		if !known && len(h.points) >= maxSeries {
			continue
		}
		if what := risen(h.now.Apps[k].Errors, c.Errors); what != "" {
			h.errors[k] = last{what, s.At}
		}
		if len(p) == maxSamples {
			p = append(p[:0], p[1:]...)
		}
		h.points[k] = append(p, c)
	}
	for n := range h.signals {
		if _, ok := s.Signals[n]; !ok {
			delete(h.signals, n)
		}
	}
	for n, counts := range s.Signals {
		if what := risen(h.now.Signals[n], counts); what != "" && (len(h.signals) < maxSeries || h.signals[n].What != "") {
			h.signals[n] = last{what, s.At}
		}
	}
	h.now = s
}

// risen returns the name of the counter that rose most between the two.
func risen(was, now map[string]float64) (name string) {
	most := 0.0
	for n, c := range now {
		if d := c - was[n]; d > most || d == most && d > 0 && n < name {
			name, most = n, d
		}
	}
	return name
}

// graphs has what the overview draws for an app.
type graphs struct {
	AppKey
	Woken, Share, Seconds string
	ShareLine, TimeLine   template.HTML // made of numbers only
}

// graphs returns the graphs of all apps that had phones to wake in that time, by name.
func (h *History) graphs() (list []graphs) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, points := range h.points {
		g := graphs{AppKey: k, Seconds: "–"}
		first, end := AppCount{}, points[len(points)-1] // all since the start
		if len(points) == maxSamples {
			first = points[0]
		}
		all := end.devices() - first.devices()
		if all <= 0 {
			continue
		}
		g.Woken = fmt.Sprintf("%.0f of %.0f", end.Woken-first.Woken, all)
		g.Share = fmt.Sprintf("%.0f %%", 100*(end.Woken-first.Woken)/all)
		if n := end.Back - first.Back; n > 0 {
			g.Seconds = fmt.Sprintf("%.2f s", (end.Waited-first.Waited)/n)
		}
		g.ShareLine = line(points, 1, func(a, b AppCount) (float64, bool) {
			all := b.devices() - a.devices()
			return (b.Woken - a.Woken) / all, all > 0
		})
		g.TimeLine = line(points, 0, func(a, b AppCount) (float64, bool) {
			return (b.Waited - a.Waited) / (b.Back - a.Back), b.Back > a.Back
		})
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b graphs) int {
		return cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.App, b.App))
	})
	return list
}

// Size of a graph, in units of its viewBox.
const (
	graphWidth, graphHeight = 240.0, 40.0
	graphStep               = 3 // samples per point
)

// line draws a value computed from pairs of samples, scaled to top or to the maximum
// value. Where a value is missing, the line connects its neighbours.
func line(points []AppCount, top float64, value func(a, b AppCount) (float64, bool)) template.HTML {
	type point struct{ x, y float64 }
	var list []point
	for end := len(points) - 1; end >= 0; end -= graphStep {
		var before AppCount // the first sample counts from the start
		if end >= graphStep {
			before = points[end-graphStep]
		}
		if v, ok := value(before, points[end]); ok {
			list = append(list, point{graphWidth - 4 - float64(len(points)-1-end)*(graphWidth-8)/maxSamples, v})
		}
	}
	if len(list) == 0 {
		return ""
	}
	if top == 0 {
		for _, p := range list {
			top = max(top, p.y*1.1)
		}
	}
	var b strings.Builder
	b.WriteString(`<polyline points="`)
	for i := range list {
		list[i].y = graphHeight - 4 - list[i].y/max(top, 1e-9)*(graphHeight-8)
		fmt.Fprintf(&b, "%.1f,%.1f ", list[i].x, list[i].y)
	}
	fmt.Fprintf(&b, `"/><circle cx="%.1f" cy="%.1f" r="2.5"/>`, list[0].x, list[0].y)
	return template.HTML(b.String())
}

// moment returns the data shown beside the graphs.
func (h *History) moment() (instances int, expiry map[AppKey]time.Time, errors map[AppKey]last, signals map[string]last) {
	h.mu.Lock()
	defer h.mu.Unlock()
	errors, signals = make(map[AppKey]last, len(h.errors)), make(map[string]last, len(h.signals))
	for k, v := range h.errors {
		errors[k] = v
	}
	for k, v := range h.signals {
		signals[k] = v
	}
	return h.now.Instances, h.now.Expiry, errors, signals
}
