// Package chaos breaks the parts of a whole installation one after the other, during
// calls and registrations, and compares the outcome with what was promised. The
// installation has three sipwakes on one Redis with replicas and sentinels, two
// Kamailios, the simulated push services, sleeping phones and callers.
//
// It keeps its own ledger. A binding that was acknowledged must exist at the end. A wake
// that was acknowledged must have reached its phone, unless a part that it needs was
// away at that time (see verdicts for the rules). Nothing may be stuck. Timings are
// printed but decide nothing.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"
)

// Config configures a run.
type Config struct {
	// Sipwake is the program.
	Sipwake string
	// Seed decides the order of the faults, their victims and how long they last.
	Seed uint64
	// Duration is how long faults are made, without start, healing and end.
	Duration time.Duration
	// Faults are the names of those to make; none: all.
	Faults []string
	// Calls a second, and REGISTERs a second.
	Calls, Registers float64
	// Phones is how many sleep. Default 48.
	Phones int
	// Keep leaves the directory with the logs even if nothing was found.
	Keep bool
	// Out is where the report goes.
	Out io.Writer
}

func (c *Config) phones() int {
	if c.Phones == 0 {
		return 48
	}
	return c.Phones
}

// Result is what a run counted.
type Result struct {
	Faults, Calls, Bindings, Wakes, Stuck, Twice int
}

const (
	startTimeout = 90 * time.Second
	healTimeout  = 60 * time.Second
	// late is how long a node may take to tell a phone that its call is over: an INVITE
	// that rings, and the BYE if it was answered.
	late = 64 * time.Second
	// quiet is the time after the last call in which everything must end, including
	// tm's transactions and timers.
	quiet = hold + ring + slack + late
)

// ErrFindings says that something was lost or stuck, or that the run made too few calls
// to prove that nothing was.
var ErrFindings = errors.New("chaos found something")

// Run executes a run and prints what happens. The error wraps ErrFindings unless the run
// itself failed. Everything that it started has ended when it returns.
func Run(ctx context.Context, c Config) (Result, error) {
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix, os.Getpid()))
	if err != nil {
		return Result{}, fmt.Errorf("cannot make a directory: %w", err)
	}
	w := &world{config: c, dir: dir, times: newTimes(), ledger: newLedger(), relays: make(map[string]*relay)}
	w.verdicts = &verdicts{w: w, excused: make(map[string]int), again: make(map[string]int)}
	w.say("chaos: seed %d, logs in %s", c.Seed, dir)
	res, err := w.run(ctx)
	w.stop()
	if (err == nil || ctx.Err() != nil) && !c.Keep {
		_ = os.RemoveAll(dir) // what stays is in the system's directory for such
	}
	return res, err
}

func (w *world) run(ctx context.Context) (Result, error) {
	w.startClock(ctx)
	w.ledger.began = time.Now() // building may have taken a while
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	err := w.start(starting)
	cancel()
	if err != nil {
		return Result{}, err
	}
	chosen, leftOut, err := pick(w, w.config.Faults)
	if err != nil {
		return Result{}, err
	}
	for _, l := range leftOut {
		w.say("left out: %s", l)
	}
	if w.noOpenSIPS != "" {
		w.say("left out: OpenSIPS: %s", w.noOpenSIPS)
	}
	w.say("%s everything is up: 3 sipwakes, 3 Redis with sentinels, %d Kamailios, %d OpenSIPS, %d phones", w.ledger.at(time.Now()),
		kamailios, len(w.nodes)-kamailios, len(w.sleepers))
	watching, stopWatch := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { w.watchSelf(watching) })
	defer watch.Wait()
	defer stopWatch()
	load, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	wr := newWriter(w, 120, w.config.Registers)
	wr.run(load, w.config.Seed)
	tr := &traffic{w: w, rate: w.config.Calls, rand: rand.New(rand.NewPCG(w.config.Seed, 2))}
	tr.work.Go(func() { tr.run(load, ctx) })
	began := time.Now()
	sleep(ctx, 2*time.Second)
	n, err := w.breakThings(ctx, chosen, wr)
	lasted := time.Since(began)
	sleep(ctx, 2*time.Second)
	stopLoad()
	wr.work.Wait()
	tr.work.Wait()
	if err = errors.Join(err, ctx.Err()); err != nil {
		return Result{}, err
	}
	return w.conclude(ctx, wr, n, lasted)
}

// breakThings makes faults until the time is over.
func (w *world) breakThings(ctx context.Context, chosen []fault, wr *writer) (n int, err error) {
	until := time.Now().Add(w.config.Duration)
	for f, r := range newPlan(w.config.Seed, chosen).all() {
		if ctx.Err() != nil || !time.Now().Before(until) {
			break
		}
		err := w.breakOne(ctx, f, r, wr)
		switch {
		case errors.Is(err, errNotMade):
			w.say("%s %-17s %v", w.ledger.at(time.Now()), f.name, err)
		case err != nil:
			return n, fmt.Errorf("cannot make fault %s: %w", f.name, err)
		default:
			n++
		}
	}
	return n, nil
}

func (w *world) breakOne(ctx context.Context, f fault, r *rand.Rand, wr *writer) error {
	before := w.verdicts.snapshot()
	acked, refused, _, _ := wr.look()
	began := time.Now()
	what, err := f.run(ctx, w, r)
	if err != nil {
		return err
	}
	mended := time.Now()
	healing, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	missing := ""
	if poll(healing, "everything at work", func() bool { missing = w.ready(healing); return missing == "" }) != nil && ctx.Err() == nil {
		w.verdicts.found(isStuck)
		w.say("FINDING stuck: %s does not work again %s after %s was mended", missing, healTimeout, what)
	}
	sleep(ctx, 1500*time.Millisecond)
	now := time.Now()
	a, b, p99, most := wr.look()
	w.say("%s %-17s %-24s for %4.1fs, whole again %4.1fs later; Redis away %4.1fs; REGISTERs %d stored %d refused, p99 %d ms, max %d ms; calls%s",
		w.ledger.at(began), f.name, what, mended.Sub(began).Seconds(), now.Sub(mended).Seconds()-1.5,
		w.times.away(partRedis, began, now).Seconds(), a-acked, b-refused, p99.Milliseconds(), most.Milliseconds(),
		w.verdicts.since(before))
	return nil
}

// watchSelf records when this process itself did not run: then it cannot know who was
// late.
func (w *world) watchSelf(ctx context.Context) {
	const tick, late = 100 * time.Millisecond, 700 * time.Millisecond
	for last := time.Now(); ctx.Err() == nil; {
		sleep(ctx, tick)
		now := time.Now()
		if now.Sub(last) > late {
			w.times.add(partHarness, last, now.Add(time.Second))
		}
		last = now
	}
}

func (w *world) say(format string, args ...any) {
	fmt.Fprintln(w.config.Out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}
