package tests

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/apnssim"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
	"github.com/sipwake/sipwake/opensips/cfg"
)

// opensipsRig is a sipwake and a real OpenSIPS that know each other.
type opensipsRig struct {
	*rig
	opensips *stack.OpenSIPS
	users    atomic.Int64
}

func startOpenSIPS(t *testing.T, c stack.OpenSIPSConfig) *stack.OpenSIPS {
	t.Helper()
	if c.Node == "" {
		c.Node = nodeID
	}
	settings := map[string]string{"sipwake_awake_s": "i:0"} // a phone that closes its UDP socket sleeps at once
	for name, value := range c.Settings {
		settings[name] = value
	}
	c.Settings = settings
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o, err := stack.StartOpenSIPS(ctx, c)
	if errors.Is(err, stack.ErrMissing) && os.Getenv("SIPWAKE_REQUIRE_ALL") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-o.Exited():
			t.Error("OpenSIPS ended by itself")
		default:
		}
		log, err := os.ReadFile(o.Log())
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(log)) {
			for _, bad := range []string{"CRITICAL", "BUG", "by a signal", "no memory", "no more memory"} {
				if strings.Contains(line, bad) {
					t.Errorf("OpenSIPS: %s", line)
				}
			}
		}
		if t.Failed() {
			t.Logf("the end of OpenSIPS' log:\n%s", o.LogTail())
		}
		o.Stop()
	})
	return o
}

func newOpenSIPSRig(t *testing.T, o rigOptions, c stack.OpenSIPSConfig) *opensipsRig {
	t.Helper()
	if _, _, err := stack.FindOpenSIPS(); err != nil && os.Getenv("SIPWAKE_REQUIRE_ALL") == "" {
		t.Skip(err)
	}
	if o.wake == "" {
		o.wake = "  settle: 1s"
	}
	o.rpc = "  deadline: 10s"
	r := newRig(t, o)
	c.URL = r.url
	k := &opensipsRig{rig: r, opensips: startOpenSIPS(t, c)}
	t.Cleanup(func() { stop(t, r.app) })
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.write("sipwake.yml", strings.NewReplacer(
		"    url: "+r.node.url(), "    type: opensips\n    timeout: 10s\n    url: "+k.opensips.SignalURL(),
		"    team_id:", "    timeout: 15s\n    call_timeout: 15s\n    team_id:").Replace(string(text)))
	r.reload()
	return k
}

// party is one user with phones, and one who calls. Its phones are at one node, who
// calls may be at another.
type party struct {
	*opensipsRig
	phones *stack.OpenSIPS
	t    *testing.T
	ctx  context.Context
	user string
}

func (k *opensipsRig) party(t *testing.T) *party {
	own := *k.rig
	own.t = t
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	p := &party{phones: k.opensips, t: t, ctx: ctx, user: fmt.Sprintf("user%d", k.users.Add(1))}
	p.opensipsRig = &opensipsRig{rig: &own, opensips: k.opensips}
	return p
}

func (p *party) phoneOf(user string, options ...option) *phone.Phone {
	p.t.Helper()
	return p.phoneAt(p.phones, user, options...)
}

