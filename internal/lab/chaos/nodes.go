package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// node is one SIP proxy: a Kamailio, or an OpenSIPS.
type node struct {
	*server
	address  string // host:port for SIP
	signals  string // URL
	dmq      string // host:port for registrations of the other Kamailio; empty for OpenSIPS
	kamailio stack.KamailioConfig
	opensips stack.OpenSIPSConfig
	command  func(ctx context.Context, args ...string) (string, error)
}

// kamailios is how many nodes share their registrations. An OpenSIPS, if there is one, does
// not share them; it exchanges calls with the first one.
const kamailios = 2

// startNodes starts two Kamailios that share their registrations, and an OpenSIPS if
// there is one on PATH.
func (w *world) startNodes(ctx context.Context) error {
	var configs []stack.KamailioConfig
	for i := range kamailios {
		f, err := startFront(w.calls, i, w.ledger)
		if err != nil {
			return err
		}
		w.fronts = append(w.fronts, f)
		name := "node" + strconv.Itoa(i)
		configs = append(configs, stack.KamailioConfig{
			Node: name, URL: f.url(), Secret: secret, Hold: hold, Dir: filepath.Join(w.dir, name), Memory: nodeMemory,
			Defines: map[string]string{
				"SIPWAKE_RING_MS": strconv.FormatInt(ring.Milliseconds(), 10),
				// Longer than the load balancer takes to try all sipwakes.
				"SIPWAKE_RPC_MS": "2800",
			}})
	}
	configs = stack.WithPeers(configs)
	if _, _, err := stack.FindOpenSIPS(); err == nil {
		configs[0].Defines["SIP_PEERS"] = stack.Quote(configs[1].Address + "/32," + openSIPSAddress + "/32")
		for _, c := range configs {
			c.Defines["SIPWAKE_FAR"] = ""
		}
	} else {
		w.noOpenSIPS = err.Error()
	}
	for i := range configs {
		n, err := w.newNode(configs, i)
		if err != nil {
			return err
		}
		w.nodes = append(w.nodes, n)
		w.servers = append(w.servers, n.server)
	}
	for i, n := range w.nodes {
		n.kamailio.Defines["DMQ_PEER"] = stack.Quote("sip:" + w.nodes[1-i].dmq)
		if err := n.run(ctx); err != nil {
			return err
		}
	}
	if w.noOpenSIPS == "" {
		if err := w.startOpenSIPS(ctx); err != nil {
			return err
		}
	}
	return poll(ctx, "that the nodes know each other", func() bool { return w.nodes[0].knows(ctx, w.nodes[1]) && w.nodes[1].knows(ctx, w.nodes[0]) })
}

