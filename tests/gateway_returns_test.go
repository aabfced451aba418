package tests

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
	proxynode "github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/upper"
	kamailionode "github.com/sipwake/sipwake/kamailio"
)

// What the PBX has lost it gets again, and what a node cannot do another one does.

// goes stops the PBX, and waits until the gateway has missed it.
func (g *gatewayProxy) goes(s *scenario) {
	s.t.Helper()
	g.pbx.Stop()
	g.misses(s)
}

// misses waits until the gateway has seen that the PBX is gone.
func (g *gatewayProxy) misses(s *scenario) {
	s.t.Helper()
	eventually(s.t, "the gateway misses the PBX", func() bool {
		text, err := g.Command(s.ctx, "dispatcher.list")
		return err == nil && strings.Contains(text, "FLAGS: IP")
	})
}

// TestGatewayPBXReturns: a PBX that was away and has lost its registrations has them again
// within seconds, long before they are due, and not all at once; also when sipwake was
// away just then.
func TestGatewayPBXReturns(t *testing.T) {
	t.Parallel()
	f := func(sipwakeAway bool) {
		t.Helper()
		s, g := upperScenario(t, "  rate: 4", "GW_EXPIRES=3600", "GW_FR_MS=300")
		const users = 6
		var devices []*device
		var aors []string
		for range users {
			d := s.iphone(answers, withHA1(s.user))
			s.asleep(d)
			devices, aors = append(devices, d), append(aors, s.user)
			s.nextUser()
		}
		g.goes(s)
		listen := strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/rpc")
		if sipwakeAway {
			stop(t, s.app)
		}
		then := time.Now()
		g.restartPBX(s)
		if sipwakeAway {
			eventually(t, "the gateway sees that the PBX is back", func() bool {
				text, err := g.Command(s.ctx, "htable.dump", "gwback")
				return err == nil && strings.Contains(text, g.pbx.SIPAddress())
			})
			s.edit("rpc:\n  listen: 127.0.0.1:0", "rpc:\n  listen: "+listen)
			s.start()
		}
		var at []time.Time
		for _, user := range aors {
			s.user = user
			s.refreshed(then)
			u, _ := s.upper()
			at = append(at, u.LastOK)
			if n := len(g.atPBX(s, user)); n != 1 {
				t.Errorf("the PBX has %d contacts of %s", n, user)
			}
		}
		// Two in a second: half of the rate.
		if spread := slices.MaxFunc(at, time.Time.Compare).Sub(slices.MinFunc(at, time.Time.Compare)); spread < time.Second {
			t.Errorf("%d registrations were refreshed within %s", users, spread)
		}
		eventually(t, "the gateway has told it", func() bool {
			text, err := g.Command(s.ctx, "htable.dump", "gwback")
			return err == nil && !strings.Contains(text, g.pbx.SIPAddress())
		})
		s.user = aors[0]
		s.calls().talks(devices[0].Phone)
	}
	f(false)
	f(true)
}

// TestGatewayNodeDies: of two nodes one is killed. The other one refreshes what the first
// had, the PBX calls through it, and phones register there.
func TestGatewayNodeDies(t *testing.T) {
	t.Parallel()
	s, g := upperScenario(t, "")
	d := s.iphone(answers, withHA1(s.user))
	s.asleep(d)
	config := g.config
	config.Node = "edge2"
	second := must(stack.StartKamailio(s.ctx, config))(s)
	first := g.Kamailio
	t.Cleanup(first.Stop)
	g.Kamailio = second // that the rest of the test is with
	s.edit("nodes:\n", "nodes:\n  - {id: edge2, url: "+second.SignalURL()+", secret_file: "+s.write("edge2.secret", nodeSecret)+"}\n")
	s.reload()
	if u, _ := s.upper(); u.Node != nodeID {
		t.Fatalf("registered through %s", u.Node)
	}
	first.Kill()
	s.refreshed(time.Now())
	eventually(t, "the PBX knows the contact at the other node alone", func() bool {
		found := g.atPBX(s, s.user)
		for uri := range found {
			if !strings.HasPrefix(uri, "sip:"+s.user+"@"+second.SIPAddress()) {
				return false
			}
		}
		return len(found) == 1
	})
	if u, _ := s.upper(); u.Node != "edge2" {
		t.Errorf("said to be registered through %s", u.Node)
	}
	again := &device{s.phone(answers, params(apnsParams(d.token)), withHA1(s.user)), d.token}
	s.deliverAPNs(again)
	s.calls().talks(again.Phone)
}

// TestGatewayWhichPBX: a refresh goes to the first PBX that lives of the set that the
// registration is of, which may have a PBX in common with another one; what answers a
// challenge goes to the PBX that asked.
func TestGatewayWhichPBX(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{}, "GW_PING_S=0")
	other := must(stack.StartKamailio(s.ctx, stack.KamailioConfig{Node: "pbx", Address: "127.0.0.3", Script: pbxScript}))(s)
	t.Cleanup(other.Stop)
	shared := g.pbx.SIPAddress()
	g.config.PBXs = []string{"1 " + shared, "2 " + other.SIPAddress(), "2 " + shared}
	g.restart(s)
	n := must(kamailionode.New(nodeID, proxynode.Config{URL: g.SignalURL(), Secret: secret.NewText(nodeSecret), Timeout: 10 * time.Second, Connections: 1},
		nil, slog.New(slog.DiscardHandler)))(s)
	defer n.Close()
	branch := *g
	branch.pbx = other
	cseq := uint32(0)
	f := func(server string, set int, authorization string, atShared, atOther int) {
		t.Helper()
		s.nextUser()
		cseq++
		r := upper.Request{Key: "r1-4", AOR: s.aor(), URI: "sip:" + domain, To: "sip:" + s.aor(), CallID: "upper" + s.user, CSeq: cseq, Expires: 60,
			Server: "sip:" + server, Set: set, Authorization: authorization}
		if err := n.RegisterUpper(s.ctx, r); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is asked", func() bool { return g.asked(s, s.user)+branch.asked(s, s.user) == 1 })
		if a, b := g.asked(s, s.user), branch.asked(s, s.user); a != atShared || b != atOther {
			t.Errorf("%s of set %d: %d and %d requests, want %d and %d", server, set, a, b, atShared, atOther)
		}
	}
	f(shared, 1, "", 1, 0)
	f(shared, 2, "", 0, 1)
	f(other.SIPAddress(), 0, "", 0, 1)
	f("192.0.2.1:5060", 2, "", 0, 1) // the PBX has moved
	f(shared, 2, `Digest username="x"`, 1, 0)
}

// TestGatewayReturnedIsChecked: only a configured node can report a PBX.
func TestGatewayReturnedIsChecked(t *testing.T) {
	t.Parallel()
	s, g := upperScenario(t, "", "GW_EXPIRES=3600")
	s.asleep(s.iphone(withHA1(s.user)))
	u, _ := s.upper()
	f := func(node, server string, code int) {
		t.Helper()
		got := 0
		if e := s.try("upper.returned", obj{"node": node, "server": server}, nil); e != nil {
			got = e.Code
		}
		if got != code {
			t.Errorf("%q of %q: error %d, want %d", server, node, got, code)
		}
	}
	server := "sip:" + g.pbx.SIPAddress()
	f("stranger", server, -32602)
	f("", server, -32602)
	f(nodeID, "", -32602)
	f(nodeID, strings.Repeat("x", 600), -32602)
	f(nodeID, "sip:192.0.2.1", 0) // nobody is there
	f(nodeID, server, 0)
	s.refreshed(u.LastOK)
}
