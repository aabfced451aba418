package tests

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// gatewayScenario returns one user of a gateway.
func gatewayScenario(t *testing.T, o rigOptions, defines ...string) (*scenario, *gatewayProxy) {
	t.Helper()
	tb := table{name: "gateway", sipwake: o, proxy: proxyConfig{Hold: 30 * time.Second}}
	s := tb.start(t, gateway(defines...)).scenario(t)
	return s, s.proxy.(*gatewayProxy)
}

// atPBX returns the contacts of a user at the PBX, and how long they live in seconds.
func (g *gatewayProxy) atPBX(s *scenario, user string) map[string]int {
	s.t.Helper()
	text, err := g.pbx.Command(s.ctx, "ul.dump")
	if err != nil {
		s.t.Fatal(err)
	}
	found := make(map[string]int)
	_, text, _ = strings.Cut(text, "AoR: "+user+"\n")
	text, _, _ = strings.Cut(text, "AoR: ")
	for _, m := range regexp.MustCompile(`Address: (\S+)\s+Expires: (\d+)`).FindAllStringSubmatch(text, -1) {
		found[m[1]], _ = strconv.Atoi(m[2])
	}
	return found
}

// theContact returns the one contact of the user at the PBX.
func (g *gatewayProxy) theContact(s *scenario) (uri string, expires int) {
	s.t.Helper()
	found := g.atPBX(s, s.user)
	if len(found) != 1 {
		s.t.Fatalf("the PBX has %d contacts: %v", len(found), found)
	}
	for uri, expires = range found {
	}
	return uri, expires
}

// expiryTold is what a 200 to a REGISTER says of the phone's own contact.
func expiryTold(s *scenario, m *phone.Message) int {
	s.t.Helper()
	found := regexp.MustCompile(`;expires=(\d+)`).FindStringSubmatch(m.Header("Contact"))
	if m.Code() != 200 || found == nil {
		s.t.Fatalf("REGISTER got %d, Contact %q", m.Code(), m.Header("Contact"))
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// TestGatewayRegisters: what the PBX sees of two phones of a user, and what they hear.
func TestGatewayRegisters(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{})
	d := s.iphone(tcp, header("X-PIID", "0123456789abcdef0123456789abcdef"))
	m := must(d.Register(s.ctx, 10*time.Minute))(s)
	if n := expiryTold(s, m); n != 600 {
		t.Errorf("the phone was told %d s, not what it asked", n)
	}
	if !strings.Contains(m.Header("Contact"), d.token) || strings.Contains(m.Header("Contact"), "sw") {
		t.Errorf("Contact of the 200: %q", m.Header("Contact"))
	}
	uri, expires := g.theContact(s)
	if expires < 7000 || !strings.HasPrefix(uri, "sip:"+s.user+"@"+g.SIPAddress()+";swup=") {
		t.Errorf("the PBX has %s for %d s", uri, expires)
	}
	s.registered(s.android(header("X-Sy.Uppersrv", "192.0.2.1")).Phone)
	if again, _ := g.theContact(s); again != uri {
		t.Errorf("the PBX has %s and %s for two phones", uri, again)
	}
	eventually(t, "both are bound", func() bool { return s.bindings(s.aor()) == 2 })
	// What ends, and needs a refresh, is the registration at the PBX.
	var res struct {
		Bindings []struct {
			Expires time.Time `json:"expires_at"`
		}
	}
	s.call("binding.list", obj{"aor": s.aor()}, &res)
	for _, b := range res.Bindings {
		if left := time.Until(b.Expires); left < time.Hour {
			t.Errorf("sipwake thinks that the registration ends in %s", left)
		}
	}
}

// TestGatewayGivesNoMore: the gateway grants a phone no longer expiry than the PBX did.
func TestGatewayGivesNoMore(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{}, "GW_EXPIRES=120")
	if n := expiryTold(s, must(s.iphone().Register(s.ctx, time.Hour))(s)); n != 120 {
		t.Errorf("the phone was told %d s", n)
	}
	if _, expires := g.theContact(s); expires > 120 {
		t.Errorf("the PBX gave %d s", expires)
	}
}

