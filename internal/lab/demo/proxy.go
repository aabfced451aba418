package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// demoHold is how long the demo's proxy holds a call.
const demoHold = 10 * time.Second

// proxy is a running SIP proxy.
type proxy interface {
	logged
	stack.Stopper
	SIPAddress() string // host:port for SIP over UDP and TCP
	SignalURL() string  // where it takes sipwake's signals
}

// proxyKind is a kind of SIP proxy for the demo.
type proxyKind struct {
	node  string // --proxy, and the type of a node in sipwake's configuration
	title string
	// start starts the proxy as demoNode. It calls the sipwake at rpc and accepts signals
	// with demoSecret. SIP is on the port, or on a free one if it is 0.
	start func(ctx context.Context, rpc string, port int) (proxy, error)
	// pbx: calls to phones are separate calls with another Call-ID.
	pbx bool
}

func proxyKinds() []proxyKind {
	return []proxyKind{{node: "kamailio", title: "Kamailio", start: startKamailio}, {node: "opensips", title: "OpenSIPS", start: startOpenSIPS}}
}

func proxyNamed(name string) (proxyKind, error) {
	var known []string
	for _, kind := range proxyKinds() {
		if kind.node == name {
			return kind, nil
		}
		known = append(known, kind.node)
	}
	return proxyKind{}, fmt.Errorf("no SIP proxy %q, there is: %s", name, strings.Join(known, ", "))
}

// inFrontOf returns Kamailio as a push gateway in front of a PBX; only "asterisk" is
// supported.
func inFrontOf(pbx string) (proxyKind, error) {
	if pbx != "asterisk" {
		return proxyKind{}, fmt.Errorf("no PBX %q, there is: asterisk", pbx)
	}
	return proxyKind{node: "kamailio", title: "an Asterisk that knows nothing of push, Kamailio as its gateway", start: startGateway, pbx: true}, nil
}

// gatewayProxy is a gateway with its PBX.
type gatewayProxy struct {
	*stack.Kamailio
	pbx *stack.Asterisk
}

func (g gatewayProxy) Stop() {
	g.Kamailio.Stop()
	g.pbx.Stop()
}

func startGateway(ctx context.Context, rpc string, port int) (proxy, error) {
	users := map[string]string{demoCaller: demoPassword(demoCaller)}
	for _, sc := range scenes() {
		users[sc.user] = demoPassword(sc.user)
	}
	// A gateway recognises the PBX by its address, which must differ from the phones'.
	pbx, err := stack.StartAsterisk(ctx, stack.AsteriskConfig{Address: "127.0.0.2", Users: users})
	if err != nil {
		return nil, err
	}
	k, err := stack.StartKamailio(ctx, stack.KamailioConfig{Node: demoNode, URL: rpc, SIPPort: port, Secret: demoSecret, Hold: demoHold,
		PBXs: []string{pbx.SIPAddress()}})
	if err != nil {
		pbx.Stop()
		return nil, err
	}
	return gatewayProxy{k, pbx}, nil
}

func startKamailio(ctx context.Context, rpc string, port int) (proxy, error) {
	k, err := stack.StartKamailio(ctx, stack.KamailioConfig{Node: demoNode, URL: rpc, SIPPort: port, Secret: demoSecret, Hold: demoHold})
	if err != nil {
		return nil, err // not k: a nil *Kamailio in the interface is not nil
	}
	return k, nil
}

func startOpenSIPS(ctx context.Context, rpc string, port int) (proxy, error) {
	o, err := stack.StartOpenSIPS(ctx, stack.OpenSIPSConfig{Node: demoNode, URL: rpc, SIPPort: port, Hold: demoHold})
	if err != nil {
		return nil, err
	}
	return o, nil
}