func (p *party) phoneAt(at *stack.OpenSIPS, user string, options ...option) *phone.Phone {
	p.t.Helper()
	c := phone.Config{User: user, Domain: domain, Proxy: at.SIPAddress()}
	for _, set := range options {
		set(&c)
	}
	ph, err := phone.New(c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(ph.Close)
	return ph
}

func (p *party) iphone(options ...option) *device {
	p.t.Helper()
	token := apnsToken(0x71000000 + int(time.Now().UnixNano()%0xffffff))
	d := &device{p.phoneOf(p.user, append([]option{params(apnsParams(token))}, options...)...), token}
	if p.apns != nil {
		p.apns.OnDeliver(token, func(payload []byte, _ http.Header) { d.OnPush(payload) })
	}
	return d
}

func (p *party) registered(ph *phone.Phone) {
	p.t.Helper()
	m, err := ph.Register(p.ctx, 600*time.Second)
	if err != nil || m.Code() != 200 {
		p.t.Fatalf("REGISTER: %v, %v", m, err)
	}
}

func (p *party) asleep(devices ...*device) {
	p.t.Helper()
	for _, d := range devices {
		p.registered(d.Phone)
	}
	aor := p.user + "@" + domain
	eventually(p.t, "bindings", func() bool { return p.bindings(aor) >= len(devices) })
	time.Sleep(aged) // sipwake takes a device that has just registered for awake
	for _, d := range devices {
		d.Sleep()
	}
}

func (p *party) calls() *phone.Call {
	p.t.Helper()
	c, err := p.phoneAt(p.opensips, "caller"+p.user).Invite(p.ctx, p.user, phone.InviteOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *party) ends(c *phone.Call, code int, reason string) phone.Result {
	p.t.Helper()
	res, err := c.Final(p.ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	var l struct{ Wakes []timeline }
	if res.Code != code {
		p.call("wake.trace", obj{"call_id": c.CallID()}, &l)
		p.t.Fatalf("the caller got %d, want %d, after %s: %+v", res.Code, code, res.After, l.Wakes)
	}
	if reason != "" {
		eventually(p.t, "told of the end", func() bool {
			p.call("wake.trace", obj{"call_id": c.CallID()}, &l)
			return len(l.Wakes) == 1 && l.Wakes[0].Reason != ""
		})
		if l.Wakes[0].Reason != reason {
			p.t.Errorf("ended as %q, want %q", l.Wakes[0].Reason, reason)
		}
	}
	return res
}

func (p *party) talks(c *phone.Call, callee *phone.Phone) {
	p.t.Helper()
	p.ends(c, 200, "answered")
	in, err := callee.WaitInvite(p.ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := in.Acked(p.ctx); err != nil {
		p.t.Fatal(err)
	}
	if m, err := c.Bye(p.ctx); err != nil || m.Code() != 200 {
		p.t.Errorf("BYE: %v, %v", m, err)
	}
}

func (p *party) rung(ph *phone.Phone, n int) {
	p.t.Helper()
	if got := len(ph.Requests("INVITE")); got != n {
		p.t.Errorf("%d INVITEs reached the phone, want %d: %v", got, n, ph.Events())
	}
}

func TestOpenSIPSCalls(t *testing.T) {
	k := newOpenSIPSRig(t, rigOptions{}, stack.OpenSIPSConfig{Hold: 6 * time.Second})
	for name, f := range map[string]func(*party){
		"a sleeping phone is woken over UDP": func(p *party) {
			d := p.iphone(answers)
			p.asleep(d)
			p.talks(p.calls(), d.Phone)
			p.rung(d.Phone, 1)
		},
		"a sleeping phone is woken over TCP": func(p *party) {
			d := p.iphone(answers, tcp)
			p.asleep(d)
			p.talks(p.calls(), d.Phone)
			p.rung(d.Phone, 1)
		},
		"a live phone rings, a sleeping one is woken": func(p *party) {
			live, d := p.phoneOf(p.user), p.iphone(answers, stubborn)
			p.registered(live)
			p.asleep(d)
			c := p.calls()
			if _, err := live.WaitInvite(p.ctx); err != nil {
				p.t.Fatal(err)
			}
			eventually(p.t, "pushed", func() bool { return p.pushes(d.token) > 0 })
			if _, err := d.Wake(p.ctx); err != nil {
				p.t.Fatal(err)
			}
			p.talks(c, d.Phone)
			if _, err := live.WaitCancel(p.ctx); err != nil {
				p.t.Fatal(err)
			}
			p.rung(live, 1)
			p.rung(d.Phone, 1)
		},
		"the caller hangs up while nobody is awake": func(p *party) {
			d := p.iphone(stubborn)
			p.asleep(d)
			c := p.calls()
			eventually(p.t, "pushed", func() bool { return p.pushes(d.token) > 0 })
			if m, err := c.Cancel(p.ctx); err != nil || m.Code() != 200 {
				p.t.Errorf("CANCEL: %v, %v", m, err)
			}
			p.ends(c, 487, "cancelled")
		},
		"nobody comes back": func(p *party) {
			p.asleep(p.iphone(stubborn))
			if res := p.ends(p.calls(), 480, "timeout"); res.After < 5*time.Second {
				p.t.Errorf("after %s", res.After)
			}
		},
		"the same Contact on a new TCP connection": func(p *party) {
			d := p.iphone(answers, tcp, stubborn, func(c *phone.Config) {
				c.Contact = "<sip:" + p.user + "@10.9.8.7:5060;transport=tcp" + c.ContactParams + ">"
			})
			p.asleep(d)
			c := p.calls()
			eventually(p.t, "pushed", func() bool { return p.pushes(d.token) > 0 })
			for range 3 {
				if _, err := d.Wake(p.ctx); err != nil {
					p.t.Fatal(err)
				}
			}
			p.talks(c, d.Phone)
			p.rung(d.Phone, 1)
		},
		"patterns for a user": func(p *party) {
			d := p.iphone(stubborn)
			p.asleep(d)
			// 404 is sipwake.cfg's word; OpenSIPS itself takes none with brackets.
			for user, code := range map[string]int{"*": 404, "user?": 404, "[a-z]*": 405, "us[e]r1": 405} {
				c, err := p.phoneAt(p.opensips, "eve").Invite(p.ctx, user, phone.InviteOptions{})
				if err != nil {
					p.t.Fatal(err)
				}
				p.ends(c, code, "")
			}
			if _, err := d.Wake(p.ctx); err != nil {
				p.t.Fatal(err)
			}
			p.rung(d.Phone, 0)
		},
		"every token is dead": func(p *party) {
			d := p.iphone()
			p.asleep(d)
			p.apns.Behave(d.token, apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour)})
			if res := p.ends(p.calls(), 480, ""); res.After > 10*time.Second {
				p.t.Errorf("the caller waited %s", res.After)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(k.party(t))
		})
	}
}

// Without a sipwake registrations are stored and phones are rung, those that sleep
// too.
func TestOpenSIPSBackendDown(t *testing.T) {
	k := &opensipsRig{rig: &rig{t: t}, opensips: startOpenSIPS(t, stack.OpenSIPSConfig{URL: "http://127.0.0.1:1/rpc"})}
	for name, transport := range map[string]option{"UDP": func(*phone.Config) {}, "TCP": tcp} {
		t.Run(name, func(t *testing.T) {
			p := k.party(t)
			live, d := p.phoneOf(p.user), p.iphone(answers, transport)
			p.registered(live)
			p.registered(d.Phone)
			c := p.calls()
			p.ends(c, 200, "")
			if _, err := live.WaitInvite(p.ctx); err != nil {
				t.Error(err)
			}
			p.rung(d.Phone, 1)
		})
	}
}

// A phone registers at one node, the call is held at another; they share nothing.
func TestOpenSIPSTwoNodes(t *testing.T) {
	// A peer is known by its address.
	k := newOpenSIPSRig(t, rigOptions{}, stack.OpenSIPSConfig{Hold: 30 * time.Second})
	edge := startOpenSIPS(t, stack.OpenSIPSConfig{Node: "edge2", URL: k.url, Address: "127.0.0.2",
		Settings: map[string]string{"sip_peer": "s:127.0.0.1"}})
	text, err := os.ReadFile(k.file)
	if err != nil {
		t.Fatal(err)
	}
	k.write("sipwake.yml", strings.Replace(string(text), "apns:\n", fmt.Sprintf(
		"  - {id: edge2, type: opensips, url: %q, sip: \"sip:%s\"}\napns:\n", edge.SignalURL(), edge.SIPAddress()), 1))
	k.reload()
	for name, transport := range map[string]option{"UDP": func(*phone.Config) {}, "TCP": tcp} {
		t.Run(name, func(t *testing.T) {
			p := k.party(t)
			p.phones = edge
			d := p.iphone(answers, transport)
			p.asleep(d)
			p.talks(p.calls(), d.Phone)
			p.rung(d.Phone, 1)
		})
	}
}

// OpenSIPS holds the call by itself (pn_enable), sipwake pushes.
func TestOpenSIPSOwnPush(t *testing.T) {
	script, err := cfg.Files.ReadFile("pn_enable.cfg")
	if err != nil {
		t.Fatal(err)
	}
	k := newOpenSIPSRig(t, rigOptions{}, stack.OpenSIPSConfig{Script: string(script), Settings: map[string]string{"sipwake_domain": "s:" + domain}})
	p := k.party(t)
	d := p.iphone(stubborn, answers)
	p.asleep(d)
	c := p.calls()
	eventually(t, "pushed", func() bool { return p.pushes(d.token) == 1 })
	if m, err := d.Wake(p.ctx); err != nil || m.Code() != 200 {
		t.Fatalf("REGISTER: %v, %v", m, err)
	}
	p.talks(c, d.Phone)
	p.rung(d.Phone, 1)
	if got := d.Requests("INVITE")[0].Raw; strings.Contains(got, "pn-") {
		t.Errorf("push parameters in\n%s", got)
	}
}
