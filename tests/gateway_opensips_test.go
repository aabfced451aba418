package tests

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
	proxynode "github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/upper"
	opensipsnode "github.com/sipwake/sipwake/opensips"
	"github.com/sipwake/sipwake/opensips/cfg"
)

// OpenSIPS with gateway.cfg, in front of a Kamailio as PBX.

func TestOpenSIPSGatewayCalls(t *testing.T) {
	t.Parallel()
	callTable().run(t, openSIPSGateway())
}

func TestOpenSIPSGatewayRegistrations(t *testing.T) {
	t.Parallel()
	registrationTable().run(t, openSIPSGateway())
}

func TestOpenSIPSGatewayAsksFirst(t *testing.T) {
	t.Parallel()
	askFirstTable().run(t, openSIPSGateway())
}

func TestOpenSIPSGatewayHoldTime(t *testing.T) {
	t.Parallel()
	holdTimeTable().run(t, openSIPSGateway())
}

func TestOpenSIPSGatewayMessages(t *testing.T) {
	t.Parallel()
	messageTable().run(t, openSIPSGateway())
}

func TestOpenSIPSGatewayHostile(t *testing.T) {
	t.Parallel()
	hostile(t, openSIPSGateway())
}

func TestOpenSIPSGatewayRaces(t *testing.T) {
	t.Parallel()
	races(t, openSIPSGateway())
}

func openSIPSGateway(settings ...string) proxyKind {
	kind := openSIPS()
	kind.name = "OpenSIPS gateway"
	kind.cannot["calls: nobody has a phone"] = "the PBX answers for a user who is not registered"
	kind.cannot["hold time: nobody comes for a message"] = "OpenSIPS answers after 31 s, when the PBX has given up"
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) { return startOpenSIPSGateway(ctx, c, settings) }
	return kind
}

type openSIPSGatewayProxy struct {
	*stack.OpenSIPS
	pbx   *stack.Kamailio
	again func() (proxy, error) // at the same ports
}

// restart starts the gateway again, where it was.
func (g *openSIPSGatewayProxy) restart(s *scenario) {
	s.t.Helper()
	g.OpenSIPS.Stop()
	g.OpenSIPS = must(g.again())(s).(*stack.OpenSIPS)
}

// PBX returns the PBX behind the gateway.
func (g *openSIPSGatewayProxy) PBX() *stack.Kamailio { return g.pbx }

func (g *openSIPSGatewayProxy) Stop() {
	g.OpenSIPS.Stop()
	g.pbx.Stop()
}

func startOpenSIPSGateway(ctx context.Context, c proxyConfig, settings []string) (proxy, error) {
	pbx, err := stack.StartKamailio(ctx, stack.KamailioConfig{Node: "pbx", Address: pbxAddress, Script: pbxScript})
	if err != nil {
		return nil, err
	}
	again, err := openSIPSBefore(ctx, c, pbx.SIPAddress(), settings)
	if err == nil {
		var p proxy
		if p, err = again(); err == nil {
			return &openSIPSGatewayProxy{p.(*stack.OpenSIPS), pbx, again}, nil
		}
	}
	pbx.Stop()
	return nil, err
}

