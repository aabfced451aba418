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

// proxyKind is a kind of SIP proxy that the demo can run on.
type proxyKind struct {
	node  string // --proxy, and the type of a node in sipwake's configuration
	title string
	// start starts one as demoNode that asks the sipwake at rpc and takes signals that
	// show demoSecret; SIP is on the port, or on a free one if it is 0.
	start func(ctx context.Context, rpc string, port int) (proxy, error)
	// pbx: what it calls is another call, with a Call-ID of its own.
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

// inFrontOf returns Kamailio as a push gateway in front of a PBX: "asterisk" is the one there
// is.
func inFrontOf(pbx string) (proxyKind, error) {
	if pbx != "asterisk" {
		return proxyKind{}, fmt.Errorf("no PBX %q, there is: asterisk", pbx)
	}
	return proxyKind{node: "kamailio", title: "an Asterisk that knows nothing of push, Kamailio as its gateway", start: startGateway, pbx: true}, nil
}

// gatewayProxy is a gateway, and the PBX that ends with it.
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
	// A gateway knows the PBX by its address, which is not that of the phones.
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
		return nil, err // not k: a nil of its type is a proxy
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
