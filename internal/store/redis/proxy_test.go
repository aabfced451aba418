package redis_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// Every method that an RPC waits for is one write and one answer.
func TestOneRoundTrip(t *testing.T) {
	t.Run("alone", func(t *testing.T) { testOneRoundTrip(t, storetest.StartRedis(t), 0) })
	t.Run("confirmed by a replica", func(t *testing.T) {
		master, _ := replicated(t, 1)
		testOneRoundTrip(t, master.Addr, 1)
	})
}

func testOneRoundTrip(t *testing.T, addr string, replicas int) {
	proxy := newProxy(t, addr)
	s := open(t, redis.Config{Addresses: []string{proxy.addr}, WaitReplicas: replicas})
	ctx := context.Background()
	r := storetest.Registration("alice@example.com", 1)
	w := wake.Wake{ID: "1", AOR: r.AOR, Node: "n", Call: "c", StartedAt: time.Now(), Deadline: time.Now().Add(time.Minute)}
	step := func(name string, f func() error) {
		t.Helper()
		for round := range 2 { // the first may connect and send scripts
			before := proxy.writes.Load()
			if err := f(); err != nil {
				t.Fatal(err)
			}
			if n := proxy.writes.Load() - before; round == 1 && n != 1 {
				t.Errorf("%s: %d round trips, want 1", name, n)
			}
		}
	}
	changed := r
	step("Register, stored", func() error {
		r, changed = changed, r
		r.Address.Environment += "x"
		_, err := s.Register(ctx, r)
		return err
	})
	step("Register, refreshed", func() error { _, err := s.Register(ctx, r); return err })
	step("Start", func() error { _, err := s.Start(ctx, w); return err })
	step("Register with a wake", func() error { _, err := s.Register(ctx, r); return err })
	step("End", func() error { _, err := s.End(ctx, w.AOR, w.Node, w.Call); return err })
	step("Bindings", func() error { _, err := s.Bindings(ctx, wake.Query{AOR: w.AOR}); return err })
	step("Remove", func() error { _, err := s.Remove(ctx, wake.Removal{AOR: w.AOR, Device: "x"}); return err })
	step("Ping", func() error { return s.Ping(ctx) })
}

// proxy passes bytes on and counts the pieces that the client sends.
type proxy struct {
	addr   string
	writes atomic.Int64
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, server)
			})
			wg.Go(func() {
				defer func() { _ = server.Close() }()
				b := make([]byte, 1<<16)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					p.writes.Add(1)
					if _, err := server.Write(b[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return p
}
