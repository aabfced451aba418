package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

// fault is one thing that goes wrong for a while.
type fault struct {
	name string
	// part is what it breaks: two faults at once never break the same.
	part string
	// missing returns why it cannot be made here; nil or "" if it can.
	missing func(*world) string
	// run breaks something, waits, and repairs it. It returns what was broken. An error
	// is an error of the test harness and ends the run, unless it wraps errNotMade.
	run func(context.Context, *world, *rand.Rand) (what string, err error)
}

// errNotMade says that the system refused a fault this time and nothing is broken.
var errNotMade = errors.New("not made")

// The parts that faults break.
const (
	onSipwake  = "sipwake"
	onRedis    = "redis"
	onNode     = "node"
	onProvider = "provider"
	onUsers    = "users"
)

// faults returns all of them, in no order that counts.
func faults() []fault {
	return slices.Concat(
		of(onSipwake, []fault{
			{name: "sipwake-kill", run: killSipwake},
			{name: "sipwake-restart", run: restartSipwake},
			{name: "sipwake-pause", run: pauseSipwake},
			{name: "sipwake-slow", run: slowSipwake},
			{name: "sipwake-all", run: killAllSipwakes},
			{name: "sipwake-files", run: descriptors, missing: needsLinux},
			{name: stepName, run: stepClock, missing: needsClock},
			{name: "sipwake-memory", run: shortOfMemory, missing: needsMemory},
		}),
		of(onRedis, []fault{
			{name: "redis-kill", run: killMaster},
			{name: "redis-restart", run: restartMaster},
			{name: "redis-pause", run: pauseMaster},
			{name: "redis-slow", run: slowMaster},
			{name: "redis-all", run: pauseRedis},
			{name: "replica-kill", run: killReplica},
			{name: "redis-partition", run: partitionMaster, missing: needsHosts},
			{name: "replica-partition", run: partitionReplica, missing: needsHosts},
			{name: "redis-delay", run: delayMaster, missing: needsDelay},
			{name: "redis-disk-full", run: fillDisk, missing: needsHosts},
			{name: "redis-disk-slow", run: slowRedisDisk, missing: needsSlowDisk},
			{name: "spool-disk-full", run: fillSpools, missing: needsHosts},
			{name: "spool-disk-slow", run: slowSpools, missing: needsSlowDisk},
		}),
		of(onNode, []fault{
			{name: "node-kill", run: killNode},
			{name: "node-restart", run: restartNode},
			{name: "node-pause", run: pauseNode},
			{name: "node-kill-crowded", run: killCrowded},
		}),
		of(onUsers, []fault{{name: "user-flood", run: flood}}),
		of(onProvider, providerFaults()),
	)
}

// of says what the faults break.
func of(part string, list []fault) []fault {
	for i := range list {
		list[i].part = part
	}
	return list
}

func needsHosts(w *world) string { return w.noNet }

func needsDelay(w *world) string {
	if w.net == nil {
		return w.noNet
	}
	return w.redis.hosts[0].host.noDelay()
}

// lasts is how long a fault lasts: long enough for others to notice.
func lasts(r *rand.Rand) time.Duration { return time.Duration(2500+r.IntN(3000)) * time.Millisecond }

func oneSipwake(w *world, r *rand.Rand) *instance { return w.sipwakes[r.IntN(len(w.sipwakes))] }
func oneNode(w *world, r *rand.Rand) *node        { return w.nodes[r.IntN(len(w.nodes))] }

func killSipwake(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	s, d := oneSipwake(w, r), lasts(r)
	w.ledger.inWake(ctx, s.id) // with a push under way
	s.kill()
	sleep(ctx, d)
	return s.name, s.run(ctx)
}

func restartSipwake(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	s := oneSipwake(w, r)
	w.ledger.inWake(ctx, s.id)
	s.stop()
	return s.name, s.run(ctx)
}

func pauseSipwake(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	s := oneSipwake(w, r)
	w.ledger.inWake(ctx, s.id)
	return s.name, s.pause(ctx, lasts(r)+time.Second)
}

func slowSipwake(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	s := oneSipwake(w, r)
	return s.name, s.slow(ctx, lasts(r))
}

func killAllSipwakes(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	for _, s := range w.sipwakes {
		s.kill()
	}
	sleep(ctx, time.Duration(500+r.IntN(1500))*time.Millisecond)
	var problems []error
	for _, s := range w.sipwakes {
		problems = append(problems, s.run(ctx))
	}
	return "all sipwakes", errors.Join(problems...)
}

// master returns the master of now; a run in which nobody can name one cannot go on.
func (w *world) master(ctx context.Context) (*redisHost, error) {
	if m := w.redis.master(ctx); m != nil {
		return m, nil
	}
	return nil, errors.New("cannot find the Redis master")
}

// onMaster breaks the master. Redis counts as away until it works again.
func (w *world) onMaster(ctx context.Context, f func(*redisHost) error) (string, error) {
	m, err := w.master(ctx)
	if err != nil {
		return "", err
	}
	w.times.begin(partRedis)
	return m.name + " (master)", f(m)
}

func killMaster(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r)
	return w.onMaster(ctx, func(m *redisHost) error {
		m.kill()
		sleep(ctx, d)
		return m.run(ctx)
	})
}

func restartMaster(ctx context.Context, w *world, _ *rand.Rand) (string, error) {
	return w.onMaster(ctx, func(m *redisHost) error {
		m.stop()
		return m.run(ctx)
	})
}

func pauseMaster(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r) + time.Second
	return w.onMaster(ctx, func(m *redisHost) error { return m.pause(ctx, d) })
}

func slowMaster(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r)
	return w.onMaster(ctx, func(m *redisHost) error { return m.slow(ctx, d) })
}

