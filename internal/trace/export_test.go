package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// recorder is an Exporter that remembers what it was given.
type recorder struct {
	name  string
	hangs bool

	mu     sync.Mutex
	parts  []Part
	away   bool
	closed bool
}

func (r *recorder) Name() string { return r.name }

func (r *recorder) Export(ctx context.Context, parts []Part) (int, error) {
	if r.hangs {
		<-ctx.Done()
		return len(parts), ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return len(parts), errors.New("connection refused")
	}
	r.parts = append(r.parts, parts...)
	return 0, nil
}

func (r *recorder) Close() error {
	r.closed = true
	return nil
}

// said returns what was exported: an exclamation mark is a whole call.
func (r *recorder) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var said []string
	for _, p := range r.parts {
		s := p.ID
		if p.Whole {
			s += "!"
		}
		for _, e := range p.Events {
			s += " " + string(e.Name)
		}
		said = append(said, s)
	}
	return strings.Join(said, ", ")
}

// exporting runs f with an Export of a Log that remembers size calls.
func exporting(t *testing.T, size int, shared bool, f func(l *Log, r *recorder, value func(metric string) float64), more ...Exporter) *recorder {
	t.Helper()
	r := &recorder{name: "recorder"}
	synctest.Test(t, func(t *testing.T) {
		l, reg := NewLog(size), prometheus.NewRegistry()
		x := NewExport(l, append([]Exporter{r}, more...), "one", shared, slog.New(slog.DiscardHandler), reg)
		ctx, cancel := context.WithCancel(t.Context())
		final, give := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { x.Run(ctx, final) })
		f(l, r, func(metric string) float64 { return valueOf(t, reg, metric, r.name) })
		cancel()
		time.Sleep(time.Second)
		give()
		running.Wait()
		if !r.closed {
			t.Error("the exporter is not closed")
		}
	})
	return r
}

