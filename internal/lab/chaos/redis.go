package chaos

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

const (
	redisServers = 3 // a master and two replicas, each with a sentinel beside it
	masterName   = "sipwake"
	// redisGrace is how long sipwake may need to find Redis again.
	redisGrace = 2500 * time.Millisecond
	// diskSize is that of a server's disk, in MB.
	diskSize = 256
)

// redisHost is a Redis server and a sentinel on one host.
type redisHost struct {
	*server
	sentinel *server
	host     host // empty without namespaces
	address  string
	watch    string // the sentinel's address
	disk     string // directory of what the server stores
	client   *goredis.Client
	asks     *goredis.SentinelClient
}

// redisGroup is all of Redis. It is polled regularly, independent of sipwake, to know when
// it works.
type redisGroup struct {
	times *times
	hosts []*redisHost
	stop  context.CancelFunc
	work  sync.WaitGroup
}

func startRedis(ctx context.Context, w *world) (*redisGroup, error) {
	g := &redisGroup{times: w.times}
	for i := range redisServers {
		h, err := newRedisHost(w, i)
		if err != nil {
			return nil, err
		}
		g.hosts = append(g.hosts, h)
		w.servers = append(w.servers, h.server, h.sentinel)
	}
	master := g.hosts[0].address
	for i, h := range g.hosts {
		if err := h.write(w.dir, i, master); err != nil {
			return nil, err
		}
	}
	for _, h := range g.hosts {
		if err := h.run(ctx); err != nil {
			return nil, err
		}
	}
	for _, h := range g.hosts {
		if err := h.sentinel.run(ctx); err != nil {
			return nil, err
		}
	}
	looking, stop := context.WithCancel(context.Background())
	g.stop = stop
	g.work.Add(1)
	go g.look(looking)
	return g, poll(ctx, "Redis with replicas and sentinels", func() bool { return g.whole(ctx) })
}

func newRedisHost(w *world, i int) (*redisHost, error) {
	name := "redis" + strconv.Itoa(i)
	h := &redisHost{disk: filepath.Join(w.dir, name)}
	ip := "127.0.0.1"
	if w.net != nil {
		var err error
		if h.host, err = w.net.newHost(); err != nil {
			return nil, err
		}
		ip = h.host.address
		if err := w.newDisk(h.disk, diskSize); err != nil {
			return nil, err
		}
	}
	port, watch := 6379, 26379
	if w.net == nil {
		var err error
		if port, err = quietPort(ip); err != nil {
			return nil, err
		}
		if watch, err = quietPort(ip); err != nil {
			return nil, err
		}
	}
	h.address, h.watch = net.JoinHostPort(ip, strconv.Itoa(port)), net.JoinHostPort(ip, strconv.Itoa(watch))
	file := func(name string) string { return filepath.Join(w.dir, name+".conf") }
	begin := func(c stack.RedisConfig) func(context.Context) (*stack.Process, error) {
		return func(ctx context.Context) (*stack.Process, error) {
			r, err := stack.StartRedis(ctx, c)
			if err != nil {
				return nil, err
			}
			return r.Process, nil
		}
	}
	h.server = &server{name: name, times: w.times, start: begin(stack.RedisConfig{Address: ip, Port: port,
		Namespace: h.host.name, File: file(name), Dir: filepath.Join(w.dir, name+"-log"),
		Options: []string{"--dir", h.disk, "--appendonly", "yes", "--protected-mode", "no"}})}
	h.sentinel = &server{name: "sentinel" + strconv.Itoa(i), times: w.times, start: begin(stack.RedisConfig{Address: ip, Port: watch,
		Namespace: h.host.name, File: file("sentinel" + strconv.Itoa(i)), Sentinel: true,
		Dir: filepath.Join(w.dir, "sentinel"+strconv.Itoa(i)+"-log"), Options: []string{"--protected-mode", "no"}})}
	o := goredis.Options{DialTimeout: 400 * time.Millisecond, ReadTimeout: 400 * time.Millisecond,
		WriteTimeout: 400 * time.Millisecond, MaxRetries: -1, PoolSize: 2}
	o.Addr = h.address
	h.client = goredis.NewClient(&o)
	watched := o
	watched.Addr = h.watch
	h.asks = goredis.NewSentinelClient(&watched)
	return h, os.MkdirAll(h.disk, 0o700)
}

// write writes the configuration files, which server and sentinel rewrite.
func (h *redisHost) write(dir string, i int, master string) error {
	// Writes that a master acknowledges without a replica would be lost when it is
	// replaced.
	text := "repl-diskless-sync-delay 0\nmin-replicas-to-write 1\nmin-replicas-max-lag 3\n" +
		"appendfsync everysec\nrepl-timeout 5\nrepl-ping-replica-period 1\n"
	ip, port, _ := net.SplitHostPort(master)
	if h.address != master {
		text += "replicaof " + ip + " " + port + "\n"
	}
	watch := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 2\nsentinel down-after-milliseconds %[1]s 1500\n"+
		"sentinel failover-timeout %[1]s 5000\nsentinel parallel-syncs %[1]s 2\n", masterName, ip, port)
	if err := os.WriteFile(filepath.Join(dir, h.name+".conf"), []byte(text), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "sentinel"+strconv.Itoa(i)+".conf"), []byte(watch), 0o600)
}

// master returns the host that the sentinels say is master, nil if none of them can say.
func (g *redisGroup) master(ctx context.Context) *redisHost {
	votes := make(map[string]int)
	best := ""
	for _, h := range g.hosts {
		a, err := h.asks.GetMasterAddrByName(ctx, masterName).Result()
		if err != nil || len(a) != 2 {
			continue
		}
		address := net.JoinHostPort(a[0], a[1])
		votes[address]++
		if votes[address] > votes[best] {
			best = address
		}
	}
	for _, h := range g.hosts {
		if h.address == best {
			return h
		}
	}
	return nil
}

// works reports whether the master accepts writes.
func (g *redisGroup) works(ctx context.Context) bool {
	m := g.master(ctx)
	return m != nil && m.client.Set(ctx, "chaos:look", time.Now().UnixNano(), time.Minute).Err() == nil
}

// whole reports whether the master works, both replicas follow it and the sentinels know
// all of them.
func (g *redisGroup) whole(ctx context.Context) bool {
	m := g.master(ctx)
	if m == nil {
		return false
	}
	if n, err := m.client.Do(ctx, "WAIT", redisServers-1, 200).Int(); err != nil || n < redisServers-1 {
		return false
	}
	for _, h := range g.hosts {
		// Both other sentinels must work, or no failover would start.
		if h.asks.CkQuorum(ctx, masterName).Err() != nil {
			return false
		}
		state, err := h.asks.Master(ctx, masterName).Result()
		if err != nil || state["num-slaves"] != strconv.Itoa(redisServers-1) || state["flags"] != "master" {
			return false
		}
	}
	return g.works(ctx)
}

// look records when Redis works.
func (g *redisGroup) look(ctx context.Context) {
	defer g.work.Done()
	for ctx.Err() == nil {
		began := time.Now()
		if g.works(ctx) {
			g.times.endIf(partRedis, began, redisGrace)
		} else if ctx.Err() == nil {
			g.times.begin(partRedis)
		}
		sleep(ctx, 200*time.Millisecond)
	}
}

func (g *redisGroup) close() {
	g.stop()
	g.work.Wait()
	for _, h := range g.hosts {
		_ = h.client.Close() // nothing follows
		_ = h.asks.Close()
	}
}
