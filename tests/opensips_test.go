package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/opensips/cfg"
)

// What any proxy does, on a real OpenSIPS.

func TestOpenSIPSCalls(t *testing.T) {
	t.Parallel()
	callTable().run(t, quiet(openSIPS()))
}

func TestOpenSIPSRegistrations(t *testing.T) {
	t.Parallel()
	registrationTable().run(t, openSIPS())
}

func TestOpenSIPSAsksFirst(t *testing.T) {
	t.Parallel()
	askFirstTable().run(t, openSIPS())
}

func TestOpenSIPSHoldTime(t *testing.T) {
	t.Parallel()
	holdTimeTable().run(t, openSIPS())
}

func TestOpenSIPSMessages(t *testing.T) {
	t.Parallel()
	messageTable().run(t, quiet(openSIPS()))
}

func TestOpenSIPSHostile(t *testing.T) { hostile(t, openSIPS()) }
func TestOpenSIPSRaces(t *testing.T)   { races(t, openSIPS()) }
func TestOpenSIPSSurvivesRestart(t *testing.T) {
	t.Parallel()
	survivesRestart(t, openSIPS())
}

func openSIPS() proxyKind {
	find := func() error { _, _, err := stack.FindOpenSIPS(); return err }
	const judge, elsewhere = "sipwake alone decides", "the answer of whoever has the address is passed on"
	return proxyKind{
		name: "OpenSIPS", find: find, required: "SIPWAKE_REQUIRE_OPENSIPS", node: "opensips",
		start: startOpenSIPS, ownContact: true,
		cannot: map[string]string{
			"registrations: RFC 8599 answers by the proxy's own lists": judge,
			"hold time: 555 by the proxy's own lists":                  judge,
			"down, sleeping phones are not tried":                      judge + ": see TestOpenSIPSDown480",
			"may be awake: it runs on after a while":                   "tm gives up a silent phone after sipwake_fr_s",
			"in a dialog: another phone has its address":               elsewhere,
			"in a dialog: another phone with push has it":              elsewhere,
			"in a dialog: its other account has registered":            "it knows one account at an address",
		},
	}
}

// quiet returns the kind in whose log ordinary traffic leaves no ERROR line.
func quiet(kind proxyKind) proxyKind {
	kind.quiet = true
	return kind
}

func startOpenSIPS(ctx context.Context, c proxyConfig) (proxy, error) {
	return openSIPSNode(ctx, c, stack.OpenSIPSConfig{})
}

// openSIPSNode starts one with what o says besides.
func openSIPSNode(ctx context.Context, c proxyConfig, o stack.OpenSIPSConfig) (proxy, error) {
	settings := map[string]string{"sipwake_awake_s": fmt.Sprintf("i:%d", c.Awake/time.Second)}
	if c.Silence != 0 {
		settings["sipwake_fr_s"] = fmt.Sprintf("i:%d", c.Silence/time.Second)
	}
	for name, text := range map[string]string{"sipwake_headers": c.Headers, "sipwake_methods": c.Methods} {
		if text != "" {
			settings[name] = "s:" + text
		}
	}
	for name, on := range map[string]bool{
		"sipwake_strict": c.Strict, "sipwake_answer_first": c.AnswerFirst, "sipwake_down_480": c.Down480,
		"sipwake_push_id": c.PushID,
	} {
		if on {
			settings[name] = "i:1"
		}
	}
	for name, value := range o.Settings {
		settings[name] = value
	}
	if o.Node == "" {
		o.Node = nodeID
	}
	o.URL, o.Hold, o.ChatHold, o.Settings = c.URL, c.Hold, c.ChatHold, settings
	node, err := stack.StartOpenSIPS(ctx, o)
	if err != nil {
		return nil, err // not node: a nil of its type is a proxy
	}
	return node, nil
}

// A user that is a pattern must be escaped, or its call would be delivered to any user who
// registers next.
func TestOpenSIPSPatterns(t *testing.T) {
	t.Parallel()
	tb := table{name: "patterns", proxy: proxyConfig{Hold: 30 * time.Second}}
	s := tb.start(t, openSIPS()).scenario(t)
	d := s.iphone(stubborn)
	s.asleep(d)
	// OpenSIPS itself takes none with brackets. 404 is sipwake.cfg's word for a backslash.
	for user, code := range map[string]int{"user%5c*": 404, "[a-z]*": 405, "us[e]r1": 405} {
		c := &call{must(s.caller().Invite(s.ctx, user, phone.InviteOptions{}))(s), s, nil}
		c.ends(code)
	}
	for _, user := range []string{"*", "user%3f", "%5ba-z%5d*"} {
		star := s.iphoneOf(user, stubborn, answers)
		s.registered(star.Phone)
		star.Sleep()
		c := &call{must(s.caller().Invite(s.ctx, user, phone.InviteOptions{}))(s), s, nil}
		s.pushed(star)
		s.wakes(d)
		s.wakes(star)
		c.talks(star.Phone)
		s.rung(star.Phone, 1)
	}
	s.rung(d.Phone, 0)
}

// Phones that sleep are not tried when sipwake cannot wake them, if that is wanted.
func TestOpenSIPSDown480(t *testing.T) {
	t.Parallel()
	c := proxyConfig{Hold: 30 * time.Second, Strict: true, Down480: true}
	p := table{name: "down", proxy: c}.start(t, openSIPS())
	s := p.scenario(t)
	d := s.iphone(tcp, answers)
	s.registered(d.Phone)
	stop(t, p.app)
	notHeld(s)
	s.rung(d.Phone, 0)
}