func valueOf(t *testing.T, reg *prometheus.Registry, metric, exporter string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == metric && m.GetLabel()[0].GetValue() == exporter {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s", metric)
	return 0
}

func wantSaid(t *testing.T, r *recorder, want string) {
	t.Helper()
	synctest.Wait()
	if got := r.said(); got != want {
		t.Fatalf("exported %q, want %q", got, want)
	}
}

// begin begins a call that pushes; now is when its events are.
func begin(l *Log, id string) {
	h := head(id)
	h.StartedAt = time.Now()
	l.Begin(h)
	l.Add(id, Event{At: time.Now(), Name: Held})
	l.SetOutcome(id, "pushing")
}

func end(l *Log, id string) {
	l.Add(id, Event{At: time.Now(), Name: Ended, Detail: "answered"})
	l.SetReason(id, "answered")
}

// A call is exported once, a while after its end; what comes later is exported
// later, without the call.
func TestExportOnceACall(t *testing.T) {
	r := exporting(t, 10, false, func(l *Log, r *recorder, value func(string) float64) {
		begin(l, "a")
		time.Sleep(time.Minute)
		wantSaid(t, r, "")
		end(l, "a")
		time.Sleep(time.Second)
		l.Add("a", Event{At: time.Now(), Name: Failed, Device: "5e1f0c2f6a3b4d5e6f70", Detail: "dropped"})
		time.Sleep(1800 * time.Millisecond)
		wantSaid(t, r, "")
		time.Sleep(time.Second)
		const call = "a! held ended failed"
		wantSaid(t, r, call)
		l.Add("a", Event{At: time.Now(), Name: Accepted, Kind: "cancel"})
		time.Sleep(3 * time.Second)
		wantSaid(t, r, call+", a accepted")
		if n := value("sipwake_traces_exported_total"); n != 2 {
			t.Errorf("%v are counted", n)
		}
	})
	if p := r.parts[0]; p.Verdict == "" || p.Instance != "one" || p.Events[2].Device != "unnamed-5e1f" {
		t.Errorf("exported %+v", p)
	}
}

// The end of a call is exported although it goes on to have news.
func TestExportDoesNotWaitForSilence(t *testing.T) {
	exporting(t, 10, false, func(l *Log, r *recorder, _ func(string) float64) {
		begin(l, "a")
		end(l, "a")
		for range 11 {
			l.Add("a", Event{At: time.Now(), Name: Registered, Device: "x"})
			time.Sleep(time.Second)
		}
		if said := r.said(); !strings.HasPrefix(said, "a! held ended registered") {
			t.Fatalf("exported %q", said)
		}
	})
}

// A call that nobody holds, or whose end never comes, is exported too.
func TestExportWithoutAnEnd(t *testing.T) {
	exporting(t, 10, false, func(l *Log, r *recorder, _ func(string) float64) {
		l.Begin(head("a"))
		l.SetOutcome("a", "none")
		l.Begin(head("b"))
		l.Add("b", Event{At: time.Now(), Name: StoreAway})
		begin(l, "c")
		l.Begin(head("d")) // another instance's call
		l.Add("d", Event{At: time.Now(), Name: Registered, Device: "x"})
		time.Sleep(3 * time.Second)
		wantSaid(t, r, "a!")
		time.Sleep(8 * time.Second)
		wantSaid(t, r, "a!, b! store away, d registered")
		time.Sleep(6 * time.Minute)
		wantSaid(t, r, "a!, b! store away, d registered, c! held")
	})
}

// The end of the process exports what is there. Where another instance goes on with
// an open call, that one tells of it.
func TestExportAtTheEnd(t *testing.T) {
	open := func(l *Log, _ *recorder, _ func(string) float64) {
		begin(l, "a")
		begin(l, "b")
		end(l, "b")
	}
	if got := exporting(t, 10, false, open).said(); got != "a! held, b! held ended" {
		t.Errorf("alone: exported %q", got)
	}
	r := exporting(t, 10, true, open)
	if got := r.said(); got != "a held, b! held ended" {
		t.Errorf("of several: exported %q", got)
	}
	if r.parts[1].Verdict != "" {
		t.Error("an instance that knows its part only judges")
	}
}

// An exporter that hangs, or that nobody answers, costs only its own: what does not
// fit is dropped and counted, and adding never waits.
func TestExportDropsAndCounts(t *testing.T) {
	stuck := &recorder{name: "stuck", hangs: true}
	exporting(t, 8192, false, func(l *Log, r *recorder, value func(string) float64) {
		began := time.Now()
		for i := range 3 * exportQueue {
			begin(l, fmt.Sprint(i))
			end(l, fmt.Sprint(i))
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("adding waited %s", took)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got, lost := value("sipwake_traces_exported_total"), value("sipwake_traces_export_dropped_total"); got+lost != 3*exportQueue || got < exportQueue {
			t.Errorf("%v exported and %v dropped of %d", got, lost, 3*exportQueue)
		}
		r.mu.Lock()
		r.away = true
		r.mu.Unlock()
		before := value("sipwake_traces_export_dropped_total")
		begin(l, "z")
		end(l, "z")
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if lost := value("sipwake_traces_export_dropped_total") - before; lost != 1 {
			t.Errorf("%v dropped of one", lost)
		}
	}, stuck)
}

// A log that nobody exports is as it was: the exporters cost a call nothing.
func TestNoExportCostsNothing(t *testing.T) {
	if NewExport(NewLog(1), nil, "one", false, slog.New(slog.DiscardHandler), prometheus.NewRegistry()) != nil {
		t.Error("there is an Export without exporters")
	}
	for _, on := range []bool{false, true} {
		l := fullLog(on)
		e := Event{Name: Accepted, Device: "device", Detail: "apns", Provider: "apns"}
		if n := testing.AllocsPerRun(1000, func() { l.Add("a", e) }); n != 0 {
			t.Errorf("%v allocations, exported: %v", n, on)
		}
		if queued := len(l.feed.list); queued > 0 != on {
			t.Errorf("%d timelines wait, exported: %v", queued, on)
		}
	}
}

// fullLog has a call that has room for no more events: what is measured is not the
// growth of its list.
func fullLog(on bool) *Log {
	l := NewLog(1)
	l.feed.on = on
	l.Begin(head("a"))
	for range maxPerDevice {
		l.Add("a", Event{Name: Accepted, Device: "device"})
	}
	return l
}
