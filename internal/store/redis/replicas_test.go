package redis_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// replicated starts a master and its replicas, and waits until they are in step.
func replicated(t testing.TB, replicas int) (master *storetest.Redis, slaves []*storetest.Redis) {
	t.Helper()
	master = storetest.NewRedis(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := strings.Cut(master.Addr, ":")
	for range replicas {
		slaves = append(slaves, storetest.NewRedis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0"))
	}
	for _, r := range slaves {
		inStep(t, client(t, r.Addr))
	}
	return master, slaves
}

func inStep(t testing.TB, c *goredis.Client) {
	t.Helper()
	eventually(t, "the replica is in step", func() bool {
		return strings.Contains(c.Info(context.Background(), "replication").Val(), "master_link_status:up")
	})
}

// Redis acknowledges before it replicates: a write that its master alone has is
// lost with it. With wait_replicas it is not acknowledged.
func TestWaitReplicas(t *testing.T) {
	master, slaves := replicated(t, 1)
	trusting := open(t, redis.Config{Addresses: []string{master.Addr}})
	waits := open(t, redis.Config{Addresses: []string{master.Addr}, WaitReplicas: 1})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	register(t, waits, storetest.Registration("safe@example.com", 1))
	register(t, waits, storetest.Registration("removed@example.com", 5)) // a write that changes nothing needs no replica
	if ok, err := waits.Claim(ctx, "released", time.Hour); err != nil || !ok {
		t.Fatal(ok, err)
	}

	slaves[0].Pause()
	w := wake.Wake{ID: "1", AOR: "safe@example.com", Node: "n", Call: "c", StartedAt: time.Now(), Deadline: time.Now().Add(time.Hour)}
	for name, f := range map[string]func() error{
		"Register": func() error {
			_, err := waits.Register(ctx, storetest.Registration("waits@example.com", 3))
			return err
		},
		"Start":   func() error { _, err := waits.Start(ctx, w); return err },
		"Remove":  func() error { _, err := waits.Remove(ctx, wake.Removal{AOR: "removed@example.com"}); return err },
		"Claim":   func() error { _, err := waits.Claim(ctx, "x", time.Hour); return err },
		"Release": func() error { return waits.Release(ctx, "released") },
		"Ping":    func() error { return waits.Ping(ctx) },
	} {
		if err := f(); !errors.Is(err, wake.ErrUnavailable) || !strings.Contains(err.Error(), "too few replicas") {
			t.Errorf("%s with its replica stopped: %v", name, err)
		}
	}
	if list, err := waits.Bindings(ctx, wake.Query{AOR: "safe@example.com"}); err != nil || len(list) != 1 {
		t.Errorf("reading needs no replica: %v, %v", list, err)
	}
	// The replica has lost its master, and then there is no master any more.
	slaves[0].Resume()
	if err := client(t, slaves[0].Addr).Do(ctx, "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	register(t, trusting, storetest.Registration("trusting@example.com", 2))
	if _, err := waits.Register(ctx, storetest.Registration("refused@example.com", 4)); !errors.Is(err, wake.ErrUnavailable) {
		t.Errorf("without a replica: %v", err)
	}
	master.Stop()
	s := open(t, redis.Config{Addresses: []string{slaves[0].Addr}})
	for user, want := range map[string]int{"safe": 1, "trusting": 0, "refused": 0} {
		if list, err := s.Bindings(ctx, wake.Query{AOR: user + "@example.com"}); err != nil || len(list) != want {
			t.Errorf("after the failover %s has %d bindings, %v, want %d", user, len(list), err, want)
		}
	}
}

// A master dies in the middle of a load: its sentinels make a replica the master,
// sipwake finds it, and all that was acknowledged is there.
func TestSentinelFailover(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes many seconds")
	}
	master, slaves := replicated(t, 2)
	host, port, _ := strings.Cut(master.Addr, ":")
	var sentinels []string
	for n := range 3 {
		conf := filepath.Join(t.TempDir(), fmt.Sprintf("sentinel%d.conf", n))
		text := fmt.Sprintf("sentinel monitor phones %s %s 2\nsentinel down-after-milliseconds phones 1000\n"+
			"sentinel failover-timeout phones 10000\n", host, port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sentinels = append(sentinels, storetest.NewRedis(t, conf, "--sentinel").Addr)
	}
	ctx := context.Background()
	for _, addr := range sentinels {
		c := goredis.NewSentinelClient(&goredis.Options{Addr: addr})
		t.Cleanup(func() { _ = c.Close() })
		eventually(t, "the sentinel knows all", func() bool {
			m := c.Master(ctx, "phones").Val()
			return m["num-slaves"] == "2" && m["num-other-sentinels"] == "2"
		})
	}
	s := open(t, redis.Config{Addresses: sentinels, MasterName: "phones", WaitReplicas: 1})
	l := startLoad(t, s)
	l.more("registrations before", 500)
	master.Stop()
	began := time.Now()
	l.more("registrations after the failover", 500)
	t.Logf("registrations go on after %s", time.Since(began).Round(time.Millisecond))
	l.check(s)
	roles := ""
	for _, r := range slaves {
		roles += strings.Join(strings.Fields(client(t, r.Addr).Info(ctx, "replication").Val())[2:3], " ") + " "
	}
	if !strings.Contains(roles, "role:master") {
		t.Errorf("no replica has become the master: %s", roles)
	}
}

// BenchmarkWaitReplicas is what a confirmed REGISTER costs, as a ratio in one run.
func BenchmarkWaitReplicas(b *testing.B) {
	master, _ := replicated(b, 1)
	for _, want := range []int{0, 1} {
		s := open(b, redis.Config{Addresses: []string{master.Addr}, WaitReplicas: want})
		b.Run(fmt.Sprintf("alone/wait_replicas=%d", want), func(b *testing.B) {
			r := storetest.Registration("alice@example.com", 1)
			for b.Loop() {
				if _, err := s.Register(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("load/wait_replicas=%d", want), func(b *testing.B) {
			b.SetParallelism(64)
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
