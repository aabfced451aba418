package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// startPeers starts what only calls are measured with.
func (b *bench) startPeers(ctx context.Context) (err error) {
	const quiet = "wake: {recent: 10ms, limits: {pair: 0, caller: 0, aor: 0}, alert: {code: -1}}\n"
	for _, c := range []serverConfig{
		{name: "local", file: "quiet-local", store: b.localStore("quiet.db"), wake: quiet},
		{name: "redis", file: "quiet-redis", store: b.redisStore(2), wake: quiet},
	} {
		s, err := b.sipwake(ctx, c)
		if err != nil {
			return err
		}
		b.quiet = append(b.quiet, s)
		if err := b.fill(ctx, s, b.register(0, callers*callees), callers*callees); err != nil {
			return err
		}
	}
	b.gorush, err = b.startGorush(ctx)
	return err
}

func (b *bench) stopPeers() {
	for _, s := range b.quiet {
		s.Stop()
	}
	if b.gorush != nil {
		b.gorush.stop()
	}
}

// calls measures the cost of a call, from wake.start to the push service's 200, against a
// bare loop over the same client of that service, and against another push server.
func (b *bench) calls(ctx context.Context) error {
	if err := b.barePushes(ctx); err != nil {
		return err
	}
	for _, s := range b.servers {
		from := b.call.Load()
		err := b.loaded("call, "+s.name, s.pid, func() (int, error) { return b.wakes(ctx, b.Round, s.target, start, pushing) })
		if err != nil {
			return err
		}
		n, err := gauge(s.operations, "process_resident_memory_bytes")
		if err != nil {
			return err
		}
		b.add("memory at the peak, "+s.name, "MiB", n/(1<<20))
		to := b.call.Load()
		if err := b.loaded("end, "+s.name, s.pid, func() (int, error) { return b.ends(ctx, s, from, to) }); err != nil {
			return err
		}
	}
	for _, s := range b.quiet {
		from := b.call.Load()
		err := b.loaded("call without 180, "+s.name, s.pid, func() (int, error) { return b.wakes(ctx, b.Round, s.target, start, pushing) })
		if err != nil {
			return err
		}
		if _, err := b.ends(ctx, s, from, b.call.Load()); err != nil {
			return err
		}
	}
	if b.gorush == nil {
		return nil
	}
	return b.gorushPushes(ctx)
}

// wakes lets each caller post his next call in a loop, and wait for the push of each. Call
// n belongs to caller n%callers.
func (b *bench) wakes(ctx context.Context, d time.Duration, t *target, body func(caller, n int) []byte, check func([]byte) error) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var done atomic.Int64
	var once sync.Once
	var failed error
	fail := func(err error) {
		once.Do(func() { failed = err })
		cancel()
	}
	var wg sync.WaitGroup
	first := int(b.call.Load())
	var most atomic.Int64
	for i := range callers {
		delivered := make(chan struct{}, 1)
		for n := range callees {
			b.apns.OnDeliver(token(i*callees+n, 64), func([]byte, http.Header) {
				select {
				case delivered <- struct{}{}:
				default: // the round is over
				}
			})
		}
		wg.Go(func() {
			var req fasthttp.Request
			var res fasthttp.Response
			n := first/callers + 1
			for ; ctx.Err() == nil; n++ {
				answer, err := t.post(&req, &res, body(i, n))
				if err == nil {
					err = check(answer)
				}
				if err != nil {
					fail(err)
					return
				}
				select {
				case <-delivered:
					done.Add(1)
				case <-time.After(20 * time.Second):
					fail(errors.New("a push was not delivered"))
					return
				}
			}
			for {
				old := most.Load()
				if old >= int64(n) || most.CompareAndSwap(old, int64(n)) {
					return
				}
			}
		})
	}
	wg.Wait()
	b.call.Store((most.Load() + 1) * callers)
	return int(done.Load()), failed
}

// ends ends all calls with these numbers, even those that never began.
func (b *bench) ends(ctx context.Context, s *server, from, to int64) (int, error) {
	return int(to - from), s.each(ctx, int(to-from), func(i int) []byte {
		n := int(from) + i
		return end(n%callers, n/callers)
	}, accepted)
}

// latency measures the response time of wake.start at a quarter of the peak rate, and of an
// echo at the same rate.
func (b *bench) latency(ctx context.Context, echo *echoServer) error {
	for caller := range callers {
		for n := range callees {
			b.apns.OnDeliver(token(caller*callees+n, 64), nil)
		}
	}
	for _, s := range b.servers {
		rate := median(b.find("call, "+s.name+" rate").values) / 4
		from := b.call.Load()
		body := func(int) []byte {
			n := int(b.call.Add(1))
			return start(n%callers, n/callers)
		}
		bare, err1 := echo.paced(ctx, rate, b.Round, b.register(0, users), anything)
		took, err2 := s.paced(ctx, rate, b.Round, body, pushing)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		b.add(fmt.Sprintf("start p99, %s", s.name), "ms", p99(took).Seconds()*1e3)
		b.add(fmt.Sprintf("echo p99, %s", s.name), "ms", p99(bare).Seconds()*1e3)
		b.ratio("start p99 of the echo's, "+s.name, "start p99, "+s.name, "echo p99, "+s.name)
		if _, err := b.ends(ctx, s, from, b.call.Load()+1); err != nil {
			return err
		}
	}
	return nil
}
