package fallback_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/fallback"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

func TestMain(m *testing.M) {
	// go-redis looks for a server that is away once a second, and ends a second after
	// Close.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const patience = 30 * time.Second

// deadline is that of an RPC.
const deadline = 400 * time.Millisecond

// rig is a store behind a fallback, on a real Redis.
type rig struct {
	t        *testing.T
	redis    *redis.Store
	store    *fallback.Store
	reg      *prometheus.Registry
	stop     context.CancelFunc
	done     chan struct{}
	replayed chan replay
}

type replay struct {
	wake.Registration
	wake.Registered
}

func openRedis(t testing.TB, c redis.Config) *redis.Store {
	t.Helper()
	s, err := redis.New(c, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// newRig starts a fallback; run says whether it brings to the store what it kept.
func newRig(t *testing.T, addr string, c fallback.Config, run bool) *rig {
	t.Helper()
	r := &rig{t: t, redis: openRedis(t, redis.Config{Addresses: []string{addr}}), reg: prometheus.NewRegistry(),
		stop: func() {}, replayed: make(chan replay, 1<<16)}
	if c.Spool == "" {
		c.Spool = t.TempDir()
	}
	var err error
	if r.store, err = fallback.New(c, r.redis, r.redis.Ping, slog.New(slog.DiscardHandler), r.reg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	if run {
		ctx, cancel := context.WithCancel(context.Background())
		r.stop, r.done = cancel, make(chan struct{})
		go func() {
			defer close(r.done)
			r.store.Run(ctx, func(_ context.Context, reg wake.Registration, res wake.Registered) { r.replayed <- replay{reg, res} })
		}()
	}
	return r
}

func (r *rig) close() {
	r.stop()
	if r.done != nil {
		<-r.done
	}
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
}

// metric returns the value of a metric of one series, or the sum of several.
func (r *rig) metric(name string) (sum float64) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func rpc(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// unavailable fails the test unless the error is the store's absence.
func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, wake.ErrUnavailable) {
		t.Fatalf("%s: %v, want ErrUnavailable", what, err)
	}
}

func (r *rig) registerAway(reg wake.Registration) []wake.Wake {
	r.t.Helper()
	res, err := r.store.Register(rpc(r.t), reg)
	unavailable(r.t, "Register", err)
	return res.Wakes
}

func (r *rig) register(reg wake.Registration) wake.Registered {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := r.store.Register(ctx, reg)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

// stored returns what Redis itself has of the AOR.
func (r *rig) stored(aor string) []wake.Binding {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := r.redis.Bindings(ctx, wake.Query{AOR: aor})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func user(n int) string { return fmt.Sprintf("user%d@example.com", n) }

func newWake(aor, call string) wake.Wake {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return wake.Wake{ID: "id-" + call, AOR: aor, Node: "edge-1", Call: call, CallID: "callid-" + call,
		Kind: "call", StartedAt: now, Deadline: now.Add(time.Minute)}
}

var same = cmp.Comparer(func(a, b pnparam.Address) bool { return fmt.Sprint(a) == fmt.Sprint(b) })

// whole is a fallback with what else its store offers.
type whole struct {
	*fallback.Store
	wake.Sweeper
	messages
	uppers
	ping func(context.Context) error
}

func (w whole) Ping(ctx context.Context) error { return w.ping(ctx) }

type (
	messages = outbox.Store
	uppers   = upper.Store
)

// A store that answers is the same store with it.
func TestContract(t *testing.T) {
	addr := storetest.StartRedis(t)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Store {
		// Under the race detector scripts queue up behind each other.
		s := openRedis(t, redis.Config{Addresses: []string{addr}, Prefix: fmt.Sprintf("test%d:", n.Add(1)), Recent: o.Recent,
			Retention: o.Retention, Outbox: o.Outbox, Timeout: 20 * time.Second})
		f, err := fallback.New(fallback.Config{Spool: t.TempDir(), Recent: o.Recent, Retention: o.Retention}, s, s.Ping,
			slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return whole{f, s, s, s, s.Ping}
	})
}

// While the store is away, whatever keeps it from answering, every method fails
// inside its deadline, and soon at once.
func TestFailsFast(t *testing.T) {
	server := storetest.NewRedis(t)
	hole := blackHole(t)
	for name, addr := range map[string]string{"silent": server.Addr, "refused": "127.0.0.1:1", "black hole": hole} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, addr, fallback.Config{}, true)
			if name == "silent" {
				server.Pause()
				defer server.Resume()
			}
			methods := func(ctx context.Context) map[string]error {
				_, e1 := r.store.Register(ctx, storetest.Registration("alice@example.com", 1))
				_, e2 := r.store.Start(ctx, newWake("unknown@example.com", "1"))
				_, e3 := r.store.End(ctx, "unknown@example.com", "n", "c")
				_, e4 := r.store.Remove(ctx, wake.Removal{AOR: "a"})
				_, e5 := r.store.Bindings(ctx, wake.Query{AOR: "a"})
				return map[string]error{"Register": e1, "Start": e2, "End": e3, "Remove": e4, "Bindings": e5}
			}
			eventually(t, "the store counts as away", func() bool {
				for method, err := range methods(rpc(t)) {
					unavailable(t, method, err)
				}
				return r.metric("sipwake_store_away") == 1
			})
			// One request in half a second goes to the store, the others do not.
			quick := 0
			for range 20 {
				began := time.Now()
				_, err := r.store.Register(rpc(t), storetest.Registration("alice@example.com", 1))
				unavailable(t, "Register", err)
				if time.Since(began) < deadline/2 {
					quick++
				}
			}
			if quick < 10 {
				t.Errorf("%d of 20 were quick", quick)
			}
		})
	}
}

// blackHole returns an address that takes connections and never answers.
func blackHole(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// A small cache and a mass of REGISTERs while the store is away: the calls that only
// this instance knows are not forgotten for it, and it stays bounded.
func TestCacheKeepsCalls(t *testing.T) {
	server := storetest.NewRedis(t, "--appendonly", "yes")
	const size = 10
	r := newRig(t, server.Addr, fallback.Config{Cache: size, Recent: time.Millisecond}, true)
	other := openRedis(t, redis.Config{Addresses: []string{server.Addr}})
	called := storetest.Registration(user(0), 0)
	r.register(called)
	server.Stop()
	w := newWake(called.AOR, "held")
	start := func(w wake.Wake) {
		t.Helper()
		if st, err := r.store.Start(rpc(t), w); err != nil || len(st.Bindings) != 1 {
			t.Fatalf("%s: %+v, %v", w.AOR, st, err)
		}
	}
	start(w)
	for n := 1; n < 5*size; n++ {
		r.registerAway(storetest.Registration(user(n), n))
	}
	called.CSeq++
	if got := r.registerAway(called); len(got) != 1 || got[0].ID != w.ID {
		t.Errorf("the phone that is called is told to %+v", got)
	}
	for n := 1; n < 20*size; n++ {
		r.registerAway(storetest.Registration(user(n), n))
		if n < 3*size { // more calls than there is room for
			start(newWake(user(n), "c"))
		}
		if cached := r.metric("sipwake_store_cache"); cached > 2*size {
			t.Fatalf("%v AORs, at most %d are allowed", cached, 2*size)
		}
	}
	last := newWake(user(3*size-1), "c")
	again := storetest.Registration(last.AOR, 3*size-1)
	again.CSeq++
	if got := r.registerAway(again); len(got) != 1 || got[0].Call != "c" {
		t.Errorf("the phone of the last call is told to %+v", got)
	}
	server.Start()
	eventually(t, "Redis knows the last call", func() bool {
		again.CSeq++
		again.RegisteredAt = time.Now()
		res, err := other.Register(rpc(t), again)
		return err == nil && len(res.Wakes) == 1 && res.Wakes[0].Call == "c"
	})
}

// Contact "*" while the store is away: nobody is awake.
func TestAllGoneAway(t *testing.T) {
	server := storetest.NewRedis(t)
	r := newRig(t, server.Addr, fallback.Config{Recent: time.Minute}, false)
	r.register(storetest.Registration(user(1), 1))
	server.Stop()
	sign := storetest.Registration(user(1), 2)
	sign.Action, sign.Address = wake.ActionSeen, pnparam.Address{}
	r.registerAway(sign)
	for want := 2; want >= 0; want -= 2 {
		w := newWake(user(1), fmt.Sprint(want))
		if st, err := r.store.Start(rpc(t), w); err != nil || len(st.Recent) != want || len(st.Bindings) != 1 {
			t.Errorf("%d are awake, want %d: %+v, %v", len(st.Recent), want, st, err)
		}
		star := wake.Registration{Gone: true, Binding: wake.Binding{AOR: user(1), Contact: "*", CallID: "star", CSeq: 1}}
		if got := r.registerAway(star); len(got) != 0 {
			t.Errorf("told of %+v", got)
		}
	}
}

// What strangers say while the store is away is bounded, and the last of it counts.
func TestAwayBounded(t *testing.T) {
	server := storetest.NewRedis(t)
	r := newRig(t, server.Addr, fallback.Config{Recent: time.Minute}, false)
	r.register(storetest.Registration(user(1), 1))
	server.Stop()
	const many = 3 * store.MaxTombs
	for n := range many {
		if _, err := r.store.End(rpc(t), user(1), "edge-1", fmt.Sprint("never", n)); !errors.Is(err, wake.ErrUnavailable) {
			t.Fatal(err)
		}
		sign := storetest.Registration(user(1), 1000+n)
		sign.Action, sign.Address = wake.ActionSeen, pnparam.Address{}
		r.registerAway(sign)
	}
	ended := 0
	for n := range many {
		st, err := r.store.Start(rpc(t), newWake(user(1), fmt.Sprint("never", n)))
		if err != nil {
			t.Fatal(err)
		}
		if st.Ended {
			ended++
		} else if n >= many-store.MaxTombs {
			t.Errorf("the tombstone before the last %d is forgotten", many-1-n)
		} else if last := st.Recent[len(st.Recent)-1].Device; !st.Full && len(st.Recent) != store.MaxRecent+1 ||
			last != storetest.Registration("", 1000+many-1).Device {
			t.Fatalf("%d are remembered, the last is %s", len(st.Recent), last)
		}
		r.store.End(rpc(t), user(1), "edge-1", fmt.Sprint("never", n))
	}
	if ended != store.MaxTombs {
		t.Errorf("%d tombstones, want %d", ended, store.MaxTombs)
	}
}

// Registrations of an outage are in the store afterwards, in order, also over a
// restart of sipwake in the middle of it.
func TestSpool(t *testing.T) {
	server := storetest.NewRedis(t, "--appendonly", "yes")
	dir := t.TempDir()
	r := newRig(t, server.Addr, fallback.Config{Spool: dir}, true)
	known := storetest.Registration(user(0), 0)
	r.register(known)
	leaver := storetest.Registration(user(1), 1)
	r.register(leaver)
	server.Stop()

	moved := known // a new token and a later CSeq; then an older one comes late
	moved.Address = storetest.Registration(user(0), 100).Address
	moved.CSeq, moved.RegisteredAt = known.CSeq+2, time.Now().UTC().Truncate(time.Microsecond)
	older := known
	older.CSeq, older.RegisteredAt = known.CSeq+1, moved.RegisteredAt
	r.registerAway(moved)
	r.registerAway(older)
	leaver.Action, leaver.CSeq, leaver.RegisteredAt = wake.ActionUnbind, leaver.CSeq+1, time.Now()
	r.registerAway(leaver)
	fresh := storetest.Registration(user(2), 2)
	r.registerAway(fresh)
	gone := fresh
	gone.Gone, gone.ExpiresAt, gone.CSeq = true, time.Time{}, fresh.CSeq+1
	r.registerAway(gone)
	signs := storetest.Registration(user(3), 3)
	signs.Action = wake.ActionSeen
	r.registerAway(signs)
	if n := r.metric("sipwake_store_spool"); n != 4 {
		t.Errorf("%v registrations in the spool, want 4", n)
	}
	r.close()

	r = newRig(t, server.Addr, fallback.Config{Spool: dir}, true)
	late := storetest.Registration(user(4), 4)
	r.registerAway(late)
	r.registerAway(older) // memory has forgotten the later one, the spool has not
	server.Start()
	eventually(t, "the spool is empty", func() bool { return r.metric("sipwake_store_spool") == 0 })
	check := func(n int, want ...wake.Binding) {
		t.Helper()
		if d := cmp.Diff(want, r.stored(user(n)), same); d != "" {
			t.Errorf("%s: want - got +\n%s", user(n), d)
		}
	}
	moved.CreatedAt = known.CreatedAt
	check(0, moved.Binding)
	check(1)
	fresh.CSeq, fresh.ExpiresAt = gone.CSeq, time.Time{}
	check(2, fresh.Binding)
	check(3)
	check(4, late.Binding)
	if n := r.metric("sipwake_store_spool_replayed_total"); n != 5 {
		t.Errorf("%v replayed, want 5", n)
	}
	if got := r.register(late); got.Status != wake.StatusRefreshed {
		t.Errorf("afterwards: %v", got.Status)
	}
}

// A phone that has registered elsewhere meanwhile keeps its newer binding.
func TestSpoolIsOlder(t *testing.T) {
	server := storetest.NewRedis(t, "--appendonly", "yes")
	r := newRig(t, server.Addr, fallback.Config{}, false)
	server.Stop()
	old := storetest.Registration(user(1), 1)
	r.registerAway(old)
	server.Start()
	newer := storetest.Registration(user(1), 1)
	newer.Address = storetest.Registration(user(1), 2).Address
	newer.CallID, newer.RegisteredAt = "a new dialog", old.RegisteredAt.Add(time.Second)
	eventually(t, "Redis is back", func() bool {
		_, err := r.redis.Register(rpc(t), newer)
		return err == nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.store.Run(ctx, func(_ context.Context, reg wake.Registration, res wake.Registered) {
			t.Errorf("replayed %v %v", reg, res)
		})
	}()
	eventually(t, "the spool is empty", func() bool { return r.metric("sipwake_store_spool") == 0 })
	cancel()
	<-done
	if d := cmp.Diff([]wake.Binding{newer.Binding}, r.stored(user(1)), same); d != "" {
		t.Errorf("want - got +\n%s", d)
	}
}

// The spool is bounded: the oldest go first, and a metric tells.
func TestSpoolBounded(t *testing.T) {
	server := storetest.NewRedis(t)
	r := newRig(t, server.Addr, fallback.Config{SpoolSize: 10}, true)
	server.Stop()
	for n := range 25 {
		r.registerAway(storetest.Registration(user(n), n))
	}
	if n := r.metric("sipwake_store_spool"); n != 10 {
		t.Errorf("%v in the spool, want 10", n)
	}
	if n := r.metric("sipwake_store_spool_dropped_total"); n != 15 {
		t.Errorf("%v dropped, want 15", n)
	}
	server.Start()
	eventually(t, "the spool is empty", func() bool { return r.metric("sipwake_store_spool") == 0 })
	for n := range 25 {
		if got := len(r.stored(user(n))); got != 0 != (n >= 15) {
			t.Errorf("user %d has %d bindings", n, got)
		}
	}
}

// A call that starts while the store is away wakes the devices known here, and
// their REGISTER is told to the node, once and whichever way it comes.
func TestStartAway(t *testing.T) {
	server := storetest.NewRedis(t, "--appendonly", "yes")
	r := newRig(t, server.Addr, fallback.Config{Recent: time.Millisecond}, true)
	other := openRedis(t, redis.Config{Addresses: []string{server.Addr}})
	registered, read := storetest.Registration(user(1), 1), storetest.Registration(user(2), 2)
	r.register(registered)
	if _, err := other.Register(rpc(t), read); err != nil {
		t.Fatal(err)
	}
	before := newWake(user(2), "before")
	if _, err := r.store.Start(rpc(t), before); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	start := func(w wake.Wake) wake.Started {
		t.Helper()
		st, err := r.store.Start(rpc(t), w)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	w1, w2 := newWake(user(1), "1"), newWake(user(2), "2")
	for _, w := range []wake.Wake{w1, w2} {
		st := start(w)
		if !st.Cached || len(st.Bindings) != 1 || len(st.Recent) != 0 || st.Forked || st.Ended {
			t.Errorf("%s: %+v", w.AOR, st)
		}
		again := w
		again.ID = "another"
		if st := start(again); !st.Duplicate {
			t.Errorf("the same wake again: %+v", st)
		}
	}
	if _, err := r.store.Start(rpc(t), newWake(user(3), "3")); !errors.Is(err, wake.ErrUnavailable) {
		t.Errorf("an unknown user: %v", err)
	}
	if hits, misses := r.metric("sipwake_store_cache_hits_total"), r.metric("sipwake_store_cache_misses_total"); hits != 4 || misses != 1 {
		t.Errorf("%v hits, %v misses, want 4 and 1", hits, misses)
	}
	// The wake that Redis knows is remembered too.
	read.CSeq++
	read.RegisteredAt = time.Now()
	if d := cmp.Diff([]wake.Wake{before, w2}, r.registerAway(read)); d != "" {
		t.Errorf("REGISTER while away: want - got +\n%s", d)
	}
	if ended, err := r.store.End(rpc(t), w2.AOR, w2.Node, w2.Call); err != nil || !ended.Known {
		t.Errorf("end: %+v, %v", ended, err)
	}
	if len(r.registerAway(read)) != 1 {
		t.Error("a wake that has ended is signalled")
	}
	if _, err := r.store.End(rpc(t), user(1), "edge-1", "overtaken"); !errors.Is(err, wake.ErrUnavailable) {
		t.Errorf("end of an unknown wake: %v", err)
	}
	if st := start(newWake(user(1), "overtaken")); !st.Ended {
		t.Errorf("the wake whose end overtook its start: %+v", st)
	}

	// The phone comes back through another instance, once Redis is there.
	server.Start()
	eventually(t, "Redis knows the wake", func() bool {
		registered.CSeq++
		registered.RegisteredAt = time.Now()
		res, err := other.Register(rpc(t), registered)
		return err == nil && len(res.Wakes) == 1 && res.Wakes[0].ID == w1.ID
	})
}

// A phone that came back elsewhere before Redis knew of the wake is not lost.
func TestRestartedWake(t *testing.T) {
	server := storetest.NewRedis(t, "--appendonly", "yes")
	r := newRig(t, server.Addr, fallback.Config{Recent: time.Millisecond}, false)
	reg := storetest.Registration(user(1), 1)
	r.register(reg)
	server.Stop()
	w := newWake(user(1), "1")
	if st, err := r.store.Start(rpc(t), w); err != nil || !st.Cached {
		t.Fatal(st, err)
	}
	server.Start()
	reg.CSeq++
	reg.RegisteredAt = time.Now().UTC().Truncate(time.Microsecond)
	eventually(t, "Redis is back", func() bool {
		res, err := r.redis.Register(rpc(t), reg)
		return err == nil && len(res.Wakes) == 0
	})
	ctx, cancel := context.WithCancel(context.Background())
	got, done := make(chan replay, 9), make(chan struct{})
	go func() {
		defer close(done)
		r.store.Run(ctx, func(_ context.Context, reg wake.Registration, res wake.Registered) { got <- replay{reg, res} })
	}()
	select {
	case p := <-got:
		if p.Device != reg.Device || p.CSeq != reg.CSeq || len(p.Wakes) != 1 || p.Wakes[0].ID != w.ID {
			t.Errorf("told of %+v", p)
		}
	case <-time.After(patience):
		t.Error("the rules were never told")
	}
	cancel()
	<-done
}

// A call of the outage that rings on past its deadline is known to all once Redis is
// back, and its phones are left alone.
func TestRingsAway(t *testing.T) {
	server := storetest.NewRedis(t, "--appendonly", "yes")
	r := newRig(t, server.Addr, fallback.Config{}, true)
	r.register(storetest.Registration(user(1), 1))
	server.Stop()
	w := newWake(user(1), "1")
	w.StartedAt, w.Deadline = w.StartedAt.Add(-time.Minute), w.StartedAt.Add(-time.Second)
	if st, err := r.store.Start(rpc(t), w); err != nil || len(st.Bindings) != 1 {
		t.Fatal(st, err)
	}
	server.Start()
	fields := goredis.NewClient(&goredis.Options{Addr: server.Addr})
	defer func() { _ = fields.Close() }()
	eventually(t, "Redis knows the wake", func() bool {
		return fields.HExists(context.Background(), "sw:t:{"+w.AOR+"}", "w"+w.Node+"\x00"+w.Call).Val()
	})
	if ended, err := r.redis.End(rpc(t), w.AOR, w.Node, w.Call); err != nil || !ended.Known || ended.Wake.ID != w.ID {
		t.Errorf("end: %+v, %v", ended, err)
	}
	if len(r.replayed) != 0 {
		t.Errorf("told of %+v", <-r.replayed)
	}
}

// A wake that Redis does not know yet is found by a REGISTER that goes there.
func TestHeldWakeAfterwards(t *testing.T) {
	server := storetest.NewRedis(t, "--appendonly", "yes")
	r := newRig(t, server.Addr, fallback.Config{}, false)
	reg := storetest.Registration(user(1), 1)
	r.register(reg)
	server.Stop()
	w := newWake(user(1), "1")
	if _, err := r.store.Start(rpc(t), w); err != nil {
		t.Fatal(err)
	}
	server.Start()
	reg.CSeq++
	eventually(t, "the REGISTER is stored, and told of the wake", func() bool {
		res, err := r.store.Register(rpc(t), reg)
		return err == nil && len(res.Wakes) == 1 && res.Wakes[0].ID == w.ID
	})
}

// The cache is bounded, and knows no more devices than the store.
func TestCache(t *testing.T) {
	server := storetest.NewRedis(t, "--appendonly", "yes")
	r := newRig(t, server.Addr, fallback.Config{Cache: 10, Recent: time.Millisecond}, false)
	other := openRedis(t, redis.Config{Addresses: []string{server.Addr}})
	for n := range 20 {
		r.register(storetest.Registration(user(n), n))
	}
	if n := r.metric("sipwake_store_cache"); n != 10 {
		t.Errorf("%v AORs, want 10", n)
	}
	// Another instance removes one device, and this one does not hear of it.
	r.register(storetest.Registration(user(19), 119))
	if _, err := other.Remove(rpc(t), wake.Removal{AOR: user(19), Device: storetest.Registration("", 19).Device}); err != nil {
		t.Fatal(err)
	}
	r.register(storetest.Registration(user(19), 119))
	two := storetest.Registration(user(14), 14)
	two.Address.Tokens = append(two.Address.Tokens, pnparam.Token{Service: pnparam.Remote, Value: secret.NewToken("remote")})
	r.register(two)
	removed, err := r.store.Remove(rpc(t), wake.Removal{AOR: two.AOR, Token: secret.NewToken("remote"), TokenOnly: true})
	if err != nil || removed.Tokens != 1 {
		t.Fatal(removed, err)
	}
	// It removes two itself, and reads that a third is gone.
	r.store.Remove(rpc(t), wake.Removal{AOR: user(18)})
	unbound := storetest.Registration(user(17), 17)
	unbound.Action = wake.ActionUnbind
	r.register(unbound)
	other.Remove(rpc(t), wake.Removal{AOR: user(16)})
	if list, err := r.store.Bindings(rpc(t), wake.Query{AOR: user(16)}); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	// A phone is removed elsewhere, and begins anew with its Call-ID: what Redis takes is
	// known here, whatever was.
	other.Remove(rpc(t), wake.Removal{AOR: user(13)})
	anew := storetest.Registration(user(13), 13)
	anew.CSeq, anew.Contact = 1, "sip:anew@192.0.2.1"
	if got := r.register(anew); got.Status != wake.StatusStored {
		t.Errorf("a phone that begins anew: %s", got.Status)
	}
	server.Stop()
	for n, want := range map[int]int{0: 0, 9: 0, 13: 1, 14: 1, 15: 1, 16: 0, 17: 0, 18: 0, 19: 1} {
		st, _ := r.store.Start(rpc(t), newWake(user(n), "c"))
		if len(st.Bindings) != want {
			t.Errorf("user %d: %d devices, want %d", n, len(st.Bindings), want)
		}
		if n == 13 && (want != len(st.Bindings) || st.Bindings[0].Contact != anew.Contact) {
			t.Errorf("a phone that has begun anew is known as %+v", st.Bindings)
		}
		if n == 14 && len(st.Bindings[0].Address.Tokens) != 1 {
			t.Errorf("%d tokens of a device that has lost one of two", len(st.Bindings[0].Address.Tokens))
		}
	}
}

// Several sipwakes can have one directory.
func TestSharedDirectory(t *testing.T) {
	server := storetest.NewRedis(t)
	dir := t.TempDir()
	a, b := newRig(t, server.Addr, fallback.Config{Spool: dir}, true), newRig(t, server.Addr, fallback.Config{Spool: dir}, true)
	server.Stop()
	a.registerAway(storetest.Registration(user(1), 1))
	b.registerAway(storetest.Registration(user(2), 2))
	server.Start()
	eventually(t, "both are stored", func() bool {
		return a.metric("sipwake_store_spool")+b.metric("sipwake_store_spool") == 0
	})
	if len(a.stored(user(1))) != 1 || len(a.stored(user(2))) != 1 {
		t.Error("a registration is lost")
	}
}

func TestConfig(t *testing.T) {
	var c fallback.Config
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("default: %s %s", field, problem) })
	got := ""
	(&fallback.Config{}).Validate(func(field, _ string) { got += field + " " })
	if got != "spool_size cache " {
		t.Errorf("problems of %q", got)
	}
	file := filepath.Join(t.TempDir(), "file")
	if _, err := fallback.New(fallback.Config{Spool: file + "\x00"}, nil, nil, nil, nil); err == nil || err.Error()[:7] != "spool: " {
		t.Errorf("a directory that cannot be: %v", err)
	}
}
