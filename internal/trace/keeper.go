package trace

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Keeper writes the timelines of a Log to a Store, which all instances share, and
// searches both. Callers that add to the Log never wait for it.
type Keeper struct {
	timelines *Log
	store     Store // nil: only the Log has timelines
	instance  string
	log       *slog.Logger

	kept, queued     prometheus.Gauge
	written, dropped prometheus.Counter
}

// NewKeeper returns a Keeper. Without a store it only searches the Log. instance names
// this process among those that share the store.
func NewKeeper(l *Log, s Store, instance string, log *slog.Logger, reg prometheus.Registerer) *Keeper {
	k := &Keeper{timelines: l, store: s, instance: instance, log: log,
		kept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_traces_kept", Help: "Calls whose timelines are in the store."}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sipwake_traces_queue", Help: "Timelines that wait to be written."}),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_traces_written_total", Help: "Timelines that were written; one counts again each time it has changed."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sipwake_traces_dropped_total", Help: "Timelines, or updates of them, that were never written."}),
	}
	reg.MustRegister(k.kept, k.queued, k.written, k.dropped)
	l.keep = s != nil // before anybody else has the Log
	return k
}

const (
	writeEvery = 100 * time.Millisecond
	// writeBatch is how many timelines one Put writes. The embedded store writes
	// whole pages, so many timelines cost little more than few.
	writeBatch = 512
	// trimEvery is how often an idle Keeper lets the store delete old timelines.
	trimEvery    = time.Minute
	writeTimeout = 2 * time.Second
	// afterFailure is the pause after a failed write.
	afterFailure = time.Second
)

// Run writes until ctx ends. Then it writes what is left.
func (k *Keeper) Run(ctx context.Context) {
	if k.store == nil {
		return
	}
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	w := writer{Keeper: k}
	for {
		select {
		case <-tick.C:
			w.write(ctx, false)
		case <-ctx.Done():
			w.write(context.WithoutCancel(ctx), true)
			return
		}
	}
}

// writer is the state of Run.
type writer struct {
	*Keeper
	trimmed time.Time // when the last write succeeded
	rest    time.Time // no write before then
	failed  bool

	// Used again and again; empty between two writes.
	due   []taken
	parts []Timeline
}

func (w *writer) write(ctx context.Context, all bool) {
	defer func() { w.dropped.Add(float64(w.timelines.takeDropped())) }()
	if !all && time.Now().Before(w.rest) {
		return
	}
	for {
		due := w.timelines.take(w.due[:0], time.Now(), writeBatch, all)
		w.due = due
		if len(due) == 0 && time.Since(w.trimmed) < trimEvery {
			break
		}
		if err := w.put(ctx, due); err != nil {
			w.timelines.putBack(due)
			w.rest = time.Now().Add(afterFailure)
			if !w.failed {
				w.log.Warn("cannot write traces, trying again", "err", err)
			}
			w.failed = true
			if all {
				w.dropped.Add(float64(w.timelines.waits()))
			}
			break
		}
		w.failed = false
		w.timelines.wrote(due)
		if len(due) < writeBatch {
			break
		}
	}
	clear(w.due[:cap(w.due)])
	w.queued.Set(float64(w.timelines.waits()))
}

func (w *writer) put(ctx context.Context, due []taken) error {
	parts := w.parts[:0]
	for i := range due {
		parts = append(parts, due[i].Timeline)
		parts[i].Instance = w.instance
	}
	w.parts = parts
	defer clear(parts)
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	kept, err := w.store.Put(ctx, parts)
	if err != nil {
		return err
	}
	w.trimmed = time.Now()
	w.kept.Set(float64(kept))
	w.written.Add(float64(len(parts)))
	return nil
}

// Found is what Find returns.
type Found struct {
	Timelines []Timeline // merged, the newest first
	Next      Cursor     // of the next page; zero if there is none
	// Incomplete says that the store did not answer: these are only the calls that
	// this instance remembers.
	Incomplete bool
	// Users are the users that the part of a name matched.
	Users []string
	// Like are users with similar names, if nothing was found.
	Like []string
}

