package tests

import (
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// registrationTable: how a phone comes back.
func registrationTable() table {
	return table{name: "registrations", proxy: proxyConfig{Hold: 30 * time.Second, AnswerFirst: true}, scenarios: scenarios{
		"many REGISTERs over UDP, one INVITE":              func(s *scenario) { registersOften(s, s.iphone(stubborn)) },
		"many REGISTERs over TCP, one INVITE":              func(s *scenario) { registersOften(s, s.iphone(stubborn, tcp)) },
		"many REGISTERs of a live phone, one INVITE":       liveRegistersOften,
		"the same Contact on a new TCP connection":         staleTCP,
		"the connection dies again after the phone woke":   staleTCPTwice,
		"a phone that came back many times over UDP":       func(s *scenario) { cameBackOften(s, s.iphone(answers)) },
		"a phone that came back many times over TCP":       func(s *scenario) { cameBackOften(s, s.iphone(answers, tcp)) },
		"RFC 8599 answers by the proxy's own lists":        capabilities,
		"a phone whose push service is not served is rung": notServed,
	}}
}

// askFirstTable: sipwake decides on each REGISTER with push data before it is
// answered.
func askFirstTable() table {
	return table{name: "asks first", sipwake: rigOptions{wake: "  linger: 1s\n  reject_555: true"},
		proxy: proxyConfig{Hold: 30 * time.Second, Ask: true, Hostile: true}, scenarios: scenarios{
			"a sleeping phone is woken over UDP":        func(s *scenario) { wakesAndTalks(s, s.iphone(answers)) },
			"a sleeping phone is woken over TCP":        func(s *scenario) { wakesAndTalks(s, s.iphone(answers, tcp)) },
			"a phone that may be awake is rung at once": mayBeAwake,
			"many REGISTERs, one INVITE":                func(s *scenario) { registersOften(s, s.iphone(stubborn, tcp)) },
			"the same Contact on a new TCP connection":  staleTCP,
			"RFC 8599 answers by sipwake's own apps":    askedCapabilities,
			"a REGISTER that a later one has overtaken": overtaken,
			"hostile REGISTERs":                         hostileRegisters,
		}}
}

func registersOften(s *scenario, d *device) {
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	if err := d.Open(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	var sent []*phone.Transaction
	for range 3 {
		sent = append(sent, must(d.SendRegister(s.ctx, 600*time.Second))(s))
	}
	for _, tx := range sent {
		// A REGISTER that a later one has overtaken may be refused.
		if _, err := tx.Final(s.ctx); err != nil {
			s.t.Fatal(err)
		}
	}
	then := time.Now()
	s.registered(d.Phone)
	s.reported(then)
	in := must(d.WaitInvite(s.ctx))(s)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	s.rung(d.Phone, 1)
	c.over("answered")
}

func liveRegistersOften(s *scenario) {
	live, d := s.phone(), s.iphone(stubborn)
	s.registered(live)
	s.asleep(d)
	c := s.calls()
	in := must(live.WaitInvite(s.ctx))(s)
	s.pushed(d)
	for i := range 3 {
		s.registered(live)
		c.happens("signalled", i+1)
	}
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	s.rung(live, 1)
	c.over("answered")
}

// behindNAT returns a phone that sends the same private address on every connection.
func (s *scenario) behindNAT(options ...option) *device {
	s.t.Helper()
	token := s.newToken()
	same := contact("<sip:" + s.user + "@10.9.8.7:5060;transport=tcp" + apnsParams(token) + ">")
	d := &device{s.phone(append([]option{tcp, same}, options...)...), token}
	s.deliverAPNs(d)
	return d
}

func staleTCP(s *scenario) {
	d := s.behindNAT(answers)
	s.asleep(d)
	c := s.calls()
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
	c.over("answered")
}

// staleTCPTwice: the phone is woken, its connection dies, and it
// comes back on another one.
func staleTCPTwice(s *scenario) {
	d := s.behindNAT()
	s.asleep(d)
	c := s.calls()
	must(d.WaitInvite(s.ctx))(s)
	d.Sleep()
	d.SetBehaviour(phone.Answer(0))
	s.wakes(d)
	c.talks(d.Phone)
	s.rung(d.Phone, 2) // one a connection
	c.over("answered")
}

// notServed: sipwake has no app for the phone, so it is rung like any other.
func notServed(s *scenario) {
	d := s.phone(answers, params(";pn-provider=bogus;pn-prid=x"))
	s.registered(d)
	s.calls().talks(d)
	s.rung(d, 1)
}

// cameBackOften: each time the phone had another port, and so another Contact, and did not
// end the old one. A call has room for 12 branches.
func cameBackOften(s *scenario, d *device) {
	for range 14 {
		s.wakes(d)
		d.Sleep()
	}
	s.wakes(d)
	wakesAndTalks(s, d)
}

// capability registers a phone with these Contact parameters and compares the status
// and the push services that the answer names.
func capability(s *scenario, want int, pns []string, options ...option) *phone.Phone {
	s.t.Helper()
	p := s.phone(options...)
	m := must(p.Register(s.ctx, 600*time.Second))(s)
	got := strings.Join(m.Headers("Feature-Caps"), ", ")
	var caps []string
	for _, name := range pns {
		caps = append(caps, `*;+sip.pns="`+name+`"`)
	}
	if m.Code() != want || got != strings.Join(caps, ", ") {
		s.t.Errorf("REGISTER got %d, Feature-Caps %q; want %d, %q", m.Code(), got, want, caps)
	}
	return p
}

// capabilities: a query is answered by the proxy alone.
func capabilities(s *scenario) {
	one := apnsParams(s.newToken())
	capability(s, 200, []string{"apns"}, params(one))
	capability(s, 200, []string{"apns"}, params(one), tcp)
	capability(s, 200, []string{"apns", "fcm", "webpush"}, params(";pn-provider"))
	capability(s, 200, []string{"apns"}, params(";pn-provider=apns")) // RFC 8599 section 4.1.1: asked, not bound
	capability(s, 200, nil, params(";pn-provider=bogus;pn-prid=x"))
	capability(s, 200, nil)
	if n := len(must(s.phone(params(one)).Register(s.ctx, 0))(s).Headers("Feature-Caps")); n != 0 {
		s.t.Errorf("un-REGISTER got %d Feature-Caps", n)
	}
}

// askedCapabilities: a query is answered after sipwake was asked.
func askedCapabilities(s *scenario) {
	one := apnsParams(s.newToken())
	bound := capability(s, 200, []string{"apns"}, params(one))
	capability(s, 200, []string{"apns"}, params(one), tcp)
	capability(s, 200, []string{"apns", "fcm"}, params(";pn-provider"))
	capability(s, 555, nil, params(";pn-provider=bogus;pn-prid=x"))
	capability(s, 555, nil, params(strings.ReplaceAll(one, bundle, "org.example.other")))
	capability(s, 200, nil)
	if m := must(bound.Register(s.ctx, 0))(s); m.Code() != 200 {
		s.t.Errorf("un-REGISTER got %d", m.Code())
	}
	if n := s.bindings(s.aor()); n != 1 {
		s.t.Errorf("%d bindings, want the one that is served", n)
	}
}

// overtaken: sipwake has seen a later REGISTER and calls this one stale. The phone can still
// be woken.
func overtaken(s *scenario) {
	d := s.iphone(answers, stubborn, tcp)
	s.registered(d.Phone)
	s.register(s.aor(), "<sip:"+s.user+"@192.0.2.7:5070"+apnsParams(d.token)+">",
		obj{"call_id": find(d.Events(), phone.Registered)[0].CallID, "cseq": 1000})
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	s.wakes(d)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
	c.over("answered")
}
