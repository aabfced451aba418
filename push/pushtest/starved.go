package pushtest

import (
	"context"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/push"
)

// Starved pushes a call through a service without an open connection, while this
// process may open no more files. The push must not fail, and must go out as soon as
// files are available again. It must not run in parallel with other tests.
func Starved(t *testing.T, s Service) {
	t.Helper()
	reg := prometheus.NewRegistry()
	d := push.NewDispatcher(slog.New(slog.DiscardHandler), reg)
	if err := d.SetApps([]push.App{s.App}); err != nil {
		t.Fatal(err)
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	limit := func(cur uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: cur, Max: files.Max}); err != nil {
			t.Error(err)
		}
	}
	limit(0)
	defer limit(files.Cur)
	done := make(chan push.Outcome, 1)
	s.Request.Kind, s.Request.Deadline = push.Call, time.Now().Add(time.Minute)
	d.Push(context.Background(), s.Request, func(o push.Outcome) { done <- o })
	for sum(t, reg, "sipwake_push_retries_total") < 3 { // a call that is answered has at most one
		select {
		case o := <-done:
			t.Fatalf("no files: %+v", o)
		case <-time.After(time.Millisecond):
		}
	}
	limit(files.Cur)
	if o := <-done; o.Reason != push.Accepted || o.Tries != 1 {
		t.Errorf("with files again: %+v", o)
	}
	if err := d.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// sum returns the sum of a counter's series.
func sum(t *testing.T, reg *prometheus.Registry, name string) (total float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}
