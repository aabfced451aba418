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

// TestKamailioSignals: the single-node part of dmq_gone. A node takes signals from
// sipwake only, and says so when they make no sense.
func TestKamailioSignals(t *testing.T) {
	table{name: "signals", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"signals that are late or wrong": kamailioSignals,
		"probes":                         kamailioProbes,
	}}.run(t, kamailio())
}

// TestField02Unsent: a phone whose connection has gone again is not taken for one
// that rings.
func TestField02Unsent(t *testing.T) {
	table{name: "unsent", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"its connection has gone": func(s *scenario) {
			d := s.iphone(tcp, stubborn)
			s.asleep(d)
			c := s.calls()
			s.pushed(d)
			r := find(d.Events(), phone.Registered)[0]
			wake := obj{"call": s.heldKey(), "aor": s.aor(), "contact": "sip:" + s.user + "@" + d.LocalAddr().String() + ";transport=tcp",
				"call_id": r.Message.CallID(), "cseq": r.Message.CSeq(), "source": "tcp:" + d.LocalAddr().String()}
			if code, got := s.signal(nodeSecret, "wake", wake); code != 200 || got != "unsent" {
				s.t.Errorf("HTTP %d, %q", code, got)
			}
			d.SetBehaviour(phone.Answer(0))
			s.wakes(d)
			c.talks(d.Phone)
			s.rung(d.Phone, 1)
		},
	}}.run(t, kamailio())
}

func kamailioSignals(s *scenario) {
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
	text := must(s.proxy.(*stack.Kamailio).Command(s.ctx, "htable.dump", "sipwake"))(s)
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
	req := must(http.NewRequestWithContext(s.ctx, http.MethodPost, s.proxy.SignalURL(), strings.NewReader(string(body))))(s)
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