// TestGatewayWrongPassword: the phone hears it, nothing is stored, and too many in a
// row remove the binding.
func TestGatewayWrongPassword(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{wake: "  remove: {register_rejected: 2}"})
	refusals(s, g)
}

func refusals(s *scenario, g *gatewayProxy) {
	t := s.t
	t.Helper()
	wrong := func(c *phone.Config) { c.Password = "wrong" }
	refused := func(p *phone.Phone) {
		t.Helper()
		if m := must(p.Register(s.ctx, time.Minute))(s); m.Code() != 401 || m.Header("WWW-Authenticate") == "" {
			t.Errorf("REGISTER with a wrong password got %d", m.Code())
		}
	}
	stranger := s.iphone(wrong)
	refused(stranger.Phone)
	eventually(t, "sipwake is told", func() bool { return s.requests("binding.rejected", "") == 1 })
	if n := s.bindings(s.aor()); n != 0 || len(g.atPBX(s, s.user)) != 0 || s.requests("binding.register", "") != 0 {
		t.Errorf("a wrong password was stored: %d bindings", n)
	}
	d := s.iphone()
	s.registered(d.Phone)
	eventually(t, "the phone is bound", func() bool { return s.bindings(s.aor()) == 1 })
	old := s.phone(wrong, params(apnsParams(d.token)))
	refused(old)
	refused(stranger.Phone)
	eventually(t, "sipwake is told", func() bool { return s.requests("binding.rejected", "") == 3 })
	if n := s.bindings(s.aor()); n != 1 {
		t.Errorf("%d bindings after one refusal", n)
	}
	refused(old)
	eventually(t, "the binding is gone", func() bool { return s.bindings(s.aor()) == 0 })
}

// TestGatewayUnregisters: what happens to a registration that the phone ends.
func TestGatewayUnregisters(t *testing.T) {
	t.Parallel()
	for mode, atPBX := range map[string]int{"2": 1, "1": 1, "0": 0} {
		s, g := gatewayScenario(t, rigOptions{}, "GW_UNREG="+mode)
		unregistersAt(s, g, mode, atPBX)
	}
}

func unregistersAt(s *scenario, g *gatewayProxy, mode string, atPBX int) {
	s.t.Helper()
	d := s.iphone(answers)
	s.registered(d.Phone)
	s.forgotten(1)
	if m := must(d.Register(s.ctx, 0))(s); m.Code() != 200 {
		s.t.Fatalf("%s: un-REGISTER got %d", mode, m.Code())
	}
	if n := len(g.atPBX(s, s.user)); n != atPBX {
		s.t.Errorf("%s: the PBX has %d contacts, want %d", mode, n, atPBX)
	}
	if atPBX > 0 {
		s.falls(d)
		s.calls().talks(d.Phone)
	}
}

// TestGatewayPhonesCall: the PBX authenticates calls of phones, and wakes whom they
// call.
func TestGatewayPhonesCall(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{})
	phonesCall(s, g)
}

func phonesCall(s *scenario, g *gatewayProxy) {
	t := s.t
	t.Helper()
	d := s.iphone(answers)
	s.asleep(d)
	s.callAt = ""
	caller := s.phoneOf("friend")
	if m := must(caller.Register(s.ctx, time.Minute))(s); m.Code() != 200 {
		t.Fatalf("REGISTER got %d", m.Code())
	}
	s.callsFrom(caller, phone.InviteOptions{}).talks(d.Phone)
	s.nextUser()
	e := s.android()
	s.asleep(e)
	message := must(caller.SendMessage(s.ctx, s.user, "hello", phone.MessageOptions{}))(s)
	if m := must(message.Final(s.ctx))(s); m.Code() != 200 {
		t.Errorf("MESSAGE got %d", m.Code())
	}
	// Nobody calls a phone past the PBX.
	uri, _ := g.theContact(s)
	stranger := s.phoneOf("stranger", func(c *phone.Config) { c.Password = "wrong" })
	if res := must(must(stranger.Invite(s.ctx, uri, phone.InviteOptions{}))(s).Final(s.ctx))(s); res.Code != 407 {
		t.Errorf("a stranger's INVITE to the contact of the PBX got %d", res.Code)
	}
}

