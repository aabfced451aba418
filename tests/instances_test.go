package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/storetest"
)

// Several sipwakes on one Redis: what one began, another can complete.

// program builds sipwake once for all tests that run it as a process.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "sipwake")
	out, err := exec.Command("go", "build", "-o", path, "../cmd/sipwake").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build sipwake: %w: %s", err, out)
	}
	return path, nil
})

// sharedRig is a rig with its own Redis, to which instances can be added.
type sharedRig struct {
	*rig
	redis string
}

func newSharedRig(t *testing.T, o rigOptions) *sharedRig {
	t.Helper()
	addr := storetest.StartRedis(t)
	o.store = "  type: redis\n  redis:\n    addresses: [\"" + addr + "\"]\n    timeout: 10s"
	return &sharedRig{newRig(t, o), addr}
}

// listening waits until n instances hear each other's news.
func listening(t *testing.T, redis string, n int64) {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: redis})
	defer client.Close()
	const channel = "sw:p:news"
	eventually(t, "instances listen", func() bool {
		heard, err := client.PubSubNumSub(t.Context(), channel).Result()
		return err == nil && heard[channel] == n
	})
}

// child starts an instance as a separate process that can be killed. The rig cannot use its
// operations listener.
func (r *sharedRig) child() (*rig, *stack.Sipwake) {
	r.t.Helper()
	path := must2(program())(r.t)
	var ports []string
	for range 2 {
		ports = append(ports, fmt.Sprintf("127.0.0.1:%d", must2(stack.FreePort("127.0.0.1"))(r.t)))
	}
	text := string(must2(os.ReadFile(r.file))(r.t))
	text = strings.Replace(text, "rpc:\n  listen: 127.0.0.1:0", "rpc:\n  listen: "+ports[0], 1)
	text = strings.Replace(text, "operations:\n  listen: 127.0.0.1:0", "operations:\n  listen: "+ports[1], 1)
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	p := must2(stack.StartSipwake(ctx, stack.SipwakeConfig{
		Program: path, Config: r.write("child.yml", text), Operations: ports[1]}))(r.t)
	r.t.Cleanup(p.Stop)
	other := *r.rig
	other.app, other.url = nil, "http://"+ports[0]+"/rpc"
	return &other, p
}

// must2 returns a result without an error.
func must2[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// The instance that started a wake is killed while its push is under way: another
// one pushes, signals the node, and gives up.
func TestInstancesKilledWhilePushing(t *testing.T) {
	r := newSharedRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-2"))
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.fcm.Behave("fcm-token-bob-1", fcmsim.Behaviour{Fault: fcmsim.Silence}, fcmsim.Behaviour{})
	victim, process := r.child()
	if res := victim.startWake("bob@example.com", "1-1", nil); res.Outcome != "pushing" {
		t.Fatalf("%+v", res)
	}
	eventually(t, "a push hangs, others are accepted", func() bool {
		sends, _ := r.fcm.Requests()
		return sends == 2 && strings.Count(victim.trace("bob@example.com"), "accepted") == 2
	})
	eventually(t, "both are noted", func() bool { return r.noted("bob@example.com", 2) })
	process.Kill()
	eventually(t, "another instance pushes", func() bool { return r.fcmPushes("fcm-token-bob-1") == 1 })
	if n, m := r.fcmPushes("fcm-token-bob-2"), r.pushes(apnsToken(1)); n != 1 || m != 1 {
		t.Errorf("devices that had their push got %d and %d", n, m)
	}
	r.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"call_id": "back", "cseq": 2})
	if s := r.node.waitFor(t, "wake", "1-1"); s.Params.CallID != "back" {
		t.Errorf("signalled %+v", s)
	}
	if !r.endWake("bob@example.com", "1-1", "answered") {
		t.Error("the wake was not known any more")
	}
	if text := r.trace("bob@example.com"); !strings.Contains(text, "adopted") {
		t.Errorf("the timeline does not say that it was adopted: %s", text)
	}
}

