package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// mostConnections is the number of connections to fill a store, and for paced load. A
// request that waits for a connection counts from when it was due.
const mostConnections = 256

// target is a server that accepts JSON by POST.
type target struct {
	url    string
	client *fasthttp.Client
}

func newTarget(url string) *target {
	return &target{url, &fasthttp.Client{MaxConnsPerHost: mostConnections, MaxConnWaitTimeout: 30 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}}
}

// post sends a body and returns the answer's body, which is valid until the next call with
// the same request and response.
func (t *target) post(req *fasthttp.Request, res *fasthttp.Response, body []byte) ([]byte, error) {
	req.Header.SetMethod(fasthttp.MethodPost)
	req.SetRequestURI(t.url)
	req.Header.SetContentType("application/json")
	req.SetBodyRaw(body)
	if err := t.client.Do(req, res); err != nil {
		return nil, err
	}
	if res.StatusCode() != fasthttp.StatusOK {
		return nil, fmt.Errorf("HTTP %d: %.200s", res.StatusCode(), res.Body())
	}
	return res.Body(), nil
}

// flatOut posts bodies on all connections for d and returns how many were answered. body
// returns the i-th body; check checks an answer.
func (t *target) flatOut(ctx context.Context, d time.Duration, body func(i int) []byte, check func([]byte) error) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return t.all(ctx, connections, 1<<62, body, check)
}

// each posts n bodies.
func (t *target) each(ctx context.Context, n int, body func(i int) []byte, check func([]byte) error) error {
	_, err := t.all(ctx, mostConnections, n, body, check)
	if err == nil {
		err = ctx.Err()
	}
	return err
}

func (t *target) all(ctx context.Context, workers, most int, body func(i int) []byte, check func([]byte) error) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next, done atomic.Int64
	var once sync.Once
	var failed error
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var req fasthttp.Request
			var res fasthttp.Response
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= most {
					return
				}
				answer, err := t.post(&req, &res, body(i))
				if err == nil {
					err = check(answer)
				}
				if err != nil {
					once.Do(func() { failed = err })
					cancel()
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return int(done.Load()), failed
}

// paced posts at a rate and returns the sorted response times.
func (t *target) paced(ctx context.Context, rate float64, d time.Duration, body func(i int) []byte, check func([]byte) error) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var wg sync.WaitGroup
	began := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if due.Sub(began) > d {
			break
		}
		time.Sleep(time.Until(due))
		wg.Go(func() {
			var req fasthttp.Request
			var res fasthttp.Response
			// Measure from when it was due, so that a stalled server counts fully.
			answer, err := t.post(&req, &res, body(i))
			if err == nil {
				err = check(answer)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(due))
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took, failed
}

// p99 returns the 99th percentile.
func p99(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*99/100, len(sorted)-1)]
}
