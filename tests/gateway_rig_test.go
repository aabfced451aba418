package tests

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
	"github.com/sipwake/sipwake/kamailio/cfg"
)

// pbxScript is a PBX with digest that knows nothing of push: a Kamailio too.
//
//go:embed testdata/pbx.cfg
var pbxScript string

// passwordOf is the password that a user has at that PBX.
func passwordOf(user string) string { return "pw-" + user }

// pbxAddress is another one than that of the phones: a gateway knows a PBX by it.
const pbxAddress = "127.0.0.2"

// gateway is Kamailio with gateway.cfg, in front of a PBX where callers are.
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
	dir    string
}

func (g *gatewayProxy) Stop() {
	g.Kamailio.Stop()
	g.pbx.Stop()
	_ = os.RemoveAll(g.dir)
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
	script, err := cfg.Files.ReadFile("gateway.cfg")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		return nil, err
	}
	pbx, err := stack.StartKamailio(ctx, stack.KamailioConfig{Node: "pbx", Address: pbxAddress, Script: pbxScript})
	if err != nil {
		return nil, err
	}
	list, text := filepath.Join(dir, "dispatcher.list"), fmt.Sprintf("1 sip:%s\n", pbx.SIPAddress())
	all := kamailioDefines(c)
	all["GW_LIST"], all["GW_PING_S"] = stack.Quote(list), "1"
	for _, d := range defines {
		name, value, _ := strings.Cut(d, "=")
		if name == "PBX" { // one more, which is tried first
			text = fmt.Sprintf("1 sip:%s 0 10\n", value) + text
			continue
		}
		all[name] = value
	}
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		return nil, err
	}
	config := stack.KamailioConfig{Node: nodeID, Secret: nodeSecret, URL: c.URL, Hold: c.Hold, ChatHold: c.ChatHold,
		Defines: all, Script: string(script)}
	k, err := stack.StartKamailio(ctx, config)
	if err != nil {
		pbx.Stop()
		return nil, err
	}
	return &gatewayProxy{k, config, pbx, dir}, nil
}
