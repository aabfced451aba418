package tests

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// Kamailio's own file with users in a database: passwords (WITH_AUTH), and a location
// that outlives a restart (WITH_USRLOCDB).

// locationTable and subscribers are tables of db_text.
const locationTable = "id(int,auto) ruid(string) username(string) domain(string,null) contact(string) received(string,null) " +
	"path(string,null) expires(int) q(double) callid(string) cseq(int) last_modified(int) flags(int) cflags(int) user_agent(string) " +
	"socket(string,null) methods(int,null) instance(string,null) reg_id(int) server_id(int) connection_id(int) keepalive(int) partition(int) \n"

// subscribers has the users and callers of scenarios.
func subscribers() string {
	var b strings.Builder
	b.WriteString("id(int,auto) username(string) domain(string) password(string) ha1(string) ha1b(string) \n")
	for n := range 200 {
		user := fmt.Sprintf("user%d", n/2)
		if n%2 == 1 {
			user = fmt.Sprintf("caller%d", n/2)
		}
		fmt.Fprintf(&b, "%d:%s:%s:%s:x:x\n", n+1, user, domain, passwordOf(user))
	}
	return b.String()
}

func passwordOf(user string) string { return "secret of " + user }

func password(text string) option { return func(c *phone.Config) { c.Password = text } }

// TestField17Auth: phones and callers show passwords, and who shows a wrong one changes
// nothing.
func TestField17Auth(t *testing.T) {
	t.Parallel()
	s := startStock(t, "WITH_AUTH", "WITH_NAT", "WITH_JSONRPC", "WITH_ANTIFLOOD")
	s.every = func(c *phone.Config) { c.Password = passwordOf(c.User) }
	table{name: "auth", scenarios: scenarios{
		"asleep, UDP": func(s *scenario) { wakesAndTalks(s, s.iphone(answers)) },
		"asleep, TCP": func(s *scenario) { wakesAndTalks(s, s.iphone(tcp, answers)) },
		"awake": func(s *scenario) {
			d := s.iphone(tcp, answers)
			s.registered(d.Phone)
			if n := len(find(d.Events(), phone.Challenged)); n != 1 {
				s.t.Errorf("%d challenges", n)
			}
			s.forgotten(1)
			s.calls().talks(d.Phone)
			s.neverPushed(d)
		},
		"a wrong password":              wrongPassword,
		"a wrong password of a caller":  wrongCaller,
		"a message":                     messageToSleeper,
		"no password, and it is bound":  func(s *scenario) { keepsItsBinding(s, "") },
		"another password, it is bound": func(s *scenario) { keepsItsBinding(s, "guess") },
	}}.play(t, s.proxyRig)
}

// wrongPassword: nothing is stored, and the phone hears it.
func wrongPassword(s *scenario) {
	d := s.iphone(tcp, password("guess"))
	m := must(d.Register(s.ctx, time.Minute))(s)
	if m.Code() != 401 || m.Header("Feature-Caps") != "" {
		s.t.Errorf("REGISTER got %d, Feature-Caps %q", m.Code(), m.Header("Feature-Caps"))
	}
	if n := s.bindings(s.aor()); n != 0 {
		s.t.Errorf("%d bindings", n)
	}
	s.calls().ends(480)
	s.neverPushed(d)
	s.rung(d.Phone, 0)
}

func wrongCaller(s *scenario) {
	d := s.iphone(tcp, stubborn)
	s.asleep(d)
	c := s.callsFrom(s.caller(password("guess")), phone.InviteOptions{})
	c.ends(407)
	if l := s.timeline(c.CallID()); len(l.Events) != 0 {
		s.t.Errorf("sipwake heard of the call: %+v", l)
	}
	s.neverPushed(d)
}