// A late phone that says nothing to its INVITE holds up no other signal: MI answers one
// request after the other.
func TestOpenSIPSLateSilence(t *testing.T) {
	t.Parallel()
	tb := table{name: "late silence", proxy: proxyConfig{Hold: 30 * time.Second}}
	s := tb.start(t, openSIPS()).scenario(t)
	d := s.iphone(stubborn)
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	c.cancels()
	c.over("cancelled")
	s.wakes(d)
	d.SleepDeaf()
	must(d.WaitInvite(s.ctx))(s)
	began := time.Now()
	must(s.proxy.(*stack.OpenSIPS).Command(s.ctx, "shv_get", "name=sipwake_park"))(s)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("MI stood still for %s", took)
	}
	c.happens("late", 1)
}

// A phone whose connection has gone again is not taken for one that rings.
func TestOpenSIPSUnsent(t *testing.T) {
	t.Parallel()
	held := make(chan string, 1)
	sipwake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var q struct{ Params struct{ Call string } }
		if err := json.NewDecoder(req.Body).Decode(&q); err == nil && q.Params.Call != "" && len(held) == 0 {
			held <- q.Params.Call
		}
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"status":"stored","code":200,"sleeps":true,"hold_s":30}}`)
	}))
	t.Cleanup(sipwake.Close)
	s := table{name: "unsent", proxy: proxyConfig{URL: sipwake.URL, Hold: 30 * time.Second}}.start(t, openSIPS()).scenario(t)
	o := s.proxy.(*stack.OpenSIPS)
	d := s.iphone(tcp, stubborn, answers)
	s.registered(d.Phone)
	at := d.LocalAddr().String()
	d.Sleep()
	eventually(t, "the connection has gone", func() bool {
		return !strings.Contains(must(o.Command(s.ctx, "list_tcp_conns"))(s), at)
	})
	c := s.calls()
	signal := must(json.Marshal(obj{
		"call": <-held, "op": "unsent", "attr": "1 tcp:" + at + " 0 1@phone",
		"uri": "sip:" + s.user + "@" + at + ";transport=tcp", "received": "sip:" + at + ";transport=tcp",
		"path": "", "qval": -1, "socket": "", "bflags": 0,
	}))(s)
	must(o.Command(s.ctx, "raise_event", "event=E_SIPWAKE_WAKE", "params="+string(signal)))(s)
	eventually(t, "the outcome", func() bool {
		out, err := o.Command(s.ctx, "cache_fetch", "system=local", "attr=sipwake_op_unsent")
		return err == nil && strings.Contains(out, `"unsent"`)
	})
	s.wakes(d)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
}

// at has a phone register at another proxy than that of the rig.
func at(p proxy) option { return func(c *phone.Config) { c.Proxy = p.SIPAddress() } }

// A phone registers at one node, the call is held at another; they share nothing.
func TestOpenSIPSTwoNodes(t *testing.T) {
	t.Parallel()
	p := table{proxy: proxyConfig{Hold: 30 * time.Second}}.start(t, openSIPS())
	edge := proxyKind{name: "OpenSIPS", start: func(ctx context.Context, c proxyConfig) (proxy, error) {
		// A peer is known by its address.
		return openSIPSNode(ctx, c, stack.OpenSIPSConfig{Node: "edge2", Address: "127.0.0.2", Settings: map[string]string{"sip_peer": "s:127.0.0.1"}})
	}}.run(t, proxyConfig{URL: p.url})
	p.edit("apns:\n", fmt.Sprintf("  - {id: edge2, type: opensips, url: %q, sip: \"sip:%s\"}\napns:\n", edge.SignalURL(), edge.SIPAddress()))
	p.reload()
	table{scenarios: scenarios{
		"UDP": func(s *scenario) { wakesAndTalks(s, s.iphone(answers, at(edge))) },
		"TCP": func(s *scenario) { wakesAndTalks(s, s.iphone(answers, at(edge), tcp)) },
		"GRUU": func(s *scenario) {
			one := newInstance()
			d := s.iphone(answers, at(edge), instance(one))
			s.asleep(d)
			s.callsDevice(one).talks(d.Phone)
			s.rung(d.Phone, 1)
		},
	}}.play(t, p)
}

// OpenSIPS holds the call by itself (pn_enable), sipwake pushes.
func TestOpenSIPSOwnPush(t *testing.T) {
	t.Parallel()
	script, err := cfg.Files.ReadFile("pn_enable.cfg")
	if err != nil {
		t.Fatal(err)
	}
	kind := openSIPS()
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) {
		return openSIPSNode(ctx, c, stack.OpenSIPSConfig{Script: string(script), Settings: map[string]string{"sipwake_domain": "s:" + domain}})
	}
	s := table{}.start(t, kind).scenario(t)
	d := s.iphone(stubborn, answers)
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	s.wakes(d)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
	if got := d.Requests("INVITE")[0].Raw; strings.Contains(got, "pn-") {
		t.Errorf("push parameters in\n%s", got)
	}
}

// openSIPSTransactions asks an OpenSIPS how many it has.
func openSIPSTransactions(ctx context.Context, o *stack.OpenSIPS) (string, error) {
	const body = `{"jsonrpc":"2.0","id":1,"method":"get_statistics","params":{"statistics":["inuse_transactions"]}}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.SignalURL(), strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}