// openSIPSBefore returns what starts a gateway in front of a PBX, each time at the same
// ports. Settings are names and values.
func openSIPSBefore(ctx context.Context, c proxyConfig, pbx string, settings []string) (start func() (proxy, error), err error) {
	script, err := cfg.Files.ReadFile("gateway.cfg")
	if err != nil {
		return nil, err
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = stack.FreePort("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	own := map[string]string{"gw_pbx": "s:" + pbx, "sipwake_trunk": "s:" + pbxAddress, "gw_host": "s:127.0.0.1:" + strconv.Itoa(ports[0])}
	for i := 0; i+1 < len(settings); i += 2 {
		own[settings[i]] = settings[i+1]
	}
	ctx = context.WithoutCancel(ctx)
	return func() (proxy, error) {
		return openSIPSNode(ctx, c, stack.OpenSIPSConfig{Script: string(script), SIPPort: ports[0], MIPort: ports[1], Settings: own})
	}, nil
}

func openSIPSGatewayScenario(t *testing.T, o rigOptions, settings ...string) (*scenario, *gatewayProxy) {
	t.Helper()
	tb := table{name: "gateway", sipwake: o, proxy: proxyConfig{Hold: 30 * time.Second}}
	s := tb.start(t, openSIPSGateway(settings...)).scenario(t)
	return s, &gatewayProxy{pbx: s.proxy.(*openSIPSGatewayProxy).pbx}
}

// TestOpenSIPSGatewayRegisters: what the PBX sees of two phones of a user, and what they
// hear.
func TestOpenSIPSGatewayRegisters(t *testing.T) {
	t.Parallel()
	s, g := openSIPSGatewayScenario(t, rigOptions{})
	d := s.iphone(tcp, header("X-PIID", "0123456789abcdef0123456789abcdef"))
	m := must(d.Register(s.ctx, 10*time.Minute))(s)
	if n := expiryTold(s, m); n != 600 {
		t.Errorf("the phone was told %d s, not what it asked", n)
	}
	if strings.Contains(m.Header("Contact"), "swup") {
		t.Errorf("Contact of the 200: %q", m.Header("Contact"))
	}
	uri, expires := g.theContact(s)
	if expires < 7000 || !strings.HasPrefix(uri, "sip:"+s.user+"@"+s.proxy.SIPAddress()+";swup=") {
		t.Errorf("the PBX has %s for %d s", uri, expires)
	}
	s.registered(s.android().Phone)
	if again, _ := g.theContact(s); again != uri {
		t.Errorf("the PBX has %s and %s for two phones", uri, again)
	}
	eventually(t, "both are bound", func() bool { return s.bindings(s.aor()) == 2 })
	g.forgets(s)
}

// forgets waits until the gateway keeps nothing any more of REGISTERs at the PBX.
func (g *gatewayProxy) forgets(s *scenario) {
	s.t.Helper()
	node := s.proxy.(*openSIPSGatewayProxy)
	var kept []string
	defer func() {
		if len(kept) > 0 {
			s.t.Logf("it keeps %q", kept)
		}
	}()
	eventually(s.t, "nothing is kept", func() bool {
		var res struct{ Keys []struct{ Name string } }
		if err := json.Unmarshal([]byte(must(node.Command(s.ctx, "cache_fetch_chunk", "glob=gw_*"))(s)), &res); err != nil {
			s.t.Fatal(err)
		}
		kept = nil
		for _, k := range res.Keys {
			if !strings.HasPrefix(k.Name, "gw_up_") { // that a user is registered, for a minute
				kept = append(kept, k.Name)
			}
		}
		return len(kept) == 0
	})
}

// TestOpenSIPSGatewayKeepsAlive: with the app's HA1, the registration at the PBX outlives the
// expiry that the PBX granted. If the PBX does not answer, sipwake tries again; if it
// refuses the password, sipwake reports it.
func TestOpenSIPSGatewayKeepsAlive(t *testing.T) {
	t.Parallel()
	s, g := openSIPSGatewayScenario(t, rigOptions{more: upperSection(t, "  retry: 1s")}, "gw_expires", "i:4")
	d := s.iphone(answers, withHA1(s.user))
	s.asleep(d)
	u, ok := s.upper()
	if !ok || u.State != "ok" || u.Granted != 4 || u.Server != "sip:"+g.pbx.SIPAddress() {
		t.Fatalf("registration: %+v", u)
	}
	uri, _ := g.theContact(s)
	s.refreshed(u.LastOK)
	s.refreshed(u.LastOK.Add(4 * time.Second))
	if again, _ := g.theContact(s); again != uri {
		t.Errorf("the PBX had %s and has %s", uri, again)
	}
	s.calls().talks(d.Phone)
	s.falls(d)

	g.silent(s, true)
	eventually(t, "the PBX forgets", func() bool {
		u, ok := s.upper()
		return ok && u.State == "retrying" && u.Why == "the PBX said 408" && len(g.atPBX(s, s.user)) == 0
	})
	then := time.Now()
	g.silent(s, false)
	s.refreshed(then)
	s.calls().talks(d.Phone)
	s.falls(d)

	if out, err := g.pbx.Command(s.ctx, "htable.sets", "password", s.user, "another"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	eventually(t, "it fails", func() bool {
		u, ok := s.upper()
		return ok && u.State == "failed" && u.Why == "the PBX refuses the password"
	})
	g.forgets(s)
}

// TestOpenSIPSGatewayUpperEnds: it ends at the PBX by an operator's word.
func TestOpenSIPSGatewayUpperEnds(t *testing.T) {
	t.Parallel()
	s, g := openSIPSGatewayScenario(t, rigOptions{more: upperSection(t, "")}, "gw_expires", "i:60")
	s.asleep(s.iphone(withHA1(s.user)))
	s.call("upper.remove", obj{"aor": s.aor()}, nil)
	eventually(t, "it is gone", func() bool {
		_, ok := s.upper()
		return !ok && len(g.atPBX(s, s.user)) == 0
	})
}

// TestOpenSIPSGatewayWrongPassword: the phone hears it, nothing is stored, and too many in
// a row remove the binding.
func TestOpenSIPSGatewayWrongPassword(t *testing.T) {
	t.Parallel()
	s, g := openSIPSGatewayScenario(t, rigOptions{wake: "  remove: {register_rejected: 2}"})
	refusals(s, g)
	g.forgets(s)
}

// TestOpenSIPSGatewayPhonesCall: the PBX authenticates calls of phones, and wakes whom they
// call; keep-alives of the PBX are answered.
func TestOpenSIPSGatewayPhonesCall(t *testing.T) {
	t.Parallel()
	s, g := openSIPSGatewayScenario(t, rigOptions{})
	phonesCall(s, g)
	s.nextUser()
	s.asleep(s.iphone())
	options(s, g, s.proxy.SIPAddress())
}

// TestOpenSIPSGatewayUnregisters: the registration at the PBX outlives that of the phone.
func TestOpenSIPSGatewayUnregisters(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"2", "1"} {
		s, g := openSIPSGatewayScenario(t, rigOptions{}, "gw_unreg", "i:"+mode)
		unregistersAt(s, g, mode, 1)
	}
}

// TestOpenSIPSGatewayPBXAway: a PBX that is away is said to be so. After a restart of the
// gateway phones are woken though it has forgotten all of them.
func TestOpenSIPSGatewayPBXAway(t *testing.T) {
	t.Parallel()
	s, g := openSIPSGatewayScenario(t, rigOptions{})
	d := s.iphone(answers)
	s.asleep(d)
	g.silent(s, true)
	if m := must(s.phoneOf("other").Register(s.ctx, time.Minute))(s); m.Code() != 503 {
		t.Errorf("REGISTER while the PBX is away got %d", m.Code())
	}
	g.forgets(s)
	g.silent(s, false)
	s.proxy.(*openSIPSGatewayProxy).restart(s)
	s.calls().talks(d.Phone)
}

func TestOpenSIPSGatewayPrivateAddress(t *testing.T) {
	t.Parallel()
	s, _ := openSIPSGatewayScenario(t, rigOptions{})
	privateAddress(s)
}

// TestOpenSIPSNoGateway: an OpenSIPS with another script says that it is none.
func TestOpenSIPSNoGateway(t *testing.T) {
	t.Parallel()
	tb := table{name: "no gateway", proxy: proxyConfig{Hold: 30 * time.Second}}
	s := tb.start(t, openSIPS()).scenario(t)
	n := must(opensipsnode.New(nodeID, proxynode.Config{URL: strings.TrimSuffix(s.proxy.SignalURL(), "/mi"), Timeout: 10 * time.Second, Connections: 1}, nil,
		slog.New(slog.DiscardHandler)))(s)
	defer n.Close()
	if err := n.RegisterUpper(s.ctx, upper.Request{Node: nodeID, Contact: "sip:x@127.0.0.1"}); !errors.Is(err, upper.ErrRefused) {
		t.Error(err)
	}
}
