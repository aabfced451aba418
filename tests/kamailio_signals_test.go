package tests

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
)

// signals: the single-node part of dmq_gone. A node takes signals from sipwake only,
// and says so when they make no sense.
func signals(s *scenario) {
	d := s.iphone(stubborn)
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	key := s.heldKey()
	odd := obj{"call": key, "aor": s.aor(), "contact": "sip:x@192.0.2.1", "call_id": "x", "cseq": 1, "source": "udp:192.0.2.1:1"}
	f := func(secret, method string, params any, status int, want string) {
		s.t.Helper()
		if code, got := s.signal(secret, method, params); code != status || got != want {
			s.t.Errorf("%s %v: HTTP %d, %q; want %d, %q", method, params, code, got, status, want)
		}
	}
	f(nodeSecret, "wake", odd, 200, "nocontact")
	f("", "wake", odd, 403, "")
	f("wrong", "wake", odd, 403, "")
	f(nodeSecret+"x", "give_up", obj{"call": key}, 403, "")
	f(nodeSecret, "wake", obj{}, 400, "")
	f(nodeSecret, "wake", "text", 400, "")
	f(nodeSecret, "sleep", obj{"call": key}, 200, "")
	for _, call := range []string{"1-1", "\"'x\r\n$rU $(ci)", "-", "a-b", strings.Repeat("9", 300)} {
		f(nodeSecret, "wake", obj{"call": call}, 200, "gone")
		f(nodeSecret, "give_up", obj{"call": call}, 200, "gone")
	}
	c.cancels()
	c.over("cancelled")
	f(nodeSecret, "wake", odd, 200, "gone")
	f(nodeSecret, "give_up", obj{"call": key}, 200, "gone")
}

// heldKey is Kamailio's own key of the call that is held for the user.
func (s *scenario) heldKey() string {
	s.t.Helper()
	text := must(s.kamailio.Command(s.ctx, "htable.dump", "sipwake"))(s)
	entry := regexp.MustCompile(`name: (\d+-\d+)\s+value: ` + regexp.QuoteMeta(s.aor()) + `\s`)
	found := entry.FindStringSubmatch(text)
	if found == nil {
		s.t.Fatalf("no call is held for %s:\n%s", s.aor(), text)
	}
	return found[1]
}

// signal sends a signal as sipwake does, and returns the HTTP status and the result.
func (s *scenario) signal(secret, method string, params any) (code int, status string) {
	s.t.Helper()
	body := must(json.Marshal(obj{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))(s)
	req := must(http.NewRequestWithContext(s.ctx, http.MethodPost, s.kamailio.SignalURL(), strings.NewReader(string(body))))(s)
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	res := must(http.DefaultClient.Do(req))(s)
	defer res.Body.Close()
	var answer struct{ Result struct{ Status string } }
	if res.StatusCode == http.StatusOK {
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			s.t.Fatal(err)
		}
	}
	return res.StatusCode, answer.Result.Status
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

// capabilities: register_caps, answered by Kamailio alone.
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

// TestKamailioAsksFirst: sipwake decides on each REGISTER with push data before it is
// answered.
func TestKamailioAsksFirst(t *testing.T) {
	k := newKamailioRig(t, rigOptions{wake: "  settle: 1s\n  reject_555: true"},
		stack.KamailioConfig{Hold: 30 * time.Second, Defines: map[string]string{"SIPWAKE_ASK": ""}})
	k.run(t, scenarios{
		"a sleeping phone is woken over UDP":          func(s *scenario) { wakesAndTalks(s, s.iphone(answers)) },
		"a sleeping phone is woken over TCP":          func(s *scenario) { wakesAndTalks(s, s.iphone(answers, tcp)) },
		"a sleeping phone is not rung before it woke": notRungAsleep,
		"many REGISTERs, one INVITE":                  func(s *scenario) { registersOften(s, s.iphone(stubborn, tcp)) },
		"the same Contact on a new TCP connection":    staleTCP,
		"RFC 8599 answers by sipwake's own apps":      askedCapabilities,
		"a REGISTER that a later one has overtaken":   overtaken,
		"hostile REGISTERs":                           hostileRegisters,
	})
}

// askedCapabilities: register_caps with SIPWAKE_ASK.
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

// overtaken: sipwake has seen a later REGISTER and calls this one stale. The phone
// sleeps as well as any other.
func overtaken(s *scenario) {
	d := s.iphone(answers, stubborn)
	s.registered(d.Phone)
	s.register(s.aor(), "<sip:"+s.user+"@192.0.2.7:5070"+apnsParams(d.token)+">",
		obj{"call_id": find(d.Events(), phone.Registered)[0].CallID, "cseq": 1000})
	s.registered(d.Phone)
	s.forgotten(1)
	d.SleepDeaf()
	c := s.calls()
	s.pushed(d)
	s.wakes(d)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
	c.over("answered")
}
