package fcm_test

import (
	"context"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/push"
)

func BenchmarkProvider(b *testing.B) {
	_, c := start(b, fcmsim.Options{Record: -1})
	p := client(b, c)
	n := call(1)
	if r := p.Push(context.Background(), n); r.Reason != push.Accepted {
		b.Fatalf("%+v", r)
	}
	b.SetParallelism(64)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if r := p.Push(ctx, n); r.Reason != push.Accepted {
				b.Errorf("%+v", r)
			}
			cancel()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pushes/s")
}
