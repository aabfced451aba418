package push

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// finish ends a job that an app accepted: it counts it, logs it and calls done.
func (q *queue) finish(j *job, reason Reason) {
	if j.reply.Reason != "" && (reason == Expired || reason == BreakerOpen) {
		reason = j.reply.Reason // why there was no success
	}
	q.metrics.count(j.r.Kind, reason)
	end(q.log, &q.throttle, j, reason)
}

// refuse ends a job that no app accepted.
func (d *Dispatcher) refuse(j *job, reason Reason) {
	d.metrics.countRefused(j.r.Provider, j.r.Kind, reason)
	end(d.log, &d.throttle, j, reason)
}

func end(log *slog.Logger, t *throttle, j *job, reason Reason) {
	o := Outcome{Reply: j.reply, Tries: j.tries, SentAt: j.sentAt}
	o.Reason = reason
	logOutcome(log, t, &j.r, &o)
	j.done(o)
}

// logOutcome logs failures as warnings, throttled by reason, and everything else at
// debug level.
func logOutcome(log *slog.Logger, t *throttle, r *Request, o *Outcome) {
	level, message, dropped := slog.LevelDebug, "push sent", 0
	switch o.Reason {
	case Accepted:
	case Dropped, BreakerOpen, ShutDown, ByPolicy: // our own decision; the breaker has already warned
		message = "push not sent"
	default:
		level, message = slog.LevelWarn, "push failed"
		var ok bool
		if ok, dropped = t.allow(o.Reason, time.Now()); !ok {
			return
		}
	}
	if !log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("kind", string(r.Kind)), slog.String("reason", string(o.Reason)),
		slog.String("detail", o.Detail), slog.Int("tries", o.Tries),
		slog.String("call_id", r.Values.CallID), slog.String("aor", r.Values.AOR),
		slog.Any("token", r.Token),
	}
	if o.Reason == NoApp { // an app's own logger includes these
		attrs = append(attrs, slog.String("provider", string(r.Provider)), slog.String("app", r.App),
			slog.String("environment", string(r.Environment)))
	}
	if dropped > 0 {
		attrs = append(attrs, slog.Int("dropped", dropped))
	}
	log.LogAttrs(context.Background(), level, message, attrs...) //nolint:sloglint // one of the three above
}

// throttleEvery is the minimum time between two log lines with the same reason.
const throttleEvery = 10 * time.Second

// throttle limits similar log lines. The zero value is ready to use. It holds one
// entry per reason.
type throttle struct {
	mu   sync.Mutex
	last map[Reason]throttled
}

type throttled struct {
	at      time.Time
	dropped int
}

// allow reports whether to write the line, and how many were dropped since the last
// one.
func (t *throttle) allow(reason Reason, now time.Time) (ok bool, dropped int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, seen := t.last[reason]
	if seen && now.Sub(e.at) < throttleEvery {
		e.dropped++
		t.last[reason] = e
		return false, 0
	}
	if t.last == nil {
		t.last = make(map[Reason]throttled)
	}
	t.last[reason] = throttled{at: now}
	return true, e.dropped
}
