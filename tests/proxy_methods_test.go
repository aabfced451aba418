package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Requests besides INVITE and MESSAGE, of the methods that the administrator has named, wake
// phones too: by a push that shows nothing and rings nowhere.
func TestOtherMethods(t *testing.T) {
	t.Parallel()
	const named = "OPTIONS NOTIFY SUBSCRIBE"
	onEveryProxy(t, table{name: "other methods", proxy: proxyConfig{Hold: 30 * time.Second, Methods: named}, scenarios: scenarios{
		"an OPTIONS wakes a sleeping phone over UDP": func(s *scenario) { otherHeld(s, "OPTIONS", s.android()) },
		"a NOTIFY wakes a sleeping phone over TCP":   func(s *scenario) { otherHeld(s, "NOTIFY", s.android(tcp)) },
		"a SUBSCRIBE wakes an iPhone":                otherInBackground,
		"an iPhone with a voip token only":           otherNoVoIP,
		"to a live phone":                            otherLive,
		"to an awake phone":                          otherAwake,
		"to nobody":                                  func(s *scenario) { s.sends("OPTIONS", 480) },
		"a method that is not named":                 func(s *scenario) { otherUnheld(s, "INFO") },
		"a method that is a pattern":                 func(s *scenario) { otherUnheld(s, "O.*") },
	}}, table{name: "other methods in bounds", proxy: proxyConfig{Hold: 30 * time.Second, ChatHold: 2 * time.Second, Methods: named},
		sipwake: rigOptions{wake: "  linger: 1s\n  limits: {pair: 1, caller: 1, aor: 1}"}, scenarios: scenarios{
			"nobody comes": func(s *scenario) {
				d := s.android(stubborn, tcp)
				s.asleep(d)
				s.sends("OPTIONS", 480)
				s.pushed(d)
			},
			"too many": otherLimited,
		}}, table{name: "no other methods", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"none is named": func(s *scenario) { otherUnheld(s, "OPTIONS") },
	}})
}

// sends has a stranger send the user a request, and waits for its final answer.
func (s *scenario) sends(method string, code int) *phone.Transaction {
	s.t.Helper()
	return s.sendsFrom(s.caller(), method, code)
}

func (s *scenario) sendsFrom(caller *phone.Phone, method string, code int) *phone.Transaction {
	s.t.Helper()
	tx := must(caller.SendMessage(s.ctx, s.user, "", phone.MessageOptions{Method: method}))(s)
	if m := must(tx.Final(s.ctx))(s); m.Code() != code {
		s.t.Errorf("%s got %d, want %d", method, m.Code(), code)
	}
	return tx
}

// got checks that one request has reached the phone, and returns it.
func (s *scenario) got(p *phone.Phone, method string) *phone.Message {
	s.t.Helper()
	list := p.Requests(method)
	if len(list) != 1 {
		s.t.Fatalf("%d requests %s reached the phone: %v", len(list), method, p.Events())
	}
	return list[0]
}

func otherHeld(s *scenario, method string, d *device) {
	s.asleep(d)
	s.sends(method, 200)
	s.pushed(d)
	s.over(s.got(d.Phone, method).CallID(), "answered")
}

// otherInBackground: Apple does not show this push.
func otherInBackground(s *scenario) {
	voip, remote := s.newToken(), s.newToken()
	d := &device{s.phone(params(fmt.Sprintf(";pn-provider=apns;pn-param=%s.%s.voip&remote;pn-prid=%s:voip&%s:remote", team, bundle, voip, remote))), remote}
	s.deliverAPNs(d)
	s.asleep(d)
	s.sends("SUBSCRIBE", 200)
	s.got(d.Phone, "SUBSCRIBE")
	for _, p := range s.apns.Pushes() {
		switch p.Token.Reveal() {
		case voip:
			s.t.Errorf("pushed by the voip token: %+v", p)
		case remote:
			if p.PushType != "background" || p.Priority != "5" {
				s.t.Errorf("not in the background: %+v", p)
			}
		}
	}
}

func otherNoVoIP(s *scenario) {
	d := s.iphone(tcp)
	s.asleep(d)
	s.sends("OPTIONS", 480)
	s.unpushed(d)
}

func (s *scenario) unpushed(d *device) {
	s.t.Helper()
	if n := len(find(d.Events(), phone.GotPush)); n != 0 {
		s.t.Errorf("%d pushes", n)
	}
}

func otherLive(s *scenario) {
	live := s.phone()
	s.registered(live)
	s.sends("OPTIONS", 200)
	s.got(live, "OPTIONS")
}

func otherAwake(s *scenario) {
	d := s.android(tcp)
	s.registered(d.Phone)
	s.forgotten(1)
	s.sends("OPTIONS", 200)
	s.got(d.Phone, "OPTIONS")
	s.unpushed(d)
}

// otherUnheld: the scripts of the tests answer what they do not know.
func otherUnheld(s *scenario, method string) {
	d := s.android()
	s.asleep(d)
	s.sends(method, 405)
	s.unpushed(d)
}

func otherLimited(s *scenario) {
	d := s.android(tcp)
	caller := s.caller()
	s.asleep(d)
	s.sendsFrom(caller, "OPTIONS", 200)
	s.pushed(d)
	s.falls(d)
	s.sendsFrom(caller, "OPTIONS", 480)
	if n := len(find(d.Events(), phone.GotPush)); n != 1 {
		s.t.Errorf("%d pushes, want 1", n)
	}
}
