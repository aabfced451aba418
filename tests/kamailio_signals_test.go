package tests

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// TestKamailioSignals: a node accepts signals only from sipwake, and reports invalid ones.
func TestKamailioSignals(t *testing.T) {
	t.Parallel()
	table{name: "signals", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"signals that are late or wrong": kamailioSignals,
		"probes":                         kamailioProbes,
	}}.run(t, kamailio())
}

// TestField02Unsent: a phone whose connection has gone again is not taken for one
// that rings.
func TestField02Unsent(t *testing.T) {
	t.Parallel()
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

// TestKamailioGuesses: who guesses the secret of signals is soon refused, and takes
// nobody with him who has shown it.
func TestKamailioGuesses(t *testing.T) {
	t.Parallel()
	run := func(name string, f func(*scenario)) {
		table{name: name, proxy: proxyConfig{Hold: 30 * time.Second, Hostile: true}, scenarios: scenarios{name: f}}.run(t, kamailio())
	}
	run("from one address", func(s *scenario) {
		s.locksOut(20, func(int) string { return "" }, 200)
		// sipwake is at this address too
		for i := range 20 {
			if code, _ := s.signal("guess"+strconv.Itoa(i), "probe", obj{"call": "1-1"}); code != 403 {
				s.t.Errorf("wrong secret %d got HTTP %d", i, code)
			}
		}
		if code, _ := s.signal(nodeSecret, "probe", obj{"call": "1-1"}); code != 200 {
			s.t.Errorf("sipwake's own address is refused: HTTP %d", code)
		}
	})
	run("from many addresses", func(s *scenario) {
		s.locksOut(2000, func(i int) string { return "127.1." + strconv.Itoa(i/250) + "." + strconv.Itoa(1+i%250) }, 429)
		if code, _ := s.signal(nodeSecret, "probe", obj{"call": "1-1"}); code != 200 {
			s.t.Errorf("sipwake is refused: HTTP %d", code)
		}
	})
}

// locksOut guesses from an address, or from those that from gives, until it is
// refused, and then shows the secret in vain. Another address gets others when it
// shows the secret.
func (s *scenario) locksOut(most int, from func(i int) string, others int) {
	s.t.Helper()
	for try := range 2 { // the minute may end in the first one
		guesser := "127.0.0." + strconv.Itoa(9+try)
		code := 0
		for i := 0; code != 429; i++ {
			address := cmp.Or(from(i), guesser)
			if code, _ = s.signalFrom(address, "guess"+strconv.Itoa(i), "probe", obj{"call": "1-1"}); code != 403 && code != 429 {
				s.t.Fatalf("wrong secret %d got HTTP %d", i, code)
			}
			if i > most {
				s.t.Fatalf("%d wrong secrets in a row were looked at", i)
			}
		}
		if code, _ = s.signalFrom(guesser, nodeSecret, "probe", obj{"call": "1-1"}); code == 429 {
			if code, _ = s.signalFrom("127.0.0.100", nodeSecret, "probe", obj{"call": "1-1"}); code != others {
				s.t.Errorf("another address with the secret: HTTP %d, want %d", code, others)
			}
			return
		}
	}
	s.t.Error("who has guessed often shows the secret, and it is taken")
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

// heldKey returns Kamailio's own key of the call that is held for the user.
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
	return s.signalFrom("127.0.0.1", secret, method, params)
}

// signalFrom is signal from another address of this machine.
func (s *scenario) signalFrom(address, secret, method string, params any) (code int, status string) {
	s.t.Helper()
	body := must(json.Marshal(obj{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))(s)
	req := must(http.NewRequestWithContext(s.ctx, http.MethodPost, s.proxy.SignalURL(), strings.NewReader(string(body))))(s)
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	res := must(client.Do(req))(s)
	defer res.Body.Close()
	var answer struct{ Result struct{ Status string } }
	if res.StatusCode == http.StatusOK {
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			s.t.Fatal(err)
		}
	}
	return res.StatusCode, answer.Result.Status
}
