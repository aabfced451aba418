package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// Watch makes calls in a loop, and shows them in Prometheus and Grafana.
type Watch struct {
	Sipwake string
	Proxy   string
	Store   string
	Grafana string
}

const (
	watchInterval = "2s"                   // between scrapes
	watchPause    = 500 * time.Millisecond // between calls
	watchTimeout  = 2 * time.Minute        // for everything to start
)

// Run starts everything, repeats the calls of the demo until ctx ends, and stops
// everything.
func (c *Watch) Run(ctx context.Context) error {
	kind, err := proxyNamed(c.Proxy)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sipwake-watch-")
	if err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	s := &stage{dir: dir, sipwake: c.Sipwake, store: c.Store, kind: kind, quiet: true}
	defer s.stop()
	if err := c.start(ctx, s); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for round := 0; ctx.Err() == nil; round++ {
		for _, sc := range scenes() {
			sc.anew(round)
			if err := s.play(ctx, sc); err != nil && ctx.Err() == nil {
				fmt.Printf("watch: %s: %v\n", sc.title, err)
			}
			select {
			case <-time.After(watchPause):
			case <-ctx.Done():
				return nil
			}
		}
	}
	return nil
}

// start starts the stage, Prometheus and Grafana, and prints their addresses.
func (c *Watch) start(ctx context.Context, s *stage) error {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return err
	}
	p, err := stack.StartPrometheus(ctx, stack.PrometheusConfig{Folder: c.Grafana, Targets: []string{s.operations}, Interval: watchInterval})
	if err != nil {
		return err
	}
	s.children.Add(p)
	fmt.Printf("watch: metrics     http://%s/metrics\n", s.operations)
	fmt.Printf("watch: Prometheus  %s (Debian's package, from make setup, has an API but no pages)\n", p.URL())
	g, err := stack.StartGrafana(ctx, stack.GrafanaConfig{Folder: c.Grafana, Prometheus: p.URL(), Interval: watchInterval})
	switch {
	case errors.Is(err, stack.ErrNoGrafana):
		fmt.Printf("watch: no Grafana: %v\n", err)
		fmt.Printf("watch: without it: promtool query instant %s 'job_app:sipwake_wake_devices:woken_ratio_rate5m'\n", p.URL())
	case err != nil:
		return err
	default:
		s.children.Add(g)
		fmt.Printf("watch: Grafana     %s\n", g.URL())
	}
	fmt.Println("watch: makes calls until Ctrl-C")
	return nil
}

// anew gives the scene another user and another token, so that it can be repeated.
func (sc *scene) anew(round int) {
	old := sc.token
	if strings.HasPrefix(old, "fcm-") {
		sc.token = fmt.Sprintf("%s-%d", old, round)
	} else {
		sc.token = fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s %d", old, round)))
	}
	sc.user = fmt.Sprintf("%s%d", sc.user, round)
}
