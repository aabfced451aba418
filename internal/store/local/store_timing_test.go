package local_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// fill returns a store with that many users, each with one binding.
// SIPWAKE_BENCH_BINDINGS sets the number of the large one.
func fill(b testing.TB, users int) (*local.Store, []wake.Registration) {
	b.Helper()
	s, err := local.New(local.Config{Path: filepath.Join(b.TempDir(), "store.db")}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	const workers = 2000 // one write takes them all
	ready := make(chan error)
	var next atomic.Int64
	for range workers {
		go func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= users {
					ready <- nil
					return
				}
				if _, err := s.Register(context.Background(), storetest.Registration(user(n), n)); err != nil {
					ready <- err
					return
				}
			}
		}()
	}
	for range workers {
		if err := <-ready; err != nil {
			b.Fatal(err)
		}
	}
	known := make([]wake.Registration, min(users, 200_000))
	for i := range known {
		n := i * (users / len(known))
		known[i] = storetest.Registration(user(n), n)
	}
	return s, known
}

func user(n int) string { return fmt.Sprintf("user%07d@example.com", n) }

// BenchmarkRefresh is the commonest RPC: a known device registers again.
func BenchmarkRefresh(b *testing.B) {
	large := 100_000
	if n, err := strconv.Atoi(os.Getenv("SIPWAKE_BENCH_BINDINGS")); err == nil {
		large = n
	}
	for _, users := range []int{1000, large} {
		b.Run(fmt.Sprint(users), func(b *testing.B) {
			s, known := fill(b, users)
			var next atomic.Int64
			ctx := context.Background()
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				now := time.Now()
				for pb.Next() {
					// A prime step: neighbours in time are no neighbours in the file.
					r := known[int(next.Add(1)*7919)%len(known)]
					r.CSeq++
					r.RegisteredAt = now
					if got, err := s.Register(ctx, r); err != nil || got.Status != wake.StatusRefreshed {
						b.Error(got, err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkStored shows what the shared write does for new bindings.
func BenchmarkStored(b *testing.B) {
	s, _ := fill(b, 1000)
	var next atomic.Int64
	ctx := context.Background()
	b.SetParallelism(256)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := int(next.Add(1)) + 10_000
			if _, err := s.Register(ctx, storetest.Registration(user(n), n)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkScan is per binding.
func BenchmarkScan(b *testing.B) {
	const users = 20_000
	s, _ := fill(b, users)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += users {
		if err := s.Scan(ctx, func([]wake.Binding) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPut shows what the shared write does for messages.
func BenchmarkPut(b *testing.B) {
	s, _ := fill(b, 1)
	var next atomic.Int64
	b.SetParallelism(256)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m := storetest.Message(int(next.Add(1)))
			m.Targets = nil // done: it makes room
			if err := s.Put(context.Background(), m); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkStart is one wake, started and ended.
func BenchmarkStart(b *testing.B) {
	s, known := fill(b, 1000)
	ctx := context.Background()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		w := wake.Wake{AOR: known[n%len(known)].AOR, Node: "edge-1", Call: "1", StartedAt: time.Now()}
		w.Deadline = w.StartedAt.Add(30 * time.Second)
		if got, err := s.Start(ctx, w); err != nil || len(got.Bindings) != 1 {
			b.Fatal(got, err)
		}
		if got, err := s.End(ctx, w.AOR, w.Node, w.Call); err != nil || !got.Known {
			b.Fatal(got, err)
		}
	}
}
