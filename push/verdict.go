package push

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Verdict is a push service's report on what became of one day's pushes of one kind
// after it accepted them. The shares are between 0 and 1.
type Verdict struct {
	Day  string // 2006-01-02, in the service's own calendar
	Kind Kind
	// PriorityLowered is the share whose priority the service lowered, so that a
	// sleeping phone was not woken at once. Dozed is the share that it held back
	// while the phone was in Doze.
	PriorityLowered, Dozed float64
}

// Judge is a Provider whose service reports later how pushes fared.
type Judge interface {
	// Judges reports whether the service should be asked.
	Judges() bool
	// Verdicts asks the service. It may take until ctx ends.
	Verdicts(ctx context.Context) ([]Verdict, error)
}

const (
	verdictTimeout = 30 * time.Second
	// verdictDays limits how many days are kept.
	verdictDays = 7
)

// AskVerdicts asks each service that reports how pushes fared, one after another, for
// the metrics. A failure is logged once until the next success: it costs metrics, but
// no push.
func (d *Dispatcher) AskVerdicts(ctx context.Context) {
	for _, q := range d.table.Load().queues {
		j, ok := q.Client.(Judge)
		if !ok || !j.Judges() {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, verdictTimeout)
		list, err := j.Verdicts(limited)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			list = lastDays(list)
			q.verdicts.Store(&list)
			q.unjudged.Store(false)
		case !q.unjudged.Swap(true):
			q.log.Warn("cannot ask how pushes fared", "err", err)
		}
	}
}

// lastDays keeps the most recent days.
func lastDays(list []Verdict) []Verdict {
	var days []string
	for _, v := range list {
		days = append(days, v.Day)
	}
	slices.Sort(days)
	days = slices.Compact(days)
	if len(days) <= verdictDays {
		return list
	}
	oldest := days[len(days)-verdictDays]
	return slices.DeleteFunc(list, func(v Verdict) bool { return strings.Compare(v.Day, oldest) < 0 })
}

// verdictDescs describes the series of verdicts.
type verdictDescs struct{ lowered, dozed *prometheus.Desc }

func newVerdictDescs() verdictDescs {
	labels := []string{"app", "day", "kind"}
	return verdictDescs{
		lowered: prometheus.NewDesc("sipwake_fcm_priority_lowered_ratio",
			"Share of a day's pushes whose priority Google lowered; absent unless it is asked.", labels, nil),
		dozed: prometheus.NewDesc("sipwake_fcm_delayed_doze_ratio",
			"Share of a day's pushes that Google held back while the phone dozed; absent unless it is asked.", labels, nil),
	}
}

func (v verdictDescs) collect(ch chan<- prometheus.Metric, q *queue) {
	list := q.verdicts.Load()
	if list == nil {
		return
	}
	for _, one := range *list {
		gauge(ch, v.lowered, one.PriorityLowered, q.name(), one.Day, string(one.Kind))
		gauge(ch, v.dozed, one.Dozed, q.name(), one.Day, string(one.Kind))
	}
}
