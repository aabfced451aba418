package trace

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/limit"
)

// Exporter sends timelines of ended calls to another system. It is used by a single
// goroutine.
type Exporter interface {
	// Name is a metric label.
	Name() string
	// Export sends the parts. It returns how many of them it could not send, and
	// why. Those are lost.
	Export(ctx context.Context, parts []Part) (lost int, err error)
	// Close closes its connections.
	Close() error
}

// Export sends the timelines of a Log through each Exporter, a while after their calls
// have ended. Callers that add to the Log never wait for it, and Exporters do not wait
// for each other.
type Export struct {
	timelines *Log
	instance  string
	shared    bool
	log       *limit.Log
	queues    []*queue
	exported  *prometheus.CounterVec // by exporter
	dropped   *prometheus.CounterVec // by exporter
}

// queue holds what waits for one Exporter.
type queue struct {
	Exporter
	parts chan Part
}

const (
	exportEvery   = 500 * time.Millisecond
	exportBatch   = 64
	exportQueue   = 4096 // the most parts that wait for one Exporter
	exportTimeout = 10 * time.Second
)

// NewExport returns an Export, or nil without exporters. instance names this process.
// shared says that other instances continue the calls that are open when this one
// ends. Call NewExport before the Log is used.
func NewExport(l *Log, exporters []Exporter, instance string, shared bool, log *slog.Logger, reg prometheus.Registerer) *Export {
	if len(exporters) == 0 {
		return nil
	}
	x := &Export{timelines: l, instance: instance, shared: shared, log: limit.NewLog(log),
		exported: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_traces_exported_total", Help: "Timelines that were sent to the other system."}, []string{"exporter"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sipwake_traces_export_dropped_total", Help: "Timelines that were not sent: the other system refused them, or the queue was full."}, []string{"exporter"}),
	}
	reg.MustRegister(x.exported, x.dropped)
	for _, e := range exporters {
		n := &queue{e, make(chan Part, exportQueue)}
		x.queues = append(x.queues, n)
		label := prometheus.Labels{"exporter": e.Name()}
		x.exported.With(label)
		x.dropped.With(label)
		reg.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sipwake_traces_export_queue", ConstLabels: label,
				Help: "Timelines that wait to be sent to the other system."}, func() float64 { return float64(len(n.parts)) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sipwake_traces_export_queue_capacity", ConstLabels: label,
				Help: "Timelines that may wait to be sent."}, func() float64 { return exportQueue }))
	}
	l.feed.on = true
	return x
}

// Run exports until ctx ends. Then it exports what is left, until final ends.
func (x *Export) Run(ctx, final context.Context) {
	var sending sync.WaitGroup
	for _, n := range x.queues {
		sending.Go(func() { x.send(final, n) })
	}
	tick := time.NewTicker(exportEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			x.enqueue(false)
		case <-ctx.Done():
		}
	}
	x.enqueue(true)
	for _, n := range x.queues {
		close(n.parts)
	}
	sending.Wait()
	x.log.Close()
}

// enqueue puts what is due into every queue; with all, everything that is left.
func (x *Export) enqueue(all bool) {
	for {
		parts := x.timelines.export(time.Now(), exportBatch, all, x.shared)
		for i := range parts {
			parts[i].complete(x.instance, x.shared)
		}
		lost := x.timelines.takeUnexported()
		for _, n := range x.queues {
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

func (x *Export) drop(n *queue, parts int) {
	x.dropped.WithLabelValues(n.Name()).Add(float64(parts))
}

// send sends what is in the queue until it is closed.
func (x *Export) send(final context.Context, n *queue) {
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
