package redis_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// cluster is a Redis Cluster whose masters share the slots evenly, each with as
// many replicas.
type cluster struct {
	t               *testing.T
	masters, slaves []*storetest.Redis
	clients         map[*storetest.Redis]*goredis.Client
	addresses       []string
	ids             map[*storetest.Redis]string
}

func newCluster(t *testing.T, masters, replicas int) *cluster {
	t.Helper()
	c := &cluster{t: t, clients: make(map[*storetest.Redis]*goredis.Client), ids: make(map[*storetest.Redis]string)}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range masters * (1 + replicas) {
		r := storetest.NewRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--repl-diskless-sync-delay", "0")
		c.clients[r] = client(t, r.Addr)
		c.addresses = append(c.addresses, r.Addr)
		c.ids[r] = c.clients[r].Do(ctx, "cluster", "myid").Val().(string)
		check(c.clients[r].Do(ctx, "cluster", "set-config-epoch", n+1).Err())
		if n < masters {
			c.masters = append(c.masters, r)
			check(c.clients[r].ClusterAddSlotsRange(ctx, 16384*n/masters, 16384*(n+1)/masters-1).Err())
		} else {
			c.slaves = append(c.slaves, r)
		}
		if n > 0 {
			host, port, _ := strings.Cut(r.Addr, ":")
			check(c.clients[c.masters[0]].ClusterMeet(ctx, host, port).Err())
		}
	}
	for i, r := range c.slaves {
		eventually(t, "the replica knows its master", func() bool {
			return c.clients[r].ClusterReplicate(ctx, c.ids[c.masters[i%masters]]).Err() == nil
		})
	}
	for r, cl := range c.clients {
		eventually(t, "the cluster comes up", func() bool {
			return strings.Contains(cl.ClusterInfo(ctx).Val(), "cluster_state:ok") &&
				strings.Count(cl.ClusterNodes(ctx).Val(), "connected") == len(c.clients)
		})
		if slices.Contains(c.slaves, r) {
			inStep(t, cl)
		}
	}
	return c
}

// A cluster of two servers that share the slots.
func TestContractCluster(t *testing.T) {
	c := newCluster(t, 2, 0)
	contract(t, redis.Config{Addresses: c.addresses})
	traceContract(t, redis.Config{Addresses: c.addresses})
	t.Run("Peers", func(t *testing.T) {
		c := redis.Config{Addresses: c.addresses, Prefix: "peers:"}
		storetest.RunPeers(t, open(t, c), open(t, c))
	})
	for _, cl := range c.clients {
		if cl.DBSize(context.Background()).Val() == 0 {
			t.Error("only one server was used")
		}
	}
}