// pauseRedis pauses all servers, so that nobody can take over.
func pauseRedis(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r)
	w.times.begin(partRedis)
	done := make(chan error)
	for _, h := range w.redis.hosts {
		go func() { done <- h.pause(ctx, d) }()
	}
	var problems []error
	for range w.redis.hosts {
		problems = append(problems, <-done)
	}
	return "all Redis servers", errors.Join(problems...)
}

// replica returns one that is not the master.
func (w *world) replica(ctx context.Context, r *rand.Rand) (*redisHost, error) {
	m, err := w.master(ctx)
	if err != nil {
		return nil, err
	}
	n := r.IntN(len(w.redis.hosts) - 1)
	for _, h := range w.redis.hosts {
		if h == m {
			continue
		}
		if n == 0 {
			return h, nil
		}
		n--
	}
	return nil, errors.New("cannot find a replica")
}

func killReplica(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r)
	h, err := w.replica(ctx, r)
	if err != nil {
		return "", err
	}
	h.kill()
	h.sentinel.kill()
	sleep(ctx, d)
	return h.name + " and its sentinel", errors.Join(h.run(ctx), h.sentinel.run(ctx))
}

// partition cuts a host off, sentinel and all.
func partition(ctx context.Context, h *redisHost, d time.Duration) error {
	if err := h.host.cut(); err != nil {
		return err
	}
	sleep(ctx, d)
	return h.host.plug()
}

func partitionMaster(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r) + 2*time.Second
	return w.onMaster(ctx, func(m *redisHost) error { return partition(ctx, m, d) })
}

func partitionReplica(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r) + 2*time.Second
	h, err := w.replica(ctx, r)
	if err != nil {
		return "", err
	}
	return h.name + " and its sentinel", partition(ctx, h, d)
}

func delayMaster(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r)
	return w.onMaster(ctx, func(m *redisHost) error {
		if err := m.host.delay(150); err != nil {
			return err
		}
		sleep(ctx, d)
		return m.host.undelay()
	})
}

func killNode(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	n := oneNode(w, r)
	n.kill()
	sleep(ctx, time.Duration(500+r.IntN(1500))*time.Millisecond)
	return n.name, n.run(ctx)
}

func restartNode(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	n := oneNode(w, r)
	n.stop()
	return n.name, n.run(ctx)
}

func pauseNode(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	n := oneNode(w, r)
	return n.name, n.pause(ctx, lasts(r))
}

// providerFaults returns those of the push services.
func providerFaults() []fault {
	kinds := []struct {
		name  string
		begin func(w *world, provider string)
		again time.Duration // interval at which begin is repeated
	}{
		{name: "5xx", begin: func(w *world, p string) {
			w.behave(p, apnssim.Behaviour{Status: 503, Reason: "ServiceUnavailable"}, fcmsim.Behaviour{Status: 503, Code: "UNAVAILABLE"})
		}},
		{name: "silence", begin: func(w *world, p string) {
			w.behave(p, apnssim.Behaviour{Fault: apnssim.Silence}, fcmsim.Behaviour{Fault: fcmsim.Silence})
		}},
		{name: "goaway", again: 300 * time.Millisecond, begin: func(w *world, p string) {
			w.behave(p, apnssim.Behaviour{Fault: apnssim.GoAway}, fcmsim.Behaviour{Fault: fcmsim.Drop})
			if p == apns {
				w.apns.GoAway()
			}
		}},
		{name: "reset", again: 200 * time.Millisecond, begin: func(w *world, p string) { w.relays[p].set(resetAll) }},
		{name: "hole", begin: func(w *world, p string) { w.relays[p].set(blackHole) }},
		{name: "tls", begin: func(w *world, p string) { w.relays[p].set(badTLS) }},
	}
	var all []fault
	for _, k := range kinds {
		all = append(all, fault{name: "provider-" + k.name, run: func(ctx context.Context, w *world, r *rand.Rand) (string, error) {
			p := []string{apns, fcm}[r.IntN(2)]
			d := lasts(r)
			w.times.begin(p)
			for until := time.Now().Add(d); ctx.Err() == nil && time.Now().Before(until); {
				k.begin(w, p)
				left := time.Until(until)
				if k.again > 0 {
					left = min(left, k.again)
				}
				sleep(ctx, left)
			}
			w.behave(p, apnssim.Behaviour{}, fcmsim.Behaviour{})
			w.relays[p].set(passOn)
			w.times.end(p, providerGrace)
			return p, nil
		}})
	}
	return all
}

// behave sets how the provider answers a push to any of the phones.
func (w *world) behave(provider string, a apnssim.Behaviour, f fcmsim.Behaviour) {
	for _, s := range w.sleepers {
		switch {
		case s.provider != provider:
		case provider == apns:
			w.apns.Behave(s.token, a)
		default:
			w.fcm.Behave(s.token, f)
		}
	}
}

// pick returns the faults with these names, or all without names, and why some are left
// out.
func pick(w *world, names []string) (chosen []fault, leftOut []string, err error) {
	known := make(map[string]bool)
	wanted := make(map[string]bool)
	for _, n := range names {
		wanted[n] = true
	}
	for _, f := range faults() {
		known[f.name] = true
		if len(names) > 0 && !wanted[f.name] {
			continue
		}
		if f.missing != nil {
			if why := f.missing(w); why != "" {
				leftOut = append(leftOut, f.name+": "+why)
				continue
			}
		}
		chosen = append(chosen, f)
	}
	for _, n := range names {
		if !known[n] {
			return nil, nil, fmt.Errorf("no fault %q; there are %s", n, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
	}
	if len(chosen) == 0 {
		return nil, nil, fmt.Errorf("no fault can be made here: %s", strings.Join(leftOut, "; "))
	}
	return chosen, leftOut, nil
}