func (w *world) newNode(configs []stack.KamailioConfig, i int) (*node, error) {
	c := configs[i]
	var ports []int
	for _, address := range []string{c.Address, "127.0.0.1", c.Address} {
		port, err := quietPort(address)
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	c.SIPPort, c.ParkPort = ports[0], ports[1]
	n := &node{address: fmt.Sprintf("%s:%d", c.Address, ports[0]), signals: fmt.Sprintf("http://%s:%d", c.Address, ports[0]), dmq: fmt.Sprintf("%s:%d", c.Address, ports[2])}
	c.Defines["WITH_DMQ"], c.Defines["DMQ_PORT"], c.Defines["DMQ_SELF"] = "", strconv.Itoa(ports[2]), stack.Quote("sip:"+n.dmq)
	n.kamailio = c
	n.server = &server{name: c.Node, times: w.times, grace: nodeGrace, start: func(ctx context.Context) (*stack.Process, error) {
		k, err := stack.StartKamailio(ctx, n.kamailio)
		if err != nil {
			return nil, err
		}
		n.command = k.Command
		return k.Process, nil
	}}
	return n, nil
}

// knows reports whether the node considers the other one active.
func (n *node) knows(ctx context.Context, other *node) bool {
	list, err := n.command(ctx, "dmq.list_nodes")
	host, port, _ := strings.Cut(other.dmq, ":")
	for entry := range strings.SplitSeq(list, "}") {
		if err == nil && strings.Contains(entry, "host: "+host+"\n") && strings.Contains(entry, "port: "+port+"\n") {
			return strings.Contains(entry, "status: active")
		}
	}
	return false
}

// openSIPSAddress is the address of the OpenSIPS, after those of the Kamailios.
const openSIPSAddress = "127.0.0.4"

func (w *world) startOpenSIPS(ctx context.Context) error {
	f, err := startFront(w.calls, kamailios, w.ledger)
	if err != nil {
		return err
	}
	w.fronts = append(w.fronts, f)
	var ports [3]int
	for i := range ports {
		if ports[i], err = quietPort(openSIPSAddress); err != nil {
			return err
		}
	}
	peer, _, _ := strings.Cut(w.nodes[0].address, ":")
	name := "node" + strconv.Itoa(kamailios)
	n := &node{address: fmt.Sprintf("%s:%d", openSIPSAddress, ports[0]), signals: fmt.Sprintf("http://%s:%d/mi", openSIPSAddress, ports[2])}
	n.opensips = stack.OpenSIPSConfig{Node: name, URL: f.url(), Address: openSIPSAddress, SIPPort: ports[0], ParkPort: ports[1], MIPort: ports[2],
		Hold: hold, Dir: filepath.Join(w.dir, name), Memory: nodeMemory,
		Settings: map[string]string{"sip_peer": "s:" + peer, "sipwake_ring_s": fmt.Sprintf("i:%d", ring/time.Second)}}
	n.server = &server{name: name, times: w.times, grace: nodeGrace, start: func(ctx context.Context) (*stack.Process, error) {
		o, err := stack.StartOpenSIPS(ctx, n.opensips)
		if err != nil {
			return nil, err
		}
		n.command = func(ctx context.Context, args ...string) (string, error) { return o.Command(ctx, args[0], args[1:]...) }
		return o.Process, nil
	}}
	w.nodes = append(w.nodes, n)
	w.servers = append(w.servers, n.server)
	return n.run(ctx)
}

// forSipwake returns the node in sipwake's configuration. Nodes that do not share their
// registrations need to be found over SIP.
func (n *node) forSipwake(secretFile string, mixed bool) string {
	text := fmt.Sprintf("  - id: %s\n    url: %s\n", n.name, n.signals)
	if mixed {
		text += fmt.Sprintf("    sip: sip:%s\n", n.address)
	}
	if n.dmq == "" {
		return text + "    type: opensips\n"
	}
	return text + fmt.Sprintf("    secret_file: %s\n", secretFile)
}

// nodesReady returns which node does not work, "" if all do.
func (w *world) nodesReady(ctx context.Context) string {
	for i, n := range w.nodes {
		if n.dmq == "" {
			if _, err := n.command(ctx, "version"); err != nil {
				return n.name
			}
			continue
		}
		if other := w.nodes[1-i]; !n.knows(ctx, other) {
			return n.name + " with " + other.name
		}
	}
	return ""
}

// transactions returns those that the node has not ended, as text.
func (n *node) transactions(ctx context.Context) (string, error) {
	if n.dmq == "" {
		text, err := n.command(ctx, "get_statistics", "statistics[]=inuse_transactions")
		_, count, _ := strings.Cut(strings.Trim(text, "{}\n "), ":")
		_, last, _ := strings.Cut(count, ":") // "tm:inuse_transactions": N
		return strings.TrimSpace(last), err
	}
	text, err := n.command(ctx, "tm.stats")
	for line := range strings.Lines(text) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name == "current" {
			return strings.TrimSpace(value), err
		}
	}
	return "", err
}

// way chooses at random the node of a call and the node at which the phone comes back.
func (w *world) way(r *rand.Rand) (through, back *node) {
	ways := [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}}
	if len(w.nodes) > kamailios {
		ways = append(ways, [][2]int{{2, 2}, {0, 2}, {2, 0}}...)
	}
	chosen := ways[r.IntN(len(ways))]
	return w.nodes[chosen[0]], w.nodes[chosen[1]]
}
