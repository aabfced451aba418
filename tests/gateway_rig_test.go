package tests

import (
	"context"
	_ "embed"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/kamailio/cfg"
)

// pbxScript is a PBX with digest that knows nothing of push: a Kamailio too.
//
//go:embed testdata/pbx.cfg
var pbxScript string

func showsPassword(c *phone.Config) { c.Password = passwordOf(c.User) }

// pbxAddress is another one than that of the phones: a gateway knows a PBX by it.
const pbxAddress = "127.0.0.2"

// gateway returns Kamailio with gateway.cfg, in front of a PBX where callers are.
func gateway(defines ...string) proxyKind {
	kind := kamailio()
	kind.name = "gateway"
	kind.ownContact = true
	kind.cannot = map[string]string{"calls: nobody has a phone": "the PBX answers for a user who is not registered"}
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) { return startGateway(ctx, c, defines) }
	return kind
}

type gatewayProxy struct {
	*stack.Kamailio
	config stack.KamailioConfig
	pbx    *stack.Kamailio
}

// PBX returns the PBX behind the gateway.
func (g *gatewayProxy) PBX() *stack.Kamailio { return g.pbx }

func (g *gatewayProxy) Stop() {
	g.Kamailio.Stop()
	g.pbx.Stop()
}

// restart starts the gateway again, where it was.
func (g *gatewayProxy) restart(s *scenario) {
	s.t.Helper()
	g.config.SIPPort = portOf(s.t, g.SIPAddress())
	g.Kamailio.Stop()
	k, err := stack.StartKamailio(s.ctx, g.config)
	if err != nil {
		s.t.Fatal(err)
	}
	g.Kamailio = k
}

// restartPBX starts a PBX that knows of no registration in the place of the one there
// was.
func (g *gatewayProxy) restartPBX(s *scenario) {
	s.t.Helper()
	g.pbx.Stop()
	pbx, err := stack.StartKamailio(s.ctx, stack.KamailioConfig{Node: "pbx", Address: pbxAddress,
		SIPPort: portOf(s.t, g.pbx.SIPAddress()), Script: pbxScript})
	if err != nil {
		s.t.Fatal(err)
	}
	g.pbx = pbx
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return int(a.Port())
}

func startGateway(ctx context.Context, c proxyConfig, defines []string) (proxy, error) {
	pbx, err := stack.StartKamailio(ctx, stack.KamailioConfig{Node: "pbx", Address: pbxAddress, Script: pbxScript})
	if err != nil {
		return nil, err
	}
	all := kamailioDefines(c)
	all["GW_PING_S"] = "1"
	var pbxs []string
	memory := 0
	for _, d := range defines {
		name, value, _ := strings.Cut(d, "=")
		if name == "PBX" { // one more, which is tried first
			pbxs = append(pbxs, value)
			continue
		}
		if name == "MEMORY" {
			if memory, err = strconv.Atoi(value); err != nil {
				return nil, err
			}
			continue
		}
		all[name] = value
	}
	script, err := cfg.Files.ReadFile("gateway.cfg")
	if err != nil {
		return nil, err
	}
	config := stack.KamailioConfig{Node: nodeID, Secret: nodeSecret, URL: c.URL, Hold: c.Hold, ChatHold: c.ChatHold,
		Defines: all, PBXs: append(pbxs, pbx.SIPAddress()), Memory: memory}
	if all["GW_SETS_HOOK"] != "" {
		config.Script = string(script) + "route[SETS] {\n\t$sht(gwset=>branch) = 2;\n}\n"
	}
	k, err := stack.StartKamailio(ctx, config)
	if err != nil {
		pbx.Stop()
		return nil, err
	}
	return &gatewayProxy{k, config, pbx}, nil
}
