package chaos

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// conclude checks that nothing is left and counts.
func (w *world) conclude(ctx context.Context, wr *writer, faults int, lasted time.Duration) (Result, error) {
	w.say("%s the load has ended; waiting for what is still open", w.ledger.at(time.Now()))
	waiting, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	var left []string
	ended := time.Now()
	_ = poll(waiting, "the end of everything", func() bool {
		now := w.leftovers(waiting)
		if waiting.Err() == nil { // otherwise not all servers were asked
			left = now
		}
		return len(now) == 0
	})
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	if len(left) == 0 {
		w.say("nothing is open %.0fs later", time.Since(ended).Seconds())
	}
	for _, l := range left {
		w.verdicts.found(isStuck)
		w.say("FINDING stuck: %s", l)
	}
	lost, err := wr.lost(ctx)
	if err != nil {
		return Result{}, err
	}
	for i, l := range lost {
		if i < maxStories {
			w.say("FINDING binding lost: %s", l)
		}
	}
	v := w.verdicts
	v.judgePushes(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	w.say("calls: %d answered, %d cancelled, %d rang and failed; excused:%s", v.answered, v.ended, v.failed, counts(v.excused))
	acked, refused, _, _ := wr.look()
	w.say("REGISTERs: %d stored, %d refused", acked, refused)
	res := Result{Faults: faults, Calls: v.calls, Bindings: len(lost), Wakes: v.lost, Stuck: v.stuck, Twice: v.pushedTwice}
	w.say("chaos: %d faults, %d calls, %d bindings lost, %d wakes lost, %d stuck, %d pushes sent twice",
		res.Faults, res.Calls, res.Bindings, res.Wakes, res.Stuck, res.Twice)
	if res.Bindings+res.Wakes+res.Stuck+res.Twice > 0 {
		return res, fmt.Errorf("%w: seed %d, logs in %s", ErrFindings, w.config.Seed, w.dir)
	}
	// A run with hardly any call, or hardly any successful one, proves nothing.
	least := int(lasted.Seconds() * w.config.Calls / 4)
	if v.answered < least || acked < int(lasted.Seconds()*w.config.Registers/4) {
		return res, fmt.Errorf("%w: only %d calls answered, less than %d, or too few REGISTERs stored", ErrFindings, v.answered, least)
	}
	return res, nil
}

// openWork matches the gauges of a sipwake that must be 0 at the end: open wakes, and
// REGISTERs that wait for Redis.
var openWork = regexp.MustCompile(`(?m)^(sipwake_wakes_open|sipwake_store_spool) (\S+)`)

// leftovers returns what has not ended.
func (w *world) leftovers(ctx context.Context) (left []string) {
	if m := w.ready(ctx); m != "" {
		left = append(left, m+" does not work")
	}
	for _, s := range w.sipwakes {
		text, err := get(ctx, "http://"+s.operations+"/metrics")
		gauges := openWork.FindAllStringSubmatch(text, -1)
		if err != nil || len(gauges) != 2 {
			left = append(left, fmt.Sprintf("%s: no metrics: %v", s.name, err))
		}
		for _, g := range gauges {
			if g[2] != "0" {
				left = append(left, s.name+": "+g[0])
			}
		}
	}
	for _, n := range w.nodes {
		if count, err := n.transactions(ctx); err != nil {
			left = append(left, fmt.Sprintf("%s: no statistics: %v", n.name, err))
		} else if count != "0" {
			left = append(left, n.name+": transactions "+count)
		}
	}
	return left
}

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func counts(m map[string]int) string {
	if len(m) == 0 {
		return " none"
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, " %d %s,", m[name], name)
	}
	return strings.TrimSuffix(b.String(), ",")
}

func (v *verdicts) found(kind verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if kind == isStuck {
		v.stuck++
	}
}

// snapshot is what was counted so far, and since what came on top.
func (v *verdicts) snapshot() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := map[string]int{"answered": v.answered, "cancelled": v.ended, "failed": v.failed, "LOST": v.lost, "STUCK": v.stuck}
	for why, n := range v.excused {
		m["("+why+")"] = n
	}
	return m
}

func (v *verdicts) since(before map[string]int) string {
	now := v.snapshot()
	for name := range now {
		if now[name] -= before[name]; now[name] == 0 {
			delete(now, name)
		}
	}
	return counts(now)
}