// noted reports whether Redis knows that n devices of the AOR's wake were pushed.
func (r *sharedRig) noted(aor string, n int) bool {
	r.t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: r.redis})
	defer client.Close()
	memory, err := client.HGetAll(r.t.Context(), "sw:t:{"+aor+"}").Result()
	if err != nil {
		r.t.Fatal(err)
	}
	for field, value := range memory {
		if strings.HasPrefix(field, "w") && len(value) > 8 {
			w, err := store.DecodeWake(aor, []byte(value[8:]))
			return err == nil && len(w.Pushed) == n
		}
	}
	return false
}

// The phone registered at an instance that was killed before it could signal.
func TestInstancesKilledWhileSignalling(t *testing.T) {
	r := newSharedRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.node.mu.Lock()
	r.node.answer = func(signal, int) string { return "broken" }
	r.node.mu.Unlock()
	victim, process := r.child()
	r.startWake("bob@example.com", "1-1", nil)
	eventually(t, "push", func() bool { return r.fcmPushes("fcm-token-bob-1") == 1 })
	victim.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"call_id": "back", "cseq": 2})
	eventually(t, "the node is told, in vain", func() bool { return len(r.node.seen("wake", "1-1")) > 0 })
	process.Kill()
	r.node.mu.Lock()
	r.node.answer = nil
	r.node.signals = nil
	r.node.mu.Unlock()
	r.node.waitFor(t, "wake", "1-1")
}

// An instance that stops leaves its wakes to the others at once.
func TestInstancesStopped(t *testing.T) {
	r := newSharedRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	leaver := r.another()
	leaver.startWake("bob@example.com", "1-1", nil)
	eventually(t, "push", func() bool { return r.fcmPushes("fcm-token-bob-1") == 1 })
	stop(t, leaver.app)
	eventually(t, "adopted", func() bool { return strings.Contains(r.trace("bob@example.com"), "adopted") })
	r.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"call_id": "back", "cseq": 2})
	r.node.waitFor(t, "wake", "1-1")
	// Everyone is back: it gives up too, as the owner would.
	r.node.waitFor(t, "give_up", "1-1")
	if n := r.fcmPushes("fcm-token-bob-1"); n != 1 {
		t.Errorf("%d pushes", n)
	}
}

// The only instance is restarted and continues its own wakes.
func TestInstancesRestart(t *testing.T) {
	r := newSharedRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.fcm.Behave("fcm-token-bob-1", fcmsim.Behaviour{Fault: fcmsim.Silence}, fcmsim.Unregistered())
	victim, process := r.child()
	stop(t, r.app)
	victim.startWake("bob@example.com", "1-1", nil)
	eventually(t, "the push hangs", func() bool { sends, _ := r.fcm.Requests(); return sends == 1 })
	process.Kill()
	r.start()
	// Its push goes out again, and now the token is dead: nobody is left.
	r.node.waitFor(t, "give_up", "1-1")
}

// Redis has taken a wake, but its answer comes too late: the node asks another
// instance, which is told that the wake is under way. So it must be.
func TestInstancesUnsure(t *testing.T) {
	r := newSharedRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	unsure := r.another()
	unsure.startWake("eve@example.com", "0-0", nil) // Redis has the script
	client := goredis.NewClient(&goredis.Options{Addr: r.redis})
	defer client.Close()
	if err := client.Do(t.Context(), "client", "pause", 1500, "all").Err(); err != nil {
		t.Fatal(err)
	}
	err := unsure.try("wake.start", obj{"node": nodeID, "aor": "bob@example.com", "call_id": "call-1-1", "call": "1-1",
		"kind": "call", "hold_s": 30}, nil)
	if err == nil {
		t.Skip("Redis has answered in time") // a machine that slow shows nothing
	}
	eventually(t, "Redis has it", func() bool {
		memory, err := client.HKeys(t.Context(), "sw:t:{bob@example.com}").Result()
		return err == nil && strings.Contains(strings.Join(memory, " "), "w"+nodeID)
	})
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "duplicate" && res.Outcome != "pushing" {
		t.Fatalf("%+v", res)
	}
	eventually(t, "push", func() bool { return r.fcmPushes("fcm-token-bob-1") > 0 })
	r.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"call_id": "back", "cseq": 2})
	r.node.waitFor(t, "wake", "1-1")
	if n := r.fcmPushes("fcm-token-bob-1"); n != 1 {
		t.Errorf("%d pushes", n)
	}
}

