package tests

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Invariant 7: no push parameter reaches another SIP user, nor comes back to anyone
// in the list of a user's phones.
func TestInvariant7NothingLeaksThroughSIP(t *testing.T) {
	t.Parallel()
	onEveryProxy(t, table{name: "nothing leaks", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"UDP": func(s *scenario) { noPushParameters(s) },
		"TCP": func(s *scenario) { noPushParameters(s, tcp) },
	}})
}

// noPushParameters: all phones in the call have push parameters.
func noPushParameters(s *scenario, transport ...option) {
	other := s.iphone(append(transport, stubborn)...)
	d := s.android(append(transport, answers, params(";foo=bar"))...) // a text can wake it
	s.asleep(other, d)
	token := s.newToken()
	caller := s.caller(append(transport, params(apnsParams(token)+";own=kept"))...)
	c := s.callsFrom(caller, phone.InviteOptions{})
	c.talks(d.Phone)
	tx := must(caller.SendMessage(s.ctx, s.user, "hello", phone.MessageOptions{}))(s)
	if m := must(tx.Final(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("MESSAGE got %d", m.Code())
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
	for p, own := range map[*phone.Phone]string{caller: token, d.Phone: d.token, other.Phone: other.token} {
		heard := 0
		for _, e := range p.Events() {
			if e.Message == nil {
				continue
			}
			heard++
			secrets := []string{"pn-", token, d.token, other.token}
			if s.kind.ownContact && strings.HasSuffix(e.Message.Header("CSeq"), "REGISTER") {
				secrets = slices.DeleteFunc(secrets, func(s string) bool { return s == "pn-" || s == own })
			}
			for _, secret := range secrets {
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
	const hold = 30 * time.Second
	withoutIt := scenarios{
		"registrations and calls":     func(s *scenario) { asIfNotThere(s, apnsParams(s.newToken())) },
		"registrations, calls, TCP":   func(s *scenario) { asIfNotThere(s, apnsParams(s.newToken()), tcp) },
		"a call to nobody":            notHeld,
		"a message to nobody":         messageNotHeld,
		"a call to a phone with push": pushPhoneRung,
	}
	slow := func(name string, asks bool) table {
		l := newSilent(t)
		c := proxyConfig{URL: l.url, Hold: hold, SipwakeTimeout: 500 * time.Millisecond, Ask: asks}
		return table{name: name, proxy: c, scenarios: scenarios{
			"registrations and calls": func(s *scenario) { asIfNotThere(s, apnsParams(s.newToken())) },
			"slow is not down":        func(s *scenario) { heldThoughSlow(s, l) },
			"cancelled while it asks": func(s *scenario) { cancelledWhileAsking(s, l) },
		}}
	}
	onEveryProxy(t,
		table{name: "down", proxy: proxyConfig{URL: down, Hold: hold}, scenarios: withoutIt},
		table{name: "down, asks", proxy: proxyConfig{URL: down, Hold: hold, Ask: true}, scenarios: withoutIt},
		table{
			name: "down, sleeping phones are not tried", proxy: proxyConfig{URL: down, Hold: hold, Down480: true, Strict: true, AnswerFirst: true},
			scenarios: scenarios{"a call to a phone with push": notTried},
		},
		slow("slow", false), slow("slow, asks", true),
	)
}

// silent is a sipwake that receives requests but never answers.
type silent struct {
	url string

	mu     sync.Mutex
	asked  map[string]bool // to wake the phones of an AOR
	closed map[string]bool // and nobody waits for the answer any more
}

func newSilent(t *testing.T) *silent {
	l := &silent{asked: make(map[string]bool), closed: make(map[string]bool)}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var q struct {
			Method string
			Params struct{ AOR string }
		}
		starts := json.NewDecoder(req.Body).Decode(&q) == nil && q.Method == "wake.start"
		if starts {
			l.note(l.asked, q.Params.AOR)
		}
		<-req.Context().Done()
		if starts {
			l.note(l.closed, q.Params.AOR)
		}
	}))
	// The client may still be connected.
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	l.url = server.URL + "/rpc"
	return l
}

func (l *silent) note(what map[string]bool, aor string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what[aor] = true
}

// waitFor waits until a request for the user has come.
func (l *silent) waitFor(s *scenario, what map[string]bool) {
	s.t.Helper()
	eventually(s.t, "asked to wake phones, and left", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return what[s.aor()]
	})
}

// asIfNotThere: phones with and without push register,
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

// notHeld: nobody can be woken, so the caller gets 480 at once.
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

// pushPhoneRung: without a sipwake to push it, a phone with push is rung like any other.
func pushPhoneRung(s *scenario) {
	d := s.iphone(answers)
	s.registered(d.Phone)
	s.calls().talks(d.Phone)
	s.rung(d.Phone, 1)
}

// notTried: a proxy that must not ring phones that may sleep does not ring them.
func notTried(s *scenario) {
	d := s.iphone(answers, tcp)
	s.registered(d.Phone)
	// The proxy has handled the REGISTER when it answers the next request on the
	// connection. Before that, a call could still reach the phone because of it.
	must(d.Message(s.ctx, "nobody", "hello"))(s)
	notHeld(s)
	s.rung(d.Phone, 0)
}

// heldThoughSlow: the phones may have been pushed, so the call stays held after the proxy
// has stopped waiting for an answer.
func heldThoughSlow(s *scenario, slow *silent) {
	c := s.calls()
	slow.waitFor(s, slow.closed)
	d := s.iphone(answers)
	s.registered(d.Phone)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
}

func cancelledWhileAsking(s *scenario, slow *silent) {
	c := s.calls()
	slow.waitFor(s, slow.asked)
	c.cancels()
}
