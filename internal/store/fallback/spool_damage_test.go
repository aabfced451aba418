package fallback

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/store/storetest"
)

func spoolIn(t *testing.T, dir string, log *strings.Builder) *spool {
	t.Helper()
	s, err := openSpool(dir, 1000, slog.New(slog.NewTextHandler(log, nil)), newMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

// A damaged file of the spool costs the registrations of the damaged page, at the
// start and while it is open.
func TestSpoolDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "spool-0.db")
	var log strings.Builder
	fill := func(s *spool) {
		for n := range 200 {
			r := storetest.Registration(fmt.Sprintf("user%d@example.com", n), n)
			s.add(context.Background(), &r)
		}
	}
	s := spoolIn(t, dir, &log)
	fill(s)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	trash := func(pages ...int64) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, p := range pages {
			if _, err := f.WriteAt([]byte(strings.Repeat("\xa5", 4096)), p*4096); err != nil {
				t.Fatal(err)
			}
		}
	}
	trash(5)
	s = spoolIn(t, dir, &log)
	if n := s.len(); n == 0 || n > 200 || !strings.Contains(log.String(), "the spool was damaged and made anew") {
		t.Errorf("%d registrations, %s", n, log.String())
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []int64
	for p := int64(2); p < fi.Size()/4096; p++ {
		all = append(all, p)
	}
	trash(all...)
	if _, err := s.read(0, 10); err == nil {
		t.Error("trash was read")
	}
	fill(s)
	if n := s.len(); n != 200 {
		t.Errorf("%d registrations after it began anew", n)
	}
	if list, err := s.read(0, 500); err != nil || len(list) != 200 {
		t.Error(len(list), err)
	}
}
