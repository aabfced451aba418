//go:build !race

package local_test

import (
	"context"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// TestAllocations holds what the commonest requests cost the embedded store.
func TestAllocations(t *testing.T) {
	s, known := fill(t, 100)
	ctx := context.Background()
	f := func(what string, most float64, do func()) {
		t.Helper()
		do()
		if n := testing.AllocsPerRun(500, do); n > most {
			t.Errorf("%s: %v allocations, %v are allowed", what, n, most)
		}
	}
	r := known[1]
	f("a refresh", 1, func() {
		r.CSeq++
		r.RegisteredAt = time.Now()
		if got, err := s.Register(ctx, r); err != nil || got.Status != wake.StatusRefreshed {
			t.Fatal(got, err)
		}
	})
	f("a wake, started and ended", 12, func() {
		w := wake.Wake{AOR: known[1].AOR, Node: "edge-1", Call: "1", StartedAt: time.Now()}
		w.Deadline = w.StartedAt.Add(30 * time.Second)
		if got, err := s.Start(ctx, w); err != nil || len(got.Bindings) != 1 {
			t.Fatal(got, err)
		}
		if _, err := s.End(ctx, w.AOR, w.Node, w.Call); err != nil {
			t.Fatal(err)
		}
	})
}