// TestGatewayOptions: the PBX' keep-alives are answered while a phone is bound, asleep
// or not, and also when the gateway has just started.
func TestGatewayOptions(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{})
	s.asleep(s.iphone())
	options(s, g, g.SIPAddress())
}

// options has the PBX ask at a gateway for a user who is asleep.
func options(s *scenario, g *gatewayProxy, at string) {
	t := s.t
	t.Helper()
	uri, _ := g.theContact(s)
	if code := optionsFrom(t, pbxAddress, at, uri); code != 200 {
		t.Errorf("OPTIONS to a user who is asleep got %d", code)
	}
	bound := s.user
	s.nextUser()
	uri = strings.ReplaceAll(uri, fmt.Sprintf("%x", bound), fmt.Sprintf("%x", s.user))
	if code := optionsFrom(t, pbxAddress, at, strings.Replace(uri, bound, s.user, 1)); code != 404 {
		t.Errorf("OPTIONS to a user without a phone got %d", code)
	}
	s.register(s.aor(), apnsContact(s.user, s.newToken()), nil)
	if code := optionsFrom(t, pbxAddress, at, strings.Replace(uri, bound, s.user, 1)); code != 200 {
		t.Errorf("OPTIONS to a user whom this gateway has not seen got %d", code)
	}
}

// optionsFrom sends OPTIONS from an address and returns the code of the answer.
func optionsFrom(t *testing.T, from, to, uri string) int {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := strconv.FormatInt(time.Now().UnixNano(), 36)
	b := make([]byte, 4096)
	for {
		fmt.Fprintf(c, "OPTIONS %[1]s SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bK%[3]s;rport\r\nMax-Forwards: 5\r\n"+
			"From: <sip:pbx@%[2]s>;tag=%[3]s\r\nTo: <%[1]s>\r\nCall-ID: %[3]s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", uri, c.LocalAddr(), id)
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(b)
		if err != nil {
			if t.Context().Err() != nil {
				t.Fatal(err)
			}
			continue
		}
		code, err := strconv.Atoi(strings.Fields(string(b[:n]))[1])
		if err != nil {
			t.Fatal(err)
		}
		if code >= 200 {
			return code
		}
	}
}

// TestGatewayPrivateAddress: requests within a call reach a phone through its connection,
// whatever address is in its Contact, with push data or without.
func TestGatewayPrivateAddress(t *testing.T) {
	t.Parallel()
	s, _ := gatewayScenario(t, rigOptions{})
	privateAddress(s)
}

func privateAddress(s *scenario) {
	s.t.Helper()
	for _, contact := range []string{"<sip:me@192.0.2.99:5060;ob>", "<sip:me@192.0.2.99;pn-provider=x;pn-prid=y;transport=tcp>;audio", "sip:me@192.0.2.99"} {
		for _, transport := range []option{func(*phone.Config) {}, tcp} {
			s.nextUser()
			d := s.iphone(answers, transport, func(c *phone.Config) { c.CallContact = contact })
			s.asleep(d)
			s.calls().talks(d.Phone)
		}
	}
	// A call of the phone's own, which the other side ends.
	friend := s.phoneOf("friend", answers)
	s.registered(friend)
	d := s.phone(func(c *phone.Config) { c.CallContact = "<sip:me@192.0.2.99>" })
	call := must(d.Invite(s.ctx, "friend", phone.InviteOptions{}))(s)
	if res := must(call.Final(s.ctx))(s); res.Code != 200 {
		s.t.Fatalf("the friend's phone answered %d", res.Code)
	}
	in := must(friend.WaitInvite(s.ctx))(s)
	if err := in.Acked(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	if m := must(in.Bye(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("BYE to the phone that called got %d", m.Code())
	}
}
