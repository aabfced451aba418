package tests

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// A Kamailio and an OpenSIPS with one sipwake: the phone registers at one, the call is
// held at the other. They share no location; sipwake's signal says which way to go.
func TestOpenSIPSMixed(t *testing.T) {
	t.Parallel()
	kamailio().found(t)
	openSIPS().found(t)
	const here, there = "127.0.0.2", "127.0.0.3"
	r := newRig(t, rigOptions{wake: "  linger: 1s", rpc: "  deadline: 10s"})
	asKamailio, asOpenSIPS := kamailio(), openSIPS()
	asKamailio.start = func(ctx context.Context, c proxyConfig) (proxy, error) {
		return stack.StartKamailio(ctx, stack.KamailioConfig{Node: clusterNodes[0], Secret: secretOf(clusterNodes[0]), URL: c.URL, Address: here,
			Hold: c.Hold, Defines: map[string]string{"SIPWAKE_AWAKE_S": "0", "SIPWAKE_RPC_MS": "10000", "SIPWAKE_FAR": "", "SIPWAKE_METHODS": stack.Quote("OPTIONS"), "SIP_PEERS": stack.Quote(there + "/32")}})
	}
	asOpenSIPS.start = func(ctx context.Context, c proxyConfig) (proxy, error) {
		return openSIPSNode(ctx, c, stack.OpenSIPSConfig{Node: clusterNodes[1], Address: there, Settings: map[string]string{"sip_peer": "s:" + here, "sipwake_methods": "s:OPTIONS"}})
	}
	c := proxyConfig{URL: r.url, Hold: 30 * time.Second}
	k, o := asKamailio.run(t, c), asOpenSIPS.run(t, c)
	t.Cleanup(func() { stop(t, r.app) })
	r.setNodes([]string{k.SignalURL(), o.SignalURL()},
		"    sip: sip:"+k.SIPAddress()+"\n", "    type: opensips\n    sip: sip:"+o.SIPAddress()+"\n")
	r.reload()
	users, tokens := new(atomic.Int64), new(atomic.Int64)
	for name, way := range map[string]struct{ phone, call proxy }{
		"registers at OpenSIPS, held at Kamailio": {o, k}, "registers at Kamailio, held at OpenSIPS": {k, o},
	} {
		rig := &proxyRig{r, kamailio(), way.phone, users, tokens, nil}
		for transport, options := range map[string][]option{"UDP": {answers}, "TCP": {answers, tcp}} {
			t.Run(name+", "+transport, func(t *testing.T) {
				s := rig.scenario(t)
				s.callAt = way.call.SIPAddress()
				wakesAndTalks(s, s.iphone(options...))
				s.nextUser()
				cancelledAsleep(s)
				s.nextUser()
				otherHeld(s, "OPTIONS", s.android(options...))
				s.nextUser()
				s.wakesElsewhere(way.call.SIPAddress(), options[1:]...)
				s.nextUser()
				s.callAt = way.phone.SIPAddress()
				s.wakesElsewhere(way.call.SIPAddress(), options[1:]...)
			})
		}
	}
}
