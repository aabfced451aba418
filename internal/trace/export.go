package trace

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/limit"
)

// Exporter sends timelines of ended calls to another system. Only one goroutine uses
// it.
type Exporter interface {
	// Name is a metric label.
	Name() string
	// Export sends the parts. What it could not send is lost; it returns how many
	// of the parts that are, and why.
	Export(ctx context.Context, parts []Part) (lost int, err error)
	// Close ends its connections.
	Close() error
}

// Export has each Exporter send the timelines of a Log, a while after their calls
// have ended. Whoever adds to the Log never waits for it, and no Exporter for
// another one.
type Export struct {
	timelines *Log
	instance  string
	shared    bool
	log       *limit.Log
	lanes     []*lane
	exported  *prometheus.CounterVec // by exporter
	dropped   *prometheus.CounterVec // by exporter
}

// lane is the queue of one Exporter.
type lane struct {
	Exporter
	parts chan Part
}

const (
	exportEvery   = 500 * time.Millisecond
	exportBatch   = 64
	exportQueue   = 4096 // parts that wait for one Exporter
	exportTimeout = 10 * time.Second
)

// NewExport returns an Export, nil without exporters. instance names this process;
// shared says that there are others, which go on with the calls that are open when
// it ends. Nobody else may use the Log yet.
func NewExport(l *Log, exporters []Exporter, instance string, shared bool, log *slog.Logger, reg prometheus.Registerer) *Export {
	if len(exporters) == 0 {
		return nil
	}
	x := &Export{timelines: l, instance: instance, shared: shared, log: limit.NewLog(log),
		exported: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_traces_exported_total", Help: "Timelines that were sent to another system."}, []string{"exporter"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_traces_export_dropped_total", Help: "Timelines that were not sent: the other system did not take them."}, []string{"exporter"}),
	}
	reg.MustRegister(x.exported, x.dropped)
	for _, e := range exporters {
		n := &lane{e, make(chan Part, exportQueue)}
		x.lanes = append(x.lanes, n)
		label := prometheus.Labels{"exporter": e.Name()}
		x.exported.With(label)
		x.dropped.With(label)
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sipwake_traces_export_queue", ConstLabels: label,
				Help: "Timelines that wait to be sent to another system."}, func() float64 { return float64(len(n.parts)) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sipwake_traces_export_queue_capacity", ConstLabels: label,
				Help: "Timelines that may wait to be sent."}, func() float64 { return exportQueue }))
	}
	l.feed.on = true
	return x
}

// Run exports until ctx ends, and then, for as long as final allows, what is left.
func (x *Export) Run(ctx, final context.Context) {
	var sending sync.WaitGroup
	for _, n := range x.lanes {
		sending.Go(func() { x.send(final, n) })
	}
	tick := time.NewTicker(exportEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			x.queue(false)
		case <-ctx.Done():
		}
	}
	x.queue(true)
	for _, n := range x.lanes {
		close(n.parts)
	}
	sending.Wait()
	x.log.Close()
}

// queue gives every lane what is due.
func (x *Export) queue(all bool) {
	for {
		parts := x.timelines.export(time.Now(), exportBatch, all, x.shared)
		for i := range parts {
			parts[i].tell(x.instance, x.shared)
		}
		lost := x.timelines.takeUnexported()
		for _, n := range x.lanes {
			x.drop(n, lost)
			for _, p := range parts {
				select {
				case n.parts <- p:
				default:
					x.drop(n, 1)
				}
			}
		}
		if len(parts) < exportBatch {
			return
		}
	}
}

func (x *Export) drop(n *lane, parts int) {
	x.dropped.WithLabelValues(n.Name()).Add(float64(parts))
}

// send sends what the lane has until it is closed.
func (x *Export) send(final context.Context, n *lane) {
	for p := range n.parts {
		parts := []Part{p}
		for more := true; more && len(parts) < exportBatch; {
			select {
			case p, ok := <-n.parts:
				if more = ok; ok {
					parts = append(parts, p)
				}
			default:
				more = false
			}
		}
		ctx, cancel := context.WithTimeout(final, exportTimeout)
		lost, err := n.Export(ctx, parts)
		cancel()
		x.exported.WithLabelValues(n.Name()).Add(float64(len(parts) - lost))
		x.drop(n, lost)
		if err != nil {
			x.log.Warn("cannot export traces", "exporter", n.Name(), "timelines", lost, "err", err)
		}
	}
	if err := n.Close(); err != nil {
		x.log.Warn("cannot close exporter", "exporter", n.Name(), "err", err)
	}
}
