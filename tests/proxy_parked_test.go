package tests

import (
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// TestField11NothingLeftBehind: a call that is answered before its parked leg waits
// leaves no transaction behind, and no late 599 for the caller.
func TestField11NothingLeftBehind(t *testing.T) {
	t.Parallel()
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) { nothingLeftBehind(t, kind) })
	}
}

func nothingLeftBehind(t *testing.T, kind proxyKind) {
	const calls, atOnce = 150, 10
	p := table{name: "parked", sipwake: rigOptions{wake: "  linger: 1s\n" + noLimits},
		proxy: proxyConfig{Hold: 2 * time.Minute}}.start(t, kind)
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
	eventually(t, "no transaction is left", func() bool { return s.transactions() == 0 })
}

var transactionCount = regexp.MustCompile(`(?:current|inuse_transactions"): ?(\d+)`)

// transactions returns how many the proxy has.
func (s *scenario) transactions() int {
	s.t.Helper()
	var text string
	switch p := s.proxy.(type) {
	case *stack.Kamailio:
		text = must(p.Command(s.ctx, "tm.stats"))(s)
	case *stack.OpenSIPS:
		text = must(openSIPSTransactions(s.ctx, p))(s)
	}
	m := transactionCount.FindStringSubmatch(text)
	if m == nil {
		s.t.Fatalf("no transactions counted in %s", text)
	}
	return must(strconv.Atoi(m[1]))(s)
}

// answeredAtOnce: the first answer of a live phone is a 200. It runs in parallel with others
// and must not end the test.
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
