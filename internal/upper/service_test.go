package upper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/secret"
)

const bob = "bob@example.com"

// memory is a Store, and the bindings and the node around it.
type memory struct {
	mu    sync.Mutex
	all   map[string]Registration
	stamp uint64
	bound int
	sent  []Request
	at    []string         // the nodes that were asked
	err   map[string]error // of nodes
	claim map[string]time.Time
	reads int // of one registration
}

// Claim implements Claims.
func (m *memory) Claim(_ context.Context, key string, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Now().Before(m.claim[key]) {
		return false, nil
	}
	m.claim[key] = time.Now().Add(ttl)
	return true, nil
}

func (m *memory) PutUpper(_ context.Context, r Registration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Stamp != 0 && m.all[r.AOR].Stamp != r.Stamp {
		return ErrChanged
	}
	m.stamp++
	r.Stamp = m.stamp
	m.all[r.AOR] = r
	return nil
}

func (m *memory) Upper(_ context.Context, aor string) (Registration, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	r, ok := m.all[aor]
	return r, ok, nil
}

func (m *memory) RemoveUpper(_ context.Context, aor string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, aor)
	return nil
}

func (m *memory) DueUppers(_ context.Context, now time.Time, lease time.Duration, limit int) (list []Registration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for aor, r := range m.all {
		if !r.Due.After(now) && len(list) < limit {
			r.Due = now.Add(lease)
			m.all[aor] = r
			list = append(list, r)
		}
	}
	return list, nil
}

func (m *memory) Uppers(_ context.Context, cursor string, limit int) (list []Registration, next string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, aor := range slices.Sorted(maps.Keys(m.all)) {
		if aor < cursor {
			continue
		}
		if len(list) == limit {
			return list, aor, nil
		}
		list = append(list, m.all[aor])
	}
	return list, "", nil
}

func (m *memory) Bound(context.Context, string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bound, nil
}

func (m *memory) Unbind(context.Context, string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bound = 0
	return nil
}

// requests returns what was sent, last the last of it.
func (m *memory) requests() []Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent)
}

func (m *memory) last() Request {
	all := m.requests()
	return all[len(all)-1]
}

func (m *memory) bindings() int {
	n, _ := m.Bound(context.Background(), bob)
	return n
}

// fails has the node gw fail from now on.
func (m *memory) fails(err error) { m.nodeFails("gw", err) }

func (m *memory) nodeFails(id string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err[id] = err
}

// asked returns the nodes that were asked since the last time.
func (m *memory) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.at
	m.at = nil
	return list
}

func (m *memory) binds(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bound = n
}

// gateway is a Node.
type gateway struct {
	*memory
	id string
}

func (g gateway) RegisterUpper(_ context.Context, r Request) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = append(g.at, g.id)
	if err := g.err[g.id]; err != nil {
		return err
	}
	g.sent = append(g.sent, r)
	return nil
}

// rig is a Service with bob registered for an hour, on a clock of the test's own.
type rig struct {
	*memory
	t *testing.T
	s *Service
}

const challenge = `WWW-Authenticate: Digest realm="pbx", nonce="n"`

func inTime(t *testing.T, cfg Config, f func(r rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{all: make(map[string]Registration), bound: 1, err: make(map[string]error), claim: make(map[string]time.Time)}
		r := rig{m, t, New(m, m, m, slog.New(slog.DiscardHandler), prometheus.NewRegistry())}
		cfg.SetDefaults()
		key, err := NewKey(secret.NewText(strings.Repeat("k", 32)))
		if err != nil {
			t.Fatal(err)
		}
		files := Files{key: &key, secrets: map[string]secret.Text{"list@example.com": secret.NewText(hash("x"))}}
		r.s.Configure(cfg, files, map[string]Node{"gw": gateway{m, "gw"}})
		r.registers(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			r.s.Run(ctx, time.Second)
			close(done)
		}()
		f(r)
		cancel()
		<-done
	})
}

