package tests

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/internal/store/storetest"
)

// The tests with several Kamailio nodes, and with one sipwake or several.

// cluster is two Kamailio nodes, each with its sipwake, which may be the same one. Every
// node has its own secret.
type cluster struct {
	a, b   *clusterNode
	mortal bool // the test kills nodes
}

// clusterNode is one of the nodes, with its sipwake.
type clusterNode struct {
	*proxyRig
	kamailio *stack.Kamailio
}

type clusterOptions struct {
	rig rigOptions
	// sipwakes: each node has its own, over one Redis.
	sipwakes bool
	// mortal: the test kills nodes.
	mortal bool
	// apart: the nodes do not share their registrations, but sipwake knows where each
	// takes SIP.
	apart bool
	hold  time.Duration
	// defines are further settings of the script.
	defines map[string]string
}

// newCluster starts the nodes and what belongs to them.
func newCluster(t *testing.T, o clusterOptions) *cluster {
	t.Helper()
	kamailio().found(t)
	if o.rig.wake == "" {
		o.rig.wake = "  linger: 1s"
	}
	o.rig.rpc = "  deadline: 10s"
	redis := ""
	if o.sipwakes {
		redis = storetest.StartRedis(t)
		o.rig.store = fmt.Sprintf("  type: redis\n  redis:\n    addresses: [%q]\n    timeout: 10s", redis)
	}
	rigs := [2]*rig{newRig(t, o.rig)}
	rigs[1] = rigs[0]
	if o.sipwakes {
		rigs[1] = rigs[0].another()
		listening(t, redis, 2)
	}
	c := &cluster{mortal: o.mortal}
	nodes := c.start(t, o, rigs)
	users, tokens := new(atomic.Int64), new(atomic.Int64)
	c.a = &clusterNode{&proxyRig{rigs[0], kamailio(), nodes[0], users, tokens, nil}, nodes[0]}
	c.b = &clusterNode{&proxyRig{rigs[1], kamailio(), nodes[1], users, tokens, nil}, nodes[1]}
	// Before the nodes end: a signal under way is repeated until it is taken.
	for _, r := range rigs {
		t.Cleanup(func() { stop(t, r.app) })
	}
	c.a.edit("    team_id:", "    timeout: 15s\n    call_timeout: 15s\n    team_id:")
	c.a.edit("    credentials_file:", "    timeout: 15s\n    call_timeout: 15s\n    credentials_file:")
	c.introduce(o)
	return c
}

// another starts one more sipwake with the same configuration file.
func (r *rig) another() *rig {
	r.t.Helper()
	other := *r
	other.logs = &lockedBuffer{}
	other.start()
	return &other
}

// clusterNodes are the ids of the nodes; the secret of each is made of its id.
var clusterNodes = [2]string{nodeID, "edge2"}

func secretOf(node string) string { return nodeSecret + "-of-" + node }

func (c *cluster) start(t *testing.T, o clusterOptions, rigs [2]*rig) []*stack.Kamailio {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scenarioTimeout)
	defer cancel()
	var configs []stack.KamailioConfig
	for i, id := range clusterNodes {
		defines := map[string]string{"SIPWAKE_RPC_MS": "10000", "SIPWAKE_AWAKE_S": "0"}
		maps.Copy(defines, o.defines)
		configs = append(configs, stack.KamailioConfig{Node: id, URL: rigs[i].url, Secret: secretOf(id),
			Hold: cmp.Or(o.hold, 30*time.Second), Defines: defines})
	}
	if !o.apart {
		nodes, err := stack.StartCluster(ctx, configs)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range nodes {
			c.watch(t, k)
		}
		return nodes
	}
	var nodes []*stack.Kamailio
	for _, config := range stack.WithPeers(configs) {
		k, err := stack.StartKamailio(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		c.watch(t, k)
		nodes = append(nodes, k)
	}
	return nodes
}

// watch has the node watched, unless the test is one that kills nodes.
func (c *cluster) watch(t *testing.T, k *stack.Kamailio) {
	if c.mortal {
		t.Cleanup(k.Stop)
		return
	}
	kind := kamailio()
	kind.quiet = false // what a phone says at two nodes crosses on its way
	kind.watch(t, k)
}

// introduce adds the nodes to the configuration of every sipwake.
func (c *cluster) introduce(o clusterOptions) {
	c.a.t.Helper()
	var sip []string
	if o.apart {
		sip = []string{"    sip: sip:" + c.a.kamailio.SIPAddress() + "\n", "    sip: sip:" + c.b.kamailio.SIPAddress() + "\n"}
	}
	c.a.setNodes([]string{c.a.kamailio.SignalURL(), c.b.kamailio.SignalURL()}, sip...)
	c.a.reload()
	if c.b.rig != c.a.rig {
		c.b.reload()
	}
}

// setNodes writes the nodes of a cluster into the configuration file: their URLs, and
// further lines of each.
func (r *rig) setNodes(urls []string, more ...string) {
	r.t.Helper()
	var list strings.Builder
	for i, url := range urls {
		fmt.Fprintf(&list, "  - id: %s\n    url: %s\n    secret_file: %s\n", clusterNodes[i], url,
			r.write(clusterNodes[i]+".secret", secretOf(clusterNodes[i])))
		if len(more) > 0 {
			list.WriteString(more[i%len(more)])
		}
	}
	text, err := os.ReadFile(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "\nnodes:\n")
	_, after, _ := strings.Cut(rest, "\napns:\n")
	r.write("sipwake.yml", before+"\nnodes:\n"+list.String()+"apns:\n"+after)
}

// run runs scenarios side by side: phones are at node b, callers at node a, and so is
// the sipwake that the scenario asks.
func (c *cluster) run(t *testing.T, all scenarios) {
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(c.scenario(t))
		})
	}
}

func (c *cluster) scenario(t *testing.T) *scenario {
	s := c.a.scenario(t)
	s.callAt = c.a.kamailio.SIPAddress()
	s.proxy = c.b.kamailio
	return s
}

// at returns the scenario with phones at another node.
func (s *scenario) at(k *clusterNode) *scenario {
	there := *s
	there.proxyRig = &proxyRig{s.rig, s.kind, k.kamailio, s.users, s.tokens, s.every}
	return &there
}

// uses has a phone go to the node of s from now on.
func (s *scenario) uses(p *phone.Phone) {
	s.t.Helper()
	if err := p.SetProxy(s.proxy.SIPAddress()); err != nil {
		s.t.Fatal(err)
	}
}

// atMost waits until no node has more than n contacts of the user.
func (c *cluster) atMost(s *scenario, n int) {
	s.t.Helper()
	eventually(s.t, "every node knows what has ended", func() bool {
		for _, k := range []*clusterNode{c.a, c.b} {
			text, err := k.kamailio.Command(s.ctx, "ul.lookup", "location", s.aor())
			if err != nil || strings.Count(text, "Address:") > n {
				return false
			}
		}
		return true
	})
}

// located waits until the node has n contacts of the user.
func (s *scenario) located(k *clusterNode, n int) {
	s.t.Helper()
	eventually(s.t, "the registration is known at the node", func() bool {
		text, err := k.kamailio.Command(s.ctx, "ul.lookup", "location", s.aor())
		return err == nil && strings.Count(text, "Address:") == n
	})
}
