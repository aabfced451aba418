package tests

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
	pbx *stack.Kamailio
	dir string
}

func (g *gatewayProxy) Stop() {
	g.Kamailio.Stop()
	g.pbx.Stop()
	_ = os.RemoveAll(g.dir)
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
	list := filepath.Join(dir, "dispatcher.list")
	if err := os.WriteFile(list, fmt.Appendf(nil, "1 sip:%s\n", pbx.SIPAddress()), 0o600); err != nil {
		return nil, err
	}
	all := kamailioDefines(c)
	all["GW_LIST"], all["GW_PING_S"] = stack.Quote(list), "1"
	for _, d := range defines {
		name, value, _ := strings.Cut(d, "=")
		all[name] = value
	}
	k, err := stack.StartKamailio(ctx, stack.KamailioConfig{Node: nodeID, Secret: nodeSecret, URL: c.URL, Hold: c.Hold,
		ChatHold: c.ChatHold, Defines: all, Script: string(script)})
	if err != nil {
		pbx.Stop()
		return nil, err
	}
	return &gatewayProxy{k, pbx, dir}, nil
}