func messageToSleeper(s *scenario) {
	d := s.android(tcp)
	s.asleep(d)
	tx := s.texts("hello")
	if m := must(tx.Final(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("MESSAGE got %d", m.Code())
	}
	must(d.WaitMessage(s.ctx))(s)
}

// keepsItsBinding: nobody can remove a phone without the password, even by repeating the
// phone's own headers.
func keepsItsBinding(s *scenario, wrong string) {
	d := s.iphone(tcp, answers)
	s.asleep(d)
	thief := s.phone(params(apnsParams(d.token)), password(wrong))
	for _, expires := range []time.Duration{0, time.Minute} {
		if m := must(thief.Register(s.ctx, expires))(s); m.Code() != 401 {
			s.t.Errorf("REGISTER got %d", m.Code())
		}
	}
	s.calls().talks(d.Phone)
	s.rung(d.Phone, 1)
}

// rejectedLine is what README has for phones whose password or account is gone.
const rejectedLine = "if ($rc == -2 || $rc == -3) route(SIPWAKE_REJECTED);"

// TestField17AuthRejected: a phone whose password is not good any more is forgotten, if
// that is wanted.
func TestField17AuthRejected(t *testing.T) {
	t.Parallel()
	if !strings.Contains(readDoc(t, "README.md"), "`"+rejectedLine+"`") {
		t.Errorf("README has no %q", rejectedLine)
	}
	const place = "\t\t\tauth_challenge("
	s := startStockWith(t, rigOptions{wake: "  remove: {register_rejected: 2}"}, func(script string) string {
		if n := strings.Count(script, place); n != 1 {
			t.Fatalf("the file challenges in %d places", n)
		}
		return strings.Replace(script, place, "\t\t\t"+rejectedLine+"\n"+place, 1)
	}, "WITH_AUTH", "WITH_JSONRPC").scenario(t)
	s.every = func(c *phone.Config) { c.Password = passwordOf(c.User) }
	refused := func(token, password string, times int) {
		t.Helper()
		before := s.requests("binding.rejected", "")
		p := s.phone(params(apnsParams(token)), func(c *phone.Config) { c.Password = password })
		for range times {
			if m := must(p.Register(s.ctx, time.Minute))(s); m.Code() != 401 {
				t.Errorf("REGISTER got %d", m.Code())
			}
		}
		if password == "" { // sipwake hears nothing of a REGISTER without any
			times = 0
		}
		eventually(t, "sipwake is told", func() bool { return s.requests("binding.rejected", "") == before+times })
	}
	d := s.iphone(tcp)
	s.asleep(d)
	refused(s.newToken(), "guess", 3)
	refused(d.token, "", 3)
	refused(d.token, "guess", 1)
	if n := s.bindings(s.aor()); n != 1 {
		t.Errorf("%d bindings, want 1", n)
	}
	s.wakes(d) // the next one is the first again
	refused(d.token, "guess", 1)
	if n := s.bindings(s.aor()); n != 1 {
		t.Errorf("%d bindings after a good REGISTER, want 1", n)
	}
	refused(d.token, "guess", 1)
	eventually(t, "the binding is gone", func() bool { return s.bindings(s.aor()) == 0 })
}

// restartable is a Kamailio that can be started again.
type restartable struct {
	start func(context.Context) (proxy, error)

	mu sync.Mutex
	proxy
}

func (r *restartable) restart(s *scenario) {
	s.t.Helper()
	r.Stop()
	if err := os.Remove(r.Log()); err != nil { // what it says when it is stopped is no fault
		s.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proxy = must(r.start(s.ctx))(s)
}

// TestField17UserLocation: phones that registered before a restart of Kamailio are rung and
// woken after it.
func TestField17UserLocation(t *testing.T) {
	t.Parallel()
	s := startStock(t, "WITH_USRLOCDB", "WITH_NAT", "WITH_JSONRPC", "WITH_ANTIFLOOD")
	r := s.proxy.(*restartable)
	sleepy, udp, desk := s.scenario(t), s.scenario(t), s.scenario(t)
	d, e, p := sleepy.iphone(tcp, answers), udp.iphone(answers), desk.phone(answers)
	sleepy.asleep(d)
	udp.asleep(e)
	desk.registered(p)
	r.restart(desk)

	for _, one := range []struct {
		s *scenario
		p *phone.Phone
	}{{sleepy, d.Phone}, {udp, e.Phone}, {desk, p}} {
		if out := must(r.proxy.(*stack.Kamailio).Command(one.s.ctx, "ul.lookup", "location", one.s.user))(one.s); !strings.Contains(out, one.s.user) {
			t.Errorf("%s is not in the location: %s", one.s.user, out)
		}
		one.s.calls().talks(one.p)
		one.s.rung(one.p, 1)
	}
	for _, woken := range []*device{d, e} {
		if n := len(find(woken.Events(), phone.GotPush)); n != 1 {
			t.Errorf("%d pushes", n)
		}
	}
	// And phones that register now are bound as before.
	n := s.scenario(t)
	wakesAndTalks(n, n.iphone(tcp, answers))
}