const (
	maxUsers = 16 // the most users that a part of a name matches
	maxLike  = 3
)

// Find returns what all instances know of the calls that match q. Events of the last
// second may be missing, if another instance has not written them yet. If q names no
// user, part selects every user with this text in the name.
func (k *Keeper) Find(ctx context.Context, q Query, part string) Found {
	part = strings.ToLower(part)
	if part == "" {
		f := k.find(ctx, q)
		if len(f.Timelines) == 0 && f.Next.IsZero() && q.AOR != "" && q.Before.IsZero() {
			f.Like = k.like(ctx, q.AOR)
		}
		return f
	}
	users, err := k.users(ctx, part, maxUsers)
	all := page{limit: q.Limit}
	for _, aor := range users {
		q.AOR = aor
		f := k.find(ctx, q)
		all.add(f.Timelines, f.Next)
		all.incomplete = all.incomplete || f.Incomplete
	}
	f := all.found()
	f.Users, f.Incomplete = users, f.Incomplete || err != nil
	if len(users) == 0 {
		f.Like = k.like(ctx, part)
	}
	return f
}

// find merges what the store has with the part of this instance, which may be newer.
func (k *Keeper) find(ctx context.Context, q Query) Found {
	all := page{limit: q.Limit}
	mine, next := k.timelines.Find(q)
	if k.store == nil {
		all.add(mine, next)
		return all.found()
	}
	parts, more, err := k.store.Find(ctx, q)
	if err != nil {
		all.add(mine, next)
		all.incomplete = true
		return all.found()
	}
	here := make(map[string]bool) // whether this instance remembers the call
	for _, p := range parts {
		if _, asked := here[p.ID]; asked {
			continue
		}
		var now Timeline
		if now, here[p.ID] = k.timelines.get(p.ID); here[p.ID] {
			mine = append(slices.DeleteFunc(mine, func(t Timeline) bool { return t.ID == p.ID }), now)
		}
	}
	parts = slices.DeleteFunc(parts, func(p Timeline) bool { return p.Instance == k.instance && here[p.ID] })
	all.add(Merge(append(parts, mine...)), more)
	all.add(nil, next)
	return all.found()
}

// page merges lists that are complete down to some cursor each.
type page struct {
	limit      int
	list       []Timeline
	down       Cursor // the merged list is complete down to here
	incomplete bool
}

func (p *page) add(list []Timeline, next Cursor) {
	p.list = append(p.list, list...)
	if !next.IsZero() && (p.down.IsZero() || next.compare(p.down) > 0) {
		p.down = next
	}
}

func (p *page) found() Found {
	slices.SortStableFunc(p.list, func(a, b Timeline) int { return b.Cursor().compare(a.Cursor()) })
	list := slices.DeleteFunc(p.list, func(t Timeline) bool { return !p.down.IsZero() && t.Cursor().compare(p.down) < 0 })
	next := p.down
	if len(list) > p.limit {
		list = list[:p.limit]
		next = list[p.limit-1].Cursor()
	}
	return Found{Timelines: list, Next: next, Incomplete: p.incomplete}
}

// users returns the AORs that contain part, sorted.
func (k *Keeper) users(ctx context.Context, part string, most int) (found []string, err error) {
	found = k.timelines.users(part, most)
	if k.store != nil {
		var more []string
		more, err = k.store.Users(ctx, part, most)
		found = append(found, more...)
	}
	slices.Sort(found)
	found = slices.Compact(found)
	return found[:min(len(found), most)], err
}

// like returns users with similar names: names that contain the user part of name, or
// that without its first or last one or two characters.
func (k *Keeper) like(ctx context.Context, name string) []string {
	user, _, _ := strings.Cut(name, "@")
	for cut := 0; cut <= 2 && len(user)-cut >= 2; cut++ {
		for _, part := range []string{user[:len(user)-cut], user[cut:]} {
			if found, _ := k.users(ctx, part, maxLike); len(found) > 0 {
				return found
			}
		}
	}
	return nil
}
