package fallback_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/fallback"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// none is a store that costs nothing: what is measured is the fallback alone.
type none struct{ wake.Store }

func (none) Register(context.Context, wake.Registration) (wake.Registered, error) {
	return wake.Registered{Status: wake.StatusRefreshed, Devices: 1}, nil
}
func (none) Start(context.Context, wake.Wake) (wake.Started, error) { return wake.Started{}, nil }
func (none) End(context.Context, string, string, string) (wake.Ended, error) {
	return wake.Ended{}, nil
}

func wrap(b *testing.B, inner wake.Store) wake.Store {
	s, err := fallback.New(fallback.Config{Spool: b.TempDir()}, inner, nil, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkHealthy is what the fallback costs while the store answers.
func BenchmarkHealthy(b *testing.B) {
	s := wrap(b, none{})
	known := make([]wake.Registration, 1000)
	for n := range known {
		known[n] = storetest.Registration(fmt.Sprintf("user%07d@example.com", n), n)
	}
	ctx := context.Background()
	b.Run("refresh", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for n := 0; pb.Next(); n++ {
				_, _ = s.Register(ctx, known[n%len(known)])
			}
		})
	})
	b.Run("start and end", func(b *testing.B) {
		b.ReportAllocs()
		w := wake.Wake{ID: "1", AOR: known[1].AOR, Node: "edge-1", Call: "1", StartedAt: time.Now(), Deadline: time.Now().Add(time.Hour)}
		for b.Loop() {
			_, _ = s.Start(ctx, w)
			_, _ = s.End(ctx, w.AOR, w.Node, w.Call)
		}
	})
}

// BenchmarkRefresh compares refreshes through Redis, with and without the
// fallback, in one run.
func BenchmarkRefresh(b *testing.B) {
	s := openRedis(b, redis.Config{Addresses: []string{storetest.StartRedis(b)}})
	for name, s := range map[string]wake.Store{"redis": s, "redis with fallback": wrap(b, s)} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(64)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for n := 0; pb.Next(); n++ {
					r := storetest.Registration(fmt.Sprintf("user%07d@example.com", n%1000), n%1000)
					if _, err := s.Register(context.Background(), r); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
