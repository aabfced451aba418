package tests

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
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

func TestOpenSIPSGatewayMessages(t *testing.T) {
	t.Parallel()
	messageTable().run(t, openSIPSGateway())
}

func openSIPSGateway(settings ...string) proxyKind {
	kind := openSIPS()
	kind.name = "OpenSIPS gateway"
	kind.cannot["calls: nobody has a phone"] = "the PBX answers for a user who is not registered"
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) { return startOpenSIPSGateway(ctx, c, settings) }
	return kind
}

type openSIPSGatewayProxy struct {
	*stack.OpenSIPS
	pbx *stack.Kamailio
}

// PBX is what is behind it.
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
	script, err := cfg.Files.ReadFile("gateway.cfg")
	if err != nil {
		return nil, err
	}
	port, err := stack.FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	own := map[string]string{"gw_pbx": "s:" + pbx.SIPAddress(), "sipwake_trunk": "s:" + pbxAddress, "gw_host": "s:127.0.0.1:" + strconv.Itoa(port)}
	for i := 0; i+1 < len(settings); i += 2 {
		own[settings[i]] = settings[i+1]
	}
	p, err := openSIPSNode(ctx, c, stack.OpenSIPSConfig{Script: string(script), SIPPort: port, Settings: own})
	if err != nil {
		pbx.Stop()
		return nil, err
	}
	return &openSIPSGatewayProxy{p.(*stack.OpenSIPS), pbx}, nil
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
}
