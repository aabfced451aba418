package tests

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// races: registrations and CANCELs at random moments of many calls. Each call ends
// once, for the caller, for the phone and for sipwake.
func races(t *testing.T, kind proxyKind) {
	p := table{name: "races", proxy: proxyConfig{Hold: 30 * time.Second}}.start(t, kind)
	const rounds, atOnce = 90, 15
	s := p.scenario(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	results := make(chan string, rounds)
	for i := range rounds {
		slots <- struct{}{}
		one := *s
		one.nextUser()
		wg.Go(func() {
			defer func() { <-slots }()
			results <- one.race(i%3 == 0)
		})
	}
	wg.Wait()
	close(results)
	tally := make(map[string]int)
	for r := range results {
		tally[r]++
		switch r {
		case "200 answered", "487 cancelled", "200 unheld", "487 unheld":
		default:
			t.Error(r)
		}
	}
	t.Logf("%v", tally)
	const both = 10
	for range both {
		s.nextUser()
		bothAnswer(s)
	}
	const all = rounds + both
	eventually(t, "one wake.end a call", func() bool { return p.requests("wake.end", "") >= all })
	if n := p.requests("wake.end", ""); n != all {
		t.Errorf("%d calls, %d times wake.end", all, n)
	}
	eventually(t, "no wake is open", func() bool {
		_, metrics := p.get("/metrics")
		return strings.Contains(metrics, "\nsipwake_wakes_open 0\n")
	})
}

// race makes a call and the phone's registrations cross, and returns how the call ended. It
// runs in parallel with others and must not end the test.
func (s *scenario) race(cancel bool) string {
	pause := func(ms ...int) { time.Sleep(time.Duration(rand.N(ms[rand.N(len(ms))]+1)) * time.Millisecond) }
	d := s.iphone(behaves(phone.Answer(time.Duration(rand.N(50)) * time.Millisecond)))
	other := s.iphone(stubborn) // holds the call, whatever d does
	for _, p := range []*device{d, other} {
		if m, err := p.Register(s.ctx, 600*time.Second); err != nil || m.Code() != 200 {
			return fmt.Sprintf("REGISTER: %v", err)
		}
	}
	if !s.knows(2) {
		return "sipwake does not know the phones"
	}
	d.Sleep()
	caller := s.caller()
	call, err := caller.Invite(s.ctx, s.user, phone.InviteOptions{})
	if err != nil {
		return err.Error()
	}
	pause(0, 1, 3, 10, 50)
	if err := d.Open(s.ctx); err != nil {
		return err.Error()
	}
	for range 2 {
		if _, err := d.SendRegister(s.ctx, 600*time.Second); err != nil {
			return err.Error()
		}
	}
	if cancel {
		pause(0, 1, 5, 20, 60)
		if _, err := call.Cancel(s.ctx); err != nil && !gone(err) {
			return err.Error()
		}
	}
	res, err := call.Final(s.ctx)
	if err != nil {
		return err.Error()
	}
	if res.Code == 200 {
		if _, err := call.Bye(s.ctx); err != nil {
			return err.Error()
		}
	}
	reason, ends := s.endOf(call.CallID())
	if n := len(d.Requests("INVITE")); ends > 1 || n > 1 || n == 0 && res.Code == 200 {
		return fmt.Sprintf("%d %s, %d ends, %d INVITEs", res.Code, reason, ends, n)
	}
	return fmt.Sprintf("%d %s", res.Code, reason)
}

func (s *scenario) knows(n int) bool {
	for range 1000 {
		if s.bindings(s.aor()) == n {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// endOf waits for the end of a wake. A call that is over before the proxy has called
// sipwake has no timeline, or an empty one: it is "unheld".
func (s *scenario) endOf(callID string) (reason string, ends int) {
	for range 400 {
		l := s.timeline(callID)
		if l.Reason != "" {
			return l.Reason, l.count("ended")
		}
		if l.Outcome == "none" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return "unheld", 0
}

// survivesRestart: a held call continues without sipwake, and when sipwake is back nothing
// needs repair.
func survivesRestart(t *testing.T, kind proxyKind) {
	p := table{name: "restart", proxy: proxyConfig{Hold: 30 * time.Second}}.start(t, kind)
	p.edit("rpc:\n  listen: 127.0.0.1:0", "rpc:\n  listen: "+p.app.RPCAddr())
	s := p.scenario(t)
	d := s.iphone(answers, stubborn)
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	stop(t, p.app)
	s.wakes(d)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)

	p.start()
	s.app, s.url = p.app, p.url
	d.Sleep() // its binding is from before, and so is what the store has seen of it
	c = s.calls()
	s.pushed(d)
	s.wakes(d)
	c.talks(d.Phone)
	s.rung(d.Phone, 2)
	c.over("answered")
}
