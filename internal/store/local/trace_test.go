package local_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/trace"
)

func openTraces(t testing.TB, path string, c trace.Config) *local.Traces {
	t.Helper()
	s, err := local.OpenTraces(path, c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestTraces(t *testing.T) {
	storetest.RunTraces(t, func(t *testing.T, c trace.Config) trace.Store {
		return openTraces(t, filepath.Join(t.TempDir(), "traces"), c)
	})
}

// Timelines survive a restart. A file that is damaged is put aside.
func TestTracesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "traces")
	find := func(s *local.Traces) int {
		t.Helper()
		found, _, err := s.Find(t.Context(), trace.Query{Limit: 9})
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	s := openTraces(t, path, trace.Config{})
	if _, err := s.Put(context.Background(), []trace.Timeline{storetest.Timeline(1, "one")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTraces(t, path, trace.Config{})
	if n := find(s); n != 1 {
		t.Errorf("%d calls after a restart", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("no store at all, and too long to be taken for an empty one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := find(openTraces(t, path, trace.Config{})); n != 0 {
		t.Errorf("%d calls", n)
	}
	if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) != 1 {
		t.Error(aside, err)
	}
}