func (r rig) registers(granted time.Duration) {
	r.t.Helper()
	err := r.s.Register(r.t.Context(), Registered{HA1: secret.NewText(hash("bob:pbx:secret")), Registration: Registration{AOR: bob, Node: "gw",
		Server: "sip:192.0.2.30", URI: "sip:example.com", To: "sip:" + bob, User: "bob", Realm: "pbx", Granted: granted}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// next waits for the next request, and returns how long it took.
func (r rig) next() (Request, time.Duration) {
	r.t.Helper()
	began := time.Now()
	for n := len(r.requests()); len(r.requests()) == n; {
		if time.Since(began) > 48*time.Hour {
			r.t.Fatal("nothing was sent in two days")
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
	return r.last(), time.Since(began)
}

func (r rig) says(to Request, code, granted int, headers ...string) {
	r.t.Helper()
	if err := r.s.Result(r.t.Context(), Result{Node: "gw", AOR: bob, Key: to.Key, Code: code, Granted: granted, Headers: headers}); err != nil {
		r.t.Fatal(err)
	}
}

func (r rig) is(state State, why string) {
	r.t.Helper()
	u, ok, _ := r.Upper(r.t.Context(), bob)
	if !ok || u.State != state || u.Why != why {
		r.t.Errorf("state %q, why %q, want %q, %q", u.State, u.Why, state, why)
	}
}

// TestRefresh: before its end, once, with the answer to the challenge.
func TestRefresh(t *testing.T) {
	inTime(t, Config{}, func(r rig) {
		for range 3 {
			first, after := r.next()
			if after < 50*time.Minute || after > 59*time.Minute {
				t.Errorf("refreshed after %s", after)
			}
			if first.Authorization != "" || first.Expires != 3600 {
				t.Errorf("first request: %+v", first)
			}
			r.says(first, 401, 0, challenge)
			second := r.last()
			if second.CSeq != first.CSeq+1 || second.CallID != first.CallID || !strings.Contains(second.Authorization, `realm="pbx"`) {
				t.Errorf("second request: %+v", second)
			}
			r.says(second, 200, 3600)
			r.is(StateOK, "")
		}
	})
}

// TestNoAnswer: it is tried again, ever more seldom, and goes on when the PBX is back.
func TestNoAnswer(t *testing.T) {
	inTime(t, Config{}, func(r rig) {
		q, _ := r.next()
		for _, want := range []time.Duration{40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, longest, longest} {
			r.says(q, 408, 0)
			r.is(StateRetrying, "the PBX said 408")
			var after time.Duration
			if q, after = r.next(); after < want || after > want+2*time.Second {
				t.Errorf("tried again after %s, want %s", after, want)
			}
		}
		r.says(q, 200, 3600)
		r.is(StateOK, "")
		// A result that never comes, and a node that does not answer.
		_, _ = r.next()
		if _, after := r.next(); after > 42*time.Second {
			t.Errorf("tried again after %s", after)
		}
		r.fails(errors.New("node away"))
		r.asked()
		for len(r.asked()) == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		r.is(StateRetrying, "node away")
	})
}

// TestRefused: what the PBX refuses is tried once an hour, or forgotten.
func TestRefused(t *testing.T) {
	f := func(cfg Config, why string, says func(r rig, q Request)) {
		t.Helper()
		inTime(t, cfg, func(r rig) {
			q, _ := r.next()
			says(r, q)
			if cfg.Failure == FailureRemove {
				if _, ok, _ := r.Upper(t.Context(), bob); ok || r.bindings() != 0 {
					t.Error("it is still there")
				}
				return
			}
			r.is(StateFailed, why)
			if _, after := r.next(); after < refused || after > refused+2*time.Second {
				t.Errorf("tried again after %s", after)
			}
		})
	}
	wrong := func(r rig, q Request) {
		r.says(q, 401, 0, challenge)
		r.says(r.last(), 401, 0, challenge)
	}
	f(Config{}, "the PBX refuses the password", wrong)
	f(Config{Failure: FailureRemove}, "", wrong)
	f(Config{}, "the PBX said 403", func(r rig, q Request) { r.says(q, 403, 0) })
	f(Config{}, errRealm.Error(), func(r rig, q Request) { r.says(q, 401, 0, strings.Replace(challenge, "pbx", "other", 1)) })
	f(Config{}, errNoChallenge.Error(), func(r rig, q Request) { r.says(q, 401, 0, challenge+", algorithm=SHA-256") })
	f(Config{}, "the PBX refuses the password", func(r rig, q Request) { // a stale nonce has one more try
		r.says(q, 401, 0, challenge)
		r.says(r.last(), 401, 0, challenge+", stale=true")
		r.says(r.last(), 401, 0, challenge+", stale=true")
	})
}

// TestPhoneRegisters: while the phone does, nothing is refreshed; its end, and that of its
// binding, are those of the registration.
func TestPhoneRegisters(t *testing.T) {
	inTime(t, Config{}, func(r rig) {
		for range 10 {
			time.Sleep(40 * time.Minute)
			r.registers(time.Hour)
		}
		if len(r.requests()) != 0 {
			t.Errorf("%d refreshes", len(r.requests()))
		}
		_ = r.Unbind(t.Context(), bob)
		q, _ := r.next()
		if q.Expires != 0 {
			t.Errorf("nobody is bound: %+v", q)
		}
		r.says(q, 401, 0, challenge)
		if q = r.last(); q.Expires != 0 {
			t.Errorf("nobody is bound: %+v", q)
		}
		r.says(q, 200, 0)
		if _, ok, _ := r.Upper(t.Context(), bob); ok {
			t.Error("it is still there")
		}
		r.registers(time.Hour)
		r.registers(0)
		if _, ok, _ := r.Upper(t.Context(), bob); ok {
			t.Error("it is still there")
		}
	})
}

// TestLateRefusal: what the PBX says to a refresh that the phone has overtaken counts no
// more: it had the password of before.
func TestLateRefusal(t *testing.T) {
	inTime(t, Config{Failure: FailureRemove}, func(r rig) {
		first, _ := r.next()
		r.says(first, 401, 0, challenge)
		second := r.last()
		time.Sleep(time.Second)
		r.registers(time.Hour)
		r.says(second, 401, 0, challenge)
		r.is(StateOK, "")
		r.says(first, 408, 0)
		r.is(StateOK, "")
		if n := r.bindings(); n != 1 {
			t.Errorf("%d bindings", n)
		}
	})
}

// TestLateEnd: a phone that registers while its registration is ended is registered
// again at once, for nobody knows what the PBX heard last.
func TestLateEnd(t *testing.T) {
	inTime(t, Config{}, func(r rig) {
		_ = r.Unbind(t.Context(), bob)
		q, _ := r.next()
		time.Sleep(time.Second)
		r.binds(1)
		r.registers(time.Hour)
		r.says(q, 200, 0)
		r.is(StateOK, "")
		if q, after := r.next(); q.Expires == 0 || after > 2*time.Second {
			t.Errorf("after %s: %+v", after, q)
		}
	})
}

// TestRate: no more than that in a second.
func TestRate(t *testing.T) {
	inTime(t, Config{Rate: 10}, func(r rig) {
		for n := range 100 {
			u, _, _ := r.Upper(t.Context(), bob)
			u.AOR, u.Stamp, u.Due = fmt.Sprintf("user%d@example.com", n), 0, time.Now()
			if err := r.PutUpper(t.Context(), u); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		if n := len(r.requests()); n != 50 {
			t.Errorf("%d refreshes in 5 s, want 50", n)
		}
	})
}

// TestWhoIsKept: those with an HA1 of their own or in the list.
func TestWhoIsKept(t *testing.T) {
	inTime(t, Config{}, func(r rig) {
		f := func(aor, ha1 string, want bool) {
			t.Helper()
			u, _, _ := r.Upper(t.Context(), bob)
			u.AOR, u.Stamp = aor, 0
			if err := r.s.Register(t.Context(), Registered{Registration: u, HA1: secret.NewText(ha1)}); err != nil {
				t.Fatal(err)
			}
			if _, ok, _ := r.Upper(t.Context(), aor); ok != want {
				t.Errorf("%s with %q: kept %v", aor, ha1, ok)
			}
		}
		f("list@example.com", "", true)
		f("nobody@example.com", "", false)
		f("short@example.com", "0123", false)
		f("good@example.com", strings.ToUpper(hash("y")), true)
		f(strings.Repeat("x", maxField)+"@example.com", hash("y"), false)
	})
}
