package tests

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
)

// Invariant 7: no push parameter reaches another SIP user, nor comes back to anyone
// in the list of a user's phones.
func TestInvariant7NothingLeaksThroughSIP(t *testing.T) {
	k := newKamailioRig(t, rigOptions{}, stack.KamailioConfig{Hold: 30 * time.Second})
	k.run(t, scenarios{
		"UDP": func(s *scenario) { noPushParameters(s) },
		"TCP": func(s *scenario) { noPushParameters(s, tcp) },
	})
}

// noPushParameters: strip. Everyone in the call has push parameters of his own.
func noPushParameters(s *scenario, transport ...option) {
	other := s.android(append(transport, stubborn)...)
	d := s.iphone(append(transport, answers, params(";foo=bar"))...)
	s.asleep(other, d)
	token := s.newToken()
	caller := s.caller(append(transport, params(apnsParams(token)+";own=kept"))...)
	c := s.callsFrom(caller, phone.InviteOptions{})
	c.talks(d.Phone)
	if m := must(caller.SendMessage(s.ctx, s.user, "hello", phone.MessageOptions{}))(s); m != nil {
		must(m.Final(s.ctx))(s)
	}
	s.wakes(other) // the answer lists every phone of the user
	c = s.callsFrom(caller, phone.InviteOptions{})
	must(d.Next(s.ctx, phone.Answered))(s)
	c.ends(200)
	in := must(d.WaitInvite(s.ctx))(s)
	if err := in.Acked(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	if m := must(in.Bye(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("BYE got %d", m.Code())
	}
	must(caller.WaitBye(s.ctx))(s)

	if got := d.Requests("INVITE")[0]; !strings.Contains(got.URI(), ";foo=bar") || !strings.Contains(got.Header("Contact"), ";own=kept") {
		s.t.Errorf("other parameters are gone:\n%s", got.Raw)
	}
	if got := c.ends(200).Message; !strings.Contains(got.Header("Contact"), ";foo=bar") {
		s.t.Errorf("other parameters are gone:\n%s", got.Raw)
	}
	for _, p := range []*phone.Phone{caller, d.Phone, other.Phone} {
		heard := 0
		for _, e := range p.Events() {
			if e.Message == nil {
				continue
			}
			heard++
			for _, secret := range []string{"pn-", token, d.token, other.token} {
				if strings.Contains(strings.ToLower(e.Message.Raw), secret) {
					s.t.Errorf("%q in\n%s", secret, e.Message.Raw)
				}
			}
		}
		if heard < 3 {
			s.t.Errorf("only %d messages to look at", heard)
		}
	}
}

// Invariant 8: SIP never waits for a sipwake that is down or does not answer.
func TestInvariant8SIPNeverWaits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := "http://" + l.Addr().String() + "/rpc"
	l.Close()
	for name, c := range map[string]stack.KamailioConfig{
		"down":       {URL: down, Hold: 30 * time.Second},
		"down, asks": {URL: down, Hold: 30 * time.Second, Defines: map[string]string{"SIPWAKE_ASK": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			kamailioAlone(t, c).run(t, scenarios{
				"registrations and calls":     func(s *scenario) { asIfNotThere(s, apnsParams(s.newToken())) },
				"registrations, calls, TCP":   func(s *scenario) { asIfNotThere(s, apnsParams(s.newToken()), tcp) },
				"a call to nobody":            func(s *scenario) { notHeld(s) },
				"a message to nobody":         messageNotHeld,
				"a call to a phone with push": pushPhoneRung,
			})
		})
	}
	t.Run("down, sleeping phones are not tried", func(t *testing.T) {
		c := stack.KamailioConfig{URL: down, Hold: 30 * time.Second, Defines: map[string]string{
			"SIPWAKE_DOWN_480": "", "SIPWAKE_STRICT": ""}}
		kamailioAlone(t, c).run(t, scenarios{
			"a call to a phone with push": func(s *scenario) {
				d := s.iphone(answers, tcp)
				s.registered(d.Phone)
				// Kamailio is done with the REGISTER when it answers what comes after it on
				// the connection; until then a call would reach the phone because of it.
				must(d.Message(s.ctx, "nobody", "hello"))(s)
				notHeld(s)
				s.rung(d.Phone, 0)
			},
		})
	})
	for name, defines := range map[string]map[string]string{
		"slow":       {"SIPWAKE_RPC_MS": "500"},
		"slow, asks": {"SIPWAKE_RPC_MS": "500", "SIPWAKE_ASK": ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := stack.KamailioConfig{URL: silent(t), Hold: 30 * time.Second, Defines: defines}
			kamailioAlone(t, c).run(t, scenarios{
				"registrations and calls": func(s *scenario) { asIfNotThere(s, apnsParams(s.newToken())) },
				"slow is not down":        heldThoughSlow,
				"cancelled while it asks": cancelledWhileAsking,
			})
		})
	}
}

// silent is a server that takes connections and never says a word.
func silent(t *testing.T) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
		}
		for _, c := range open {
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "http://" + l.Addr().String() + "/rpc"
}

// asIfNotThere: backend_down and backend_slow. Phones with and without push register,
// the live one is called.
func asIfNotThere(s *scenario, push string, transport ...option) {
	live := s.phone(append(transport, answers)...)
	s.registered(live)
	d := s.phone(append(transport, params(push))...)
	s.registered(d)
	d.SleepDeaf()
	c := s.calls()
	c.talks(live)
	s.rung(live, 1)
}

// notHeld: nobody can be woken, so the caller hears it at once.
func notHeld(s *scenario) {
	if res := s.calls().ends(480); res.After > 15*time.Second {
		s.t.Errorf("the caller waited %s", res.After)
	}
}

func messageNotHeld(s *scenario) {
	if m := must(s.texts("hello").Final(s.ctx))(s); m.Code() != 480 {
		s.t.Errorf("MESSAGE got %d", m.Code())
	}
}

// pushPhoneRung: with nobody to push it, a phone with push is rung like any other.
func pushPhoneRung(s *scenario) {
	d := s.iphone(answers)
	s.registered(d.Phone)
	s.calls().talks(d.Phone)
	s.rung(d.Phone, 1)
}

// heldThoughSlow: the phones may have been pushed, so the call stays held.
func heldThoughSlow(s *scenario) {
	c := s.calls()
	eventually(s.t, "held", func() bool {
		return strings.Contains(must(s.kamailio.Command(s.ctx, "htable.dump", "sipwake"))(s), s.aor())
	})
	d := s.iphone(answers)
	s.registered(d.Phone)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
}

func cancelledWhileAsking(s *scenario) {
	c := s.calls()
	eventually(s.t, "held", func() bool {
		return strings.Contains(must(s.kamailio.Command(s.ctx, "htable.dump", "sipwake"))(s), s.aor())
	})
	c.cancels()
}
