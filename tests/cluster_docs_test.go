package tests

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// The lines of docs/CLUSTER.md, put into the kamailio.cfg of the README's reader: two
// such nodes wake each other's phones.
func TestDocsCluster(t *testing.T) {
	t.Parallel()
	kamailio().found(t)
	ctx, cancel := context.WithTimeout(t.Context(), scenarioTimeout)
	defer cancel()
	script := asDocSays(t, "docs/CLUSTER.md", asREADMESays(t, readDoc(t, "tests/testdata/existing-kamailio.cfg")))
	script = regexp.MustCompile(`(?m)^#!define SIPWAKE_.*\n`).ReplaceAllString(script, "")
	r := newRig(t, rigOptions{})
	addresses := [2]string{"127.0.0.2", "127.0.0.3"}
	var sip, dmq [2]int
	for i, address := range addresses {
		sip[i], dmq[i] = need1(stack.FreePort(address))(t), need1(stack.FreePort(address))(t)
	}
	var nodes []*stack.Kamailio
	var urls []string
	for i, address := range addresses {
		other := 1 - i
		own := strings.NewReplacer(
			"udp:192.0.2.1:5062", fmt.Sprintf("udp:%s:%d", address, dmq[i]),
			"sip:192.0.2.1:5062", fmt.Sprintf("sip:%s:%d", address, dmq[i]),
			"sip:192.0.2.2:5062", fmt.Sprintf("sip:%s:%d", addresses[other], dmq[other]),
			"$Rp == 5062", "$Rp == "+strconv.Itoa(dmq[i]),
			"192.0.2.2/32", addresses[other]+"/32",
			"sip:192.0.2.1:5060", fmt.Sprintf("sip:%s:%d", address, sip[i]),
		).Replace(script)
		if strings.Contains(own, "192.0.2.") {
			t.Fatal("an address of the document is left")
		}
		k, err := stack.StartKamailio(ctx, stack.KamailioConfig{Node: clusterNodes[i], URL: r.url, Secret: secretOf(clusterNodes[i]),
			Address: address, SIPPort: sip[i], Script: own,
			Defines: map[string]string{"SIPWAKE_REPLY_HOOK": "NATREPLY", "SIPWAKE_RPC_MS": "10000", "SIPWAKE_AWAKE_S": "0"}})
		if err != nil {
			t.Fatal(err)
		}
		kamailio().watch(t, k)
		nodes, urls = append(nodes, k), append(urls, k.SignalURL())
	}
	t.Cleanup(func() { stop(t, r.app) }) // before the nodes that it signals
	r.setNodes(urls)
	r.reload()
	for i, transport := range []string{phone.UDP, phone.TCP} {
		r.wokenAcross(ctx, fmt.Sprintf("bob%d", i), apnsToken(i+1), transport, nodes)
	}
}

// wokenAcross has a phone that registers at the second node called through the first.
func (r *rig) wokenAcross(ctx context.Context, user, token, transport string, nodes []*stack.Kamailio) {
	t := r.t
	sleeper := need1(phone.New(phone.Config{User: user, Domain: domain, Proxy: nodes[1].SIPAddress(),
		Transport: transport, Behaviour: phone.Answer(0), ContactParams: apnsParams(token),
		Headers: map[string]string{"Path": "<sip:192.0.2.66;lr>"}}))(t)
	defer sleeper.Close()
	r.apns.OnDeliver(token, func(payload []byte, _ http.Header) { sleeper.OnPush(payload) })
	for _, expires := range []time.Duration{10 * time.Minute, 0} {
		if m := need1(sleeper.Register(ctx, expires))(t); m.Code() != 200 {
			t.Fatalf("REGISTER got %d", m.Code())
		}
		if !r.knowsPhone(user+"@"+domain, expires > 0) {
			t.Fatal("sipwake does not know the phone")
		}
	}
	sleeper.Sleep()
	caller := need1(phone.New(phone.Config{User: "alice", Domain: domain, Proxy: nodes[0].SIPAddress()}))(t)
	defer caller.Close()
	call := need1(caller.Invite(ctx, user, phone.InviteOptions{}))(t)
	if final := need1(call.Final(ctx))(t); final.Code != 200 || r.pushes(token) != 1 {
		t.Fatalf("%s: the caller got %d after %d pushes", transport, final.Code, r.pushes(token))
	}
	if n := hops(need1(sleeper.WaitInvite(ctx))(t).Request); n != 2 {
		t.Errorf("%s: the INVITE came over %d proxies, want both nodes", transport, n)
	}
	if m := need1(call.Bye(ctx))(t); m.Code() != 200 {
		t.Errorf("%s: BYE got %d", transport, m.Code())
	}
}

// need1 returns a result without an error.
func need1[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
