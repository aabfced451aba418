package tests

import (
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
)

// TestField11NothingLeftBehind: a call that is answered before its parked leg waits
// leaves no transaction behind, and no late 599 for the caller.
func TestField11NothingLeftBehind(t *testing.T) {
	const calls, atOnce = 150, 10
	p := table{name: "parked", sipwake: rigOptions{wake: "  linger: 1s\n" + noLimits},
		proxy: proxyConfig{Hold: 2 * time.Minute}}.start(t, kamailio())
	s := p.scenario(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for range calls {
		one := *s
		one.nextUser()
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			one.answeredAtOnce()
		})
	}
	wg.Wait()
	current := regexp.MustCompile(`current: (\d+)`)
	eventually(t, "no transaction is left", func() bool {
		text := must(p.proxy.(*stack.Kamailio).Command(s.ctx, "tm.stats"))(s)
		m := current.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no transactions counted in %s", text)
		}
		n, err := strconv.Atoi(m[1])
		return err == nil && n == 0
	})
}

// answeredAtOnce: a live phone answers with the first thing it says. It runs beside
// others and must not end the test by itself.
func (s *scenario) answeredAtOnce() {
	live, sleeper := s.phone(tcp, behaves(phone.Behaviour{Code: 200})), s.iphone(stubborn, tcp)
	for _, p := range []*phone.Phone{live, sleeper.Phone} {
		if m, err := p.Register(s.ctx, 600*time.Second); err != nil || m.Code() != 200 {
			s.t.Errorf("REGISTER: %v", err)
			return
		}
	}
	sleeper.Sleep()
	caller := s.caller()
	c, err := caller.Invite(s.ctx, s.user, phone.InviteOptions{})
	if err != nil {
		s.t.Error(err)
		return
	}
	if res, err := c.Final(s.ctx); err != nil || res.Code != 200 {
		s.t.Errorf("the caller got %d, %v", res.Code, err)
		return
	}
	if _, err := c.Bye(s.ctx); err != nil {
		s.t.Error(err)
	}
}
