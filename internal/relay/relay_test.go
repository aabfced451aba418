package relay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/relay"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// pusher holds pushes until they are answered.
type pusher struct {
	mu   sync.Mutex
	held []func(push.Outcome)
	reqs []push.Request
}

func (p *pusher) Push(_ context.Context, r push.Request, done func(push.Outcome)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.reqs = append(p.held, done), append(p.reqs, r)
}

func (p *pusher) answer(reason push.Reason) {
	p.mu.Lock()
	held := p.held
	p.held = nil
	p.mu.Unlock()
	for _, done := range held {
		done(push.Outcome{Reply: push.Reply{Reason: reason}, Tries: 1})
	}
	synctest.Wait()
}

// claims is a store that instances share.
type claims struct {
	mu    sync.Mutex
	taken map[string]bool
	err   error
}

func (c *claims) Release(_ context.Context, key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		delete(c.taken, key)
	}
	return c.err
}

func (c *claims) Claim(_ context.Context, key string, _ time.Duration) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.taken[key] {
		return false, c.err
	}
	if c.taken == nil {
		c.taken = make(map[string]bool)
	}
	c.taken[key] = true
	return true, nil
}

func request() push.Request {
	return push.Request{Kind: push.Call, Provider: "apns", App: "com.a", Token: secret.NewToken("ab12"), Deadline: time.Now().Add(30 * time.Second)}
}

// ask asks in a goroutine of its own and returns where the answer comes.
func ask(t *testing.T, s *relay.Service, tenant, id string, wait time.Duration) <-chan string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		o, ended := s.Push(ctx, tenant, id, request())
		if !ended {
			got <- "pending"
			return
		}
		got <- string(o.Reason)
	}()
	synctest.Wait()
	return got
}

func inBubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

// However often a push is asked for, before and after its end, it is sent once; but one
// that failed is sent anew.
func TestSentOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := &pusher{}
		s := relay.New(p, &claims{}, prometheus.NewRegistry())
		lost := ask(t, s, "a", "1", time.Second)
		time.Sleep(2 * time.Second)
		first, second := ask(t, s, "a", "1", time.Minute), ask(t, s, "a", "1", time.Minute)
		p.answer(push.TokenDead)
		if a, b, c, d := <-lost, <-first, <-second, <-ask(t, s, "a", "1", time.Second); a != "pending" || b != "token_dead" || c != b || d != b {
			t.Error(a, b, c, d)
		}
		if len(p.reqs) != 1 {
			t.Errorf("%d pushes", len(p.reqs))
		}
		failed := ask(t, s, "a", "2", time.Minute)
		p.answer(push.Unavailable)
		once := ask(t, s, "a", "2", time.Minute)
		p.answer(push.Accepted)
		if a, b := <-failed, <-once; a != "unavailable" || b != "accepted" || len(p.reqs) != 3 {
			t.Error(a, b, len(p.reqs))
		}
		time.Sleep(time.Hour) // all is forgotten
	})
}

// A push that ended without an answer about it is sent when it is asked for again: here,
// by another instance, or after a restart.
func TestUnsettledIsSentAgain(t *testing.T) {
	for _, reason := range []push.Reason{push.QueueFull, push.BreakerOpen, push.ShutDown, push.Unavailable, push.Throttled, push.Timeout} {
		t.Run(string(reason), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p, q, c := &pusher{}, &pusher{}, &claims{}
				one, other := relay.New(p, c, prometheus.NewRegistry()), relay.New(q, c, prometheus.NewRegistry())
				first := ask(t, one, "a", "1", time.Minute)
				waits := ask(t, other, "a", "1", time.Minute)
				p.answer(reason)
				if got := <-first; got != string(reason) {
					t.Error(got)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				q.answer(reason)
				if got := <-waits; got != string(reason) || len(q.reqs) != 1 {
					t.Errorf("another instance: %s, %d pushes", got, len(q.reqs))
				}
				again := ask(t, one, "a", "1", time.Minute)
				p.answer(push.Accepted)
				if got := <-again; got != "accepted" || len(p.reqs) != 2 {
					t.Errorf("the same instance: %s, %d pushes", got, len(p.reqs))
				}
				one.Stop()
				other.Stop()
				time.Sleep(time.Hour)
			})
		})
	}
}

