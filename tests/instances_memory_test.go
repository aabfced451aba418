package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/internal/store/storetest"
)

// balancer stands between a proxy and several sipwakes, and asks the first that answers.
type balancer struct {
	*httptest.Server
	mu       sync.Mutex
	sipwakes []string
	asked    map[string]int // requests that were answered, by method
}

func newBalancer(t *testing.T) *balancer {
	b := &balancer{asked: make(map[string]int)}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

// ServeHTTP implements http.Handler.
func (b *balancer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the proxy has gone
	}
	b.mu.Lock()
	sipwakes := b.sipwakes
	b.mu.Unlock()
	for _, url := range sipwakes {
		res, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			continue
		}
		answer, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			continue
		}
		var q struct{ Method string }
		_ = json.Unmarshal(body, &q) // sipwake has said what is wrong with it
		b.mu.Lock()
		b.asked[q.Method]++
		b.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(res.StatusCode)
		_, _ = w.Write(answer) // the proxy may be gone
		return
	}
	http.Error(w, "no sipwake answers", http.StatusServiceUnavailable)
}

// ask names the sipwakes. Until then none answers: the proxy asks as soon as it runs.
func (b *balancer) ask(urls ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sipwakes = urls
}

func (b *balancer) answered(method string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[method]
}

// memoryRig is a proxy before two sipwakes whose Redis can go away. The first one is a
// process of its own, that can be killed.
type memoryRig struct {
	*proxyRig
	redis   *storetest.Redis
	front   *balancer
	process *stack.Sipwake
}

func newMemoryRig(t *testing.T, kind proxyKind) *memoryRig {
	t.Helper()
	kind.found(t)
	m := &memoryRig{redis: storetest.NewRedis(t), front: newBalancer(t)}
	r := &sharedRig{newRig(t, rigOptions{store: fmt.Sprintf("  type: redis\n  redis:\n    addresses: [%q]", m.redis.Addr),
		rpc: "  deadline: 10s", wake: "  linger: 1s"}), m.redis.Addr}
	m.proxyRig = &proxyRig{r.rig, kind, nil, new(atomic.Int64), new(atomic.Int64), nil}
	m.proxy = kind.run(t, proxyConfig{URL: m.front.URL, SipwakeTimeout: scenarioTimeout / 6})
	t.Cleanup(func() { stop(t, r.app) })
	r.edit("    url: "+r.node.url(), "    type: "+kind.node+"\n    url: "+m.proxy.SignalURL())
	r.reload()
	first, process := r.child()
	m.process = process
	m.front.ask(first.url, r.url)
	return m
}

// away has Redis say nothing from now on, when every sipwake has the user's phone in
// its memory.
func (m *memoryRig) away(s *scenario) {
	s.t.Helper()
	m.redis.Pause()
	s.t.Cleanup(m.redis.Resume)
	m.ready(s.t, http.StatusServiceUnavailable)
}

// TestInstancesKilledFromMemory: a call is started from memory while Redis is away, and
// the one sipwake that knows of it is killed before its push is through. The proxy asks
// again.
func TestInstancesKilledFromMemory(t *testing.T) {
	t.Parallel()
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			m := newMemoryRig(t, kind)
			s := m.scenario(t)
			d := s.android(answers)
			s.asleep(d)
			m.fcm.Behave(d.token, fcmsim.Behaviour{Fault: fcmsim.Silence}, fcmsim.Behaviour{})
			m.away(s)
			c := s.calls()
			eventually(t, "the push hangs", func() bool { sends, _ := m.fcm.Requests(); return sends > 0 })
			m.process.Kill()
			c.talks(d.Phone)
			m.redis.Resume()
			if n := m.fcmPushes(d.token); n != 1 {
				t.Errorf("%d pushes", n)
			}
		})
	}
}

// TestInstancesAskedAgain: the sipwake that knows of the call lives. It is asked again
// for as long as the phone says nothing, and pushes once.
func TestInstancesAskedAgain(t *testing.T) {
	t.Parallel()
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			m := newMemoryRig(t, kind)
			s := m.scenario(t)
			d := s.android(answers, stubborn)
			s.asleep(d)
			m.away(s)
			c := s.calls()
			eventually(t, "the proxy asks again", func() bool { return m.front.answered("wake.start") > 2 })
			m.redis.Resume()
			if n := m.fcmPushes(d.token); n != 1 {
				t.Errorf("%d pushes", n)
			}
			s.wakes(d)
			c.talks(d.Phone)
		})
	}
}
