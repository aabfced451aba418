package redis_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// BenchmarkRefresh is the commonest RPC: a known device registers again.
func BenchmarkRefresh(b *testing.B) {
	s := open(b, redis.Config{Addresses: []string{storetest.StartRedis(b)}})
	known := make([]wake.Registration, 1000)
	for n := range known {
		known[n] = storetest.Registration(fmt.Sprintf("user%07d@example.com", n), n)
		register(b, s, known[n])
	}
	var next atomic.Int64
	b.SetParallelism(64)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := known[int(next.Add(1))%len(known)]
			if got, err := s.Register(context.Background(), r); err != nil || got.Status != wake.StatusRefreshed {
				b.Error(got, err)
				return
			}
		}
	})
}

// BenchmarkStart is one wake, started and ended.
func BenchmarkStart(b *testing.B) {
	s := open(b, redis.Config{Addresses: []string{storetest.StartRedis(b)}})
	var next atomic.Int64
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := next.Add(1)
			w := wake.Wake{AOR: fmt.Sprintf("user%d@example.com", n%1000), Node: "edge-1", Call: fmt.Sprint(n), StartedAt: time.Now()}
			w.Deadline = w.StartedAt.Add(30 * time.Second)
			_, err := s.Start(context.Background(), w)
			got, err2 := s.End(context.Background(), w.AOR, w.Node, w.Call)
			if err != nil || err2 != nil || !got.Known {
				b.Error(got, err, err2)
				return
			}
		}
	})
}

// BenchmarkTombstones is a REGISTER of a user whom strangers have flooded with
// ends of calls that never were.
func BenchmarkTombstones(b *testing.B) {
	s := open(b, redis.Config{Addresses: []string{storetest.StartRedis(b)}, Timeout: 20 * time.Second})
	ctx := context.Background()
	r := storetest.Registration("alice@example.com", 1)
	if _, err := s.Register(ctx, r); err != nil {
		b.Fatal(err)
	}
	var wait sync.WaitGroup
	for worker := range 32 {
		wait.Go(func() {
			for n := worker; n < 15_000; n += 32 {
				if _, err := s.End(ctx, r.AOR, "n", fmt.Sprint(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	for b.Loop() {
		if _, err := s.Register(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
}
