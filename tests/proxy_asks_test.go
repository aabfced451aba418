package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// TestField03AsksOnce: the node asks sipwake about new push data and remembers the answer,
// also while sipwake is down. Without an answer, the phone gets no Feature-Caps and is rung
// like any other.
func TestField03AsksOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) { asksOnce(t, kind) })
	}
}

func asksOnce(t *testing.T, kind proxyKind) {
	p := table{name: "asks once", proxy: proxyConfig{Hold: 30 * time.Second}}.start(t, kind)
	s := p.scenario(t)
	d := s.iphone(tcp, answers)
	caps := func(d *device) int {
		return len(must(d.Wake(s.ctx))(s).Headers("Feature-Caps"))
	}
	if n := caps(d); n != 1 {
		t.Errorf("a phone that is bound got %d Feature-Caps", n)
	}
	if n := s.bindings(s.aor()); n != 1 {
		t.Errorf("%d bindings when the REGISTER was answered", n)
	}
	d.Sleep()
	stop(t, p.app)
	if n := caps(d); n != 1 {
		t.Errorf("a phone that is known got %d Feature-Caps from a node whose sipwake is down", n)
	}
	fresh := s.iphone(tcp, answers)
	if n := caps(fresh); n != 0 {
		t.Errorf("a phone nobody knows got %d Feature-Caps", n)
	}
	must(s.caller().Invite(s.ctx, s.user, phone.InviteOptions{}))(s)
	must(fresh.WaitInvite(s.ctx))(s)
}

// TestField03StoreAway: while sipwake cannot reach its store, its last answer about a phone
// stays valid.
func TestField03StoreAway(t *testing.T) {
	t.Parallel()
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) { saidHolds(t, kind) })
	}
}

func saidHolds(t *testing.T, kind proxyKind) {
	answered := make(chan struct{}, 8)
	first := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var q struct {
			ID     json.RawMessage
			Method string
		}
		if json.NewDecoder(req.Body).Decode(&q) != nil || q.Method != "binding.register" {
			return
		}
		answer := `"error": {"code": -32003, "message": "store is not available"}`
		if first {
			answer = `"result": {"status": "stored", "code": 200, "sleeps": true, "feature_caps": ["*;+sip.pns=\"apns\""]}`
		}
		first = false
		fmt.Fprintf(w, `{"jsonrpc": "2.0", "id": %s, %s}`, q.ID, answer)
		answered <- struct{}{}
	}))
	t.Cleanup(server.Close)
	s := table{proxy: proxyConfig{URL: server.URL}}.start(t, kind).scenario(t)
	d := s.phone(params(apnsParams(s.newToken())), tcp)
	for i := range 5 {
		m := must(d.Register(s.ctx, time.Minute))(s)
		<-answered // or it came first
		if n := len(m.Headers("Feature-Caps")); n != 1 {
			t.Errorf("REGISTER %d got %d Feature-Caps", i+1, n)
		}
	}
}

// TestAsksAgain: what one sipwake alone may know is asked again, for calls and texts, as
// long as they are held, and they are held no longer for that; what is stored is not.
func TestAsksAgain(t *testing.T) {
	t.Parallel()
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) { asksAgain(t, kind) })
	}
}

func asksAgain(t *testing.T, kind proxyKind) {
	type start struct {
		Kind  string
		AOR   string
		Call  string
		Again bool
		Hold  float64 `json:"hold_s"`
	}
	starts := make(chan start, 64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var q struct {
			ID     json.RawMessage
			Method string
			Params json.RawMessage
		}
		if json.NewDecoder(req.Body).Decode(&q) != nil {
			return
		}
		var p start
		_ = json.Unmarshal(q.Params, &p) // of another method
		answer := "{}"
		if q.Method == "wake.start" {
			answer = fmt.Sprintf(`{"outcome": "pushing", "devices": 1, "hold_s": 20, "cached": %v}`, strings.HasPrefix(p.AOR, "cached"))
			starts <- p // closed when no call is held any more
		}
		fmt.Fprintf(w, `{"jsonrpc": "2.0", "id": %s, "result": %s}`, q.ID, answer)
	}))
	t.Cleanup(server.Close)
	const hold = 8 * time.Second
	s := table{proxy: proxyConfig{URL: server.URL, Hold: hold, ChatHold: hold}}.start(t, kind).scenario(t)
	var calls []*call
	var texts []*phone.Transaction
	for _, user := range []string{"stored", "cached"} {
		s.user = user
		calls, texts = append(calls, s.calls()), append(texts, s.texts("hello"))
	}
	for i, c := range calls {
		if res := must(c.Final(s.ctx))(s); res.Code != 480 {
			t.Errorf("the caller got %d", res.Code)
		}
		if m := must(texts[i].Final(s.ctx))(s); m.Code() != 480 {
			t.Errorf("the text got %d", m.Code())
		}
	}
	close(starts)
	first, again := map[string]start{}, map[string]int{}
	for p := range starts {
		before, known := first[p.Call]
		switch {
		case !known && !p.Again:
			first[p.Call] = p
		case !known || !p.Again || p.Kind != before.Kind || p.AOR != before.AOR || p.Hold >= before.Hold:
			t.Errorf("asked %+v, after %+v", p, before)
		default:
			again[p.Kind+" "+p.AOR]++
		}
	}
	for _, kind := range []string{"call", "chat"} {
		if n := again[kind+" cached@"+domain]; n < 1 || n > 2 || again[kind+" stored@"+domain] > 0 {
			t.Errorf("asked again in %s: %v", hold, again)
		}
	}
}
