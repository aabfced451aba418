package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// A phone that puts its PURR into the Contact of its calls (RFC 8599 section 6) is found by
// it, where nothing else says who it is: its Contact is no address that it registered from.
func TestDialogPURR(t *testing.T) {
	t.Parallel()
	key := "  linger: 1s\n  purr_key_file: " + writeTemp(t, strings.Repeat("k", 32))
	c := proxyConfig{Hold: 30 * time.Second, ChatHold: 15 * time.Second, Silence: 2 * time.Second, Ask: true}
	onEveryProxy(t, table{name: "a PURR", sipwake: rigOptions{wake: key}, proxy: c, scenarios: scenarios{
		"the callee is found":                    func(s *scenario) { foundByPURR(s) },
		"the callee is found over TCP":           func(s *scenario) { foundByPURR(s, tcp) },
		"one that was made up":                   madeUpPURR,
		"a call that replaces this one":          replacesByPURR,
		"it goes to the other side, and no more": onlyPURR,
	}})
}

func purr(c *phone.Config) { c.PURR = true }

// elsewhere is the Contact of a phone that does not know where it is seen.
func elsewhere(params string) option {
	return func(c *phone.Config) { c.CallContact = "<sip:" + c.User + "@127.0.0.9:9" + params + ">" }
}

// lostInCall is a phone in a call that sleeps, and is not where its Contact says.
func (s *scenario) lostInCall(options ...option) (*device, *call) {
	s.t.Helper()
	d := s.android(append([]option{answers, instance(newInstance())}, options...)...)
	s.registered(d.Phone)
	c := s.calls()
	c.ends(200)
	d.Sleep()
	return d, c
}

func foundByPURR(s *scenario, options ...option) {
	d, c := s.lostInCall(append(options, elsewhere(""), purr)...)
	s.hangsUp(c, d.Phone)
	s.pushedQuietly(d)
	c.held("answered")
}

// madeUpPURR: it wakes nobody, and ends the transaction alone.
func madeUpPURR(s *scenario) {
	d, c := s.lostInCall(elsewhere(";pn-purr=" + strings.Repeat("Ab-_9", 20)))
	if m := must(c.Bye(s.ctx))(s); m.Code() != 504 {
		s.t.Errorf("BYE got %d, want 504", m.Code())
	}
	for _, e := range find(d.Events(), phone.GotPush) {
		if strings.Contains(string(e.Payload), `"ntype":"4"`) {
			s.t.Error("it was pushed")
		}
	}
}

// replacesByPURR: a third phone, to which the call was transferred, calls the Contact that the
// other side has seen (RFC 3891). Its device is woken, and another one of the user is not.
func replacesByPURR(s *scenario) {
	other := s.android(instance(newInstance()), stubborn)
	s.asleep(other)
	d := s.android(answers, instance(newInstance()), elsewhere(""), purr)
	s.registered(d.Phone)
	c := s.calls()
	answer := c.ends(200).Message
	d.Sleep()
	uri, _, _ := strings.Cut(strings.TrimPrefix(answer.Header("Contact"), "<"), ">")
	tag := func(header string) string { _, tag, _ := strings.Cut(answer.Header(header), ";tag="); return tag }
	third := s.caller()
	again := &call{must(third.Invite(s.ctx, uri, phone.InviteOptions{Headers: map[string]string{
		"Require": "replaces", "Replaces": c.CallID() + ";to-tag=" + tag("To") + ";from-tag=" + tag("From"),
	}}))(s), s, third}
	again.ends(200)
	must(d.WaitInvite(s.ctx))(s)
	in := must(d.WaitInvite(s.ctx))(s)
	if got := in.Request.Header("Replaces"); !strings.HasPrefix(got, c.CallID()) {
		s.t.Errorf("Replaces: %q", got)
	}
	if l := s.timeline(again.CallID()); l.count("pushing") != 1 {
		s.t.Errorf("not one phone was pushed: %+v", *l)
	}
}

// onlyPURR: the other side sees the PURR of a clean Contact, and no other push data. It
// differs for each phone and has no token in it.
func onlyPURR(s *scenario) {
	d := s.android(answers, purr, elsewhere(""), instance(newInstance()))
	e := s.android(answers, purr, instance(newInstance())) // its Contact has all its push data
	s.registered(d.Phone)
	c := s.calls()
	got := c.ends(200).Message.Header("Contact")
	if !strings.Contains(got, ";pn-purr=") || strings.Contains(got, "pn-prid") || strings.Contains(got, d.token) {
		s.t.Errorf("Contact: %s", got)
	}
	s.nextUser()
	s.registered(e.Phone)
	must(e.Invite(s.ctx, d.AOR(), phone.InviteOptions{}))(s)
	must(d.WaitInvite(s.ctx))(s)
	in := must(d.WaitInvite(s.ctx))(s)
	if got := in.Request.Header("Contact"); strings.Contains(got, "pn-") {
		s.t.Errorf("Contact: %s", got)
	}
}