// A claim that cannot be given back is still this instance's own.
func TestClaimNotGivenBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, c := &pusher{}, &claims{}
		s := relay.New(p, c, prometheus.NewRegistry())
		first := ask(t, s, "a", "1", time.Minute)
		c.err = errors.New("away")
		p.answer(push.Unavailable)
		<-first
		c.err = nil
		again := ask(t, s, "a", "1", time.Minute)
		p.answer(push.Accepted)
		if got := <-again; got != "accepted" {
			t.Error(got)
		}
		time.Sleep(time.Hour)
	})
}

// More pushes than are remembered make it forget the oldest that have ended, and are
// sent all the same.
func TestForgetsTheOldest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := &pusher{}
		s := relay.New(p, &claims{}, prometheus.NewRegistry())
		held := ask(t, s, "a", "held", time.Hour)
		p.mu.Lock()
		first := p.held
		p.held = nil
		p.mu.Unlock()
		for i := range relay.MaxKnown + 10 {
			got := ask(t, s, "a", fmt.Sprint(i), time.Second)
			p.answer(push.TokenDead)
			if got := <-got; got != "token_dead" {
				t.Fatalf("push %d: %s", i, got)
			}
		}
		first[0](push.Outcome{Reply: push.Reply{Reason: push.Accepted}})
		if a, b := <-held, <-ask(t, s, "a", "held", time.Second); a != "accepted" || b != a {
			t.Errorf("under way all the time: %s, %s", a, b)
		}
		time.Sleep(time.Hour)
	})
}

// Who asks again and again for one push holds up no other tenant.
func TestWaitersAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := &pusher{}
		s := relay.New(p, &claims{}, prometheus.NewRegistry())
		var all []<-chan string
		for range relay.MaxWaiting {
			all = append(all, ask(t, s, "a", "1", time.Minute))
		}
		before := time.Now()
		if got := <-ask(t, s, "a", "1", time.Minute); got != "pending" || time.Since(before) != 0 {
			t.Errorf("one too many: %s after %s", got, time.Since(before))
		}
		b := ask(t, s, "b", "1", time.Minute)
		p.answer(push.Accepted)
		synctest.Wait()
		for _, got := range append(all, b, ask(t, s, "a", "1", time.Minute)) {
			if got := <-got; got != "accepted" {
				t.Error(got)
			}
		}
		time.Sleep(time.Hour)
	})
}

// Instances that share a store send a push once, too. One that cannot ask the store
// sends it.
func TestSentOnceByInstances(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, q, c := &pusher{}, &pusher{}, &claims{}
		one, other := relay.New(p, c, prometheus.NewRegistry()), relay.New(q, c, prometheus.NewRegistry())
		first := ask(t, one, "a", "1", time.Minute)
		if got := <-ask(t, other, "a", "1", time.Second); got != "pending" || len(q.reqs) != 0 {
			t.Errorf("%s, %d pushes of the other instance", got, len(q.reqs))
		}
		p.answer(push.Accepted)
		if got := <-first; got != "accepted" {
			t.Error(got)
		}
		c.err = errors.New("away")
		last := ask(t, other, "a", "2", time.Minute)
		q.answer(push.Accepted)
		if got := <-last; got != "accepted" {
			t.Error(got)
		}
		time.Sleep(time.Hour)
	})
}

// A tenant at its bound slows nobody, and nobody hears of another's pushes.
func TestTenantsAreApart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p, reg := &pusher{}, prometheus.NewRegistry()
		s := relay.New(p, &claims{}, reg)
		for i := range relay.MaxInFlight {
			ask(t, s, "b", fmt.Sprint(i), time.Minute)
		}
		if got := <-ask(t, s, "b", "more", time.Minute); got != "throttled" {
			t.Error(got)
		}
		p.answer(push.TokenDead)
		p.reqs = nil
		a := ask(t, s, "a", "1", time.Minute) // an ID that b has too
		if len(p.reqs) != 1 {
			t.Fatal("what b has sent is taken for a's")
		}
		p.answer(push.Accepted)
		if got := <-a; got != "accepted" {
			t.Error(got)
		}
		if got := <-ask(t, s, "b", "1", time.Minute); got != "token_dead" {
			t.Error(got)
		}
		families, err := reg.Gather()
		if err != nil || len(families) != 1 || len(families[0].Metric) != 3 { // a accepted; b token_dead and throttled
			t.Errorf("%v %v", families, err)
		}
		time.Sleep(time.Hour)
	})
}