// Events of a wake that reach an instance which does not own it.
func TestInstancesNews(t *testing.T) {
	r := newSharedRig(t, rigOptions{wake: "  push_delay: 10s"})
	other := r.another()
	listening(t, r.redis, 2)
	t.Run("a phone that rings is not pushed", func(t *testing.T) {
		contact := fcmContact("ann", "fcm-token-ann-1")
		registration := "sleep-" + contact[:12]
		r.asleep("ann@example.com", contact)
		r.startWake("ann@example.com", "1-1", obj{"live": []string{registration}})
		other.call("wake.progress", obj{"node": nodeID, "aor": "ann@example.com", "call_id": "call-1-1", "call": "1-1",
			"contact": registration, "code": 180}, nil)
		eventually(t, "it is heard", func() bool { return strings.Contains(r.trace("ann@example.com"), "answering") })
		r.node.waitFor(t, "give_up", "1-1")
		if n := r.fcmPushes("fcm-token-ann-1"); n != 0 {
			t.Errorf("%d pushes", n)
		}
	})
	t.Run("the caller hangs up", func(t *testing.T) {
		r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
		r.startWake("bob@example.com", "2-2", nil)
		eventually(t, "push", func() bool { return strings.Contains(r.trace("bob@example.com"), "accepted") })
		if !other.endWake("bob@example.com", "2-2", "cancelled") {
			t.Error("the wake is not known")
		}
		eventually(t, "the phone hears of it", func() bool { return r.fcmKinds("2") == 1 })
	})
	t.Run("the phone comes back elsewhere", func(t *testing.T) {
		r.asleep("eve@example.com", fcmContact("eve", "fcm-token-eve-1"))
		r.startWake("eve@example.com", "3-3", nil)
		other.register("eve@example.com", fcmContact("eve", "fcm-token-eve-1"), obj{"call_id": "back", "cseq": 2})
		r.node.waitFor(t, "wake", "3-3")
		r.node.waitFor(t, "give_up", "3-3")
		if !other.endWake("eve@example.com", "3-3", "answered") {
			t.Error("the wake is not known")
		}
		// Any instance returns the whole trace.
		for _, one := range []*rig{r.rig, other} {
			eventually(t, "the whole story", func() bool {
				story, events, _ := strings.Cut(one.trace("eve@example.com"), " answered ")
				for _, event := range []string{"held", "pushing", "accepted", "registered", "signalled", "gave up", "ended"} {
					if strings.Count(events, "{"+event+" ") != 1 {
						return false
					}
				}
				return story == "{[{pushing"
			})
		}
	})
}

// One that was only asleep for a while finds its wakes adopted, and does no harm.
func TestInstancesPaused(t *testing.T) {
	r := newSharedRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	victim, process := r.child()
	victim.startWake("bob@example.com", "1-1", nil)
	eventually(t, "push", func() bool { return r.noted("bob@example.com", 1) })
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "adopted", func() bool { return strings.Contains(r.trace("bob@example.com"), "adopted") })
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	victim.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"call_id": "back", "cseq": 2})
	r.node.waitFor(t, "wake", "1-1")
	r.node.waitFor(t, "give_up", "1-1")
	if n := r.fcmPushes("fcm-token-bob-1"); n != 1 {
		t.Errorf("%d pushes", n)
	}
}