// All keys of an AOR are in one slot, whatever the AOR is made of; so are those of
// the outbox. Only the index of tokens is spread.
func TestOneSlot(t *testing.T) {
	c := newCluster(t, 1, 0)
	s := open(t, redis.Config{Addresses: c.addresses, Cluster: true})
	cl := c.clients[c.masters[0]]
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	slots := make(map[int64]bool)
	for n, aor := range []string{"alice@example.com", "x}y@example.com", "}@example.com", "{}@example.com", "{a}{b}@example.com",
		"%7d@example.com", "%@[2001:db8::1]", "+49301234567@example.com", "user with\nanything\x00@example.com"} {
		if err := cl.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		r := storetest.Registration(aor, n)
		register(t, s, r)
		r.Action, r.Device = wake.ActionSeen, "desk"
		register(t, s, r)
		w := loadWake(n)
		w.AOR = aor
		if _, err := s.Start(ctx, w); err != nil {
			t.Fatal(err)
		}
		if _, err := s.End(ctx, aor, "n", "another"); err != nil {
			t.Fatal(err)
		}
		un := storetest.Registration(aor, n)
		un.Device = "another"
		un.Address.Tokens = storetest.Registration(aor, n+100).Address.Tokens
		register(t, s, un)
		un.Action = wake.ActionUnbind
		register(t, s, un)
		of := make(map[int64][]string)
		for _, key := range cl.Keys(ctx, "*").Val() {
			if !strings.HasPrefix(key, "sw:k:") {
				slot := cl.ClusterKeySlot(ctx, key).Val()
				of[slot] = append(of[slot], key)
				slots[slot] = true
			}
		}
		if len(of) != 1 {
			t.Errorf("%q is spread over slots: %v", aor, of)
		}
		for _, keys := range of {
			if len(keys) != 3 {
				t.Errorf("%q has the keys %q", aor, keys)
			}
		}
	}
	if len(slots) < 8 {
		t.Errorf("AORs are not spread: slots %v", slices.Collect(maps.Keys(slots)))
	}
	if err := cl.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	done := storetest.Message(1)
	done.Targets = nil
	for _, m := range []outbox.Message{storetest.Message(2), done} {
		if err := s.Put(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	outbox := make(map[int64]bool)
	keys := cl.Keys(ctx, "*").Val()
	for _, key := range keys {
		outbox[cl.ClusterKeySlot(ctx, key).Val()] = true
	}
	if len(outbox) != 1 || len(keys) != 4 {
		t.Errorf("the outbox is spread over slots: %q", keys)
	}
}

// One of three masters dies in the middle of a load: its replica takes over, and
// all that was acknowledged is there. Without a replica left its slots take
// nothing that must be confirmed, until it has one again.
func TestClusterFailover(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes many seconds")
	}
	c := newCluster(t, 3, 1)
	s := open(t, redis.Config{Addresses: c.addresses, WaitReplicas: 1})
	l := startLoad(t, s)
	l.more("registrations before", 500)
	c.masters[0].Stop()
	ctx := context.Background()
	eventually(t, "the replica takes over", func() bool {
		return strings.Contains(c.clients[c.slaves[0]].Info(ctx, "replication").Val(), "role:master")
	})
	c.masters[0].Start() // a replica from now on
	inStep(t, c.clients[c.masters[0]])
	aor := ""
	for n := 0; aor == ""; n++ {
		name := fmt.Sprintf("back%d@example.com", n)
		if c.clients[c.slaves[0]].ClusterKeySlot(ctx, "{"+name+"}").Val() < 16384/3 {
			aor = name
		}
	}
	eventually(t, "its slots take registrations again", func() bool {
		ctx, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
		defer cancel()
		_, err := s.Register(ctx, storetest.Registration(aor, 1_000_000))
		return err == nil
	})
	l.more("registrations afterwards", 500)
	l.check(s)
}

// A slot moves to another server (ASK while it does, MOVED afterwards) while its
// user registers and is called.
func TestClusterResharding(t *testing.T) {
	c := newCluster(t, 2, 0)
	s := open(t, redis.Config{Addresses: c.addresses})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	from, to := c.masters[0], c.masters[1]
	aor := ""
	var slot int64
	for n := 0; aor == ""; n++ {
		name := fmt.Sprintf("user%d@example.com", n)
		if slot = c.clients[from].ClusterKeySlot(ctx, "{"+name+"}").Val(); slot < 8192 {
			aor = name
		}
	}
	r := storetest.Registration(aor, 1)
	register(t, s, r)
	stop, done := make(chan struct{}), make(chan struct{})
	acknowledged, failed := uint32(0), 0
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			call, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
			r.CSeq++
			if res, err := s.Register(call, r); err != nil {
				failed++
			} else if acknowledged = r.CSeq; res.Devices != 1 {
				t.Errorf("%d devices", res.Devices)
			}
			cancel()
		}
	}()
	setslot := func(on *storetest.Redis, args ...any) {
		t.Helper()
		if err := c.clients[on].Do(ctx, append([]any{"cluster", "setslot", slot}, args...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	setslot(to, "importing", c.ids[from])
	setslot(from, "migrating", c.ids[to])
	host, port, _ := strings.Cut(to.Addr, ":")
	for {
		keys := c.clients[from].ClusterGetKeysInSlot(ctx, int(slot), 100).Val()
		if len(keys) == 0 {
			break
		}
		args := []any{"migrate", host, port, "", 0, 5000, "keys"}
		for _, k := range keys {
			args = append(args, k)
		}
		if err := c.clients[from].Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond) // requests of the time in between
	setslot(to, "node", c.ids[to])
	setslot(from, "node", c.ids[to])
	eventually(t, "the moved user registers", func() bool {
		call, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
		defer cancel()
		_, err := s.Start(call, wake.Wake{ID: "x", AOR: aor, Node: "n", Call: "c", StartedAt: time.Now(), Deadline: time.Now().Add(time.Hour)})
		return err == nil
	})
	close(stop)
	<-done
	list, err := s.Bindings(ctx, wake.Query{AOR: aor})
	if err != nil || len(list) != 1 || list[0].CSeq < acknowledged {
		t.Errorf("bindings %v, %v, acknowledged CSeq %d", list, err, acknowledged)
	}
	if n := c.clients[to].ClusterCountKeysInSlot(ctx, int(slot)).Val(); n == 0 {
		t.Error("the slot has not moved")
	}
	t.Logf("CSeq %d acknowledged, %d failed while the slot moved", acknowledged, failed)
}
