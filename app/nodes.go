package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/config"
	"github.com/sipwake/sipwake/kamailio"
	"github.com/sipwake/sipwake/opensips"
	"github.com/sipwake/sipwake/wake"
)

// node is a wake.Node that can be compared with another one.
type node interface {
	wake.Node
	// Fingerprint is the same for nodes with the same settings and secret.
	Fingerprint() string
}

var (
	_ node = kamailio.Node{}
	_ node = opensips.Node{}
)

// probeEvery is how often nodes are probed.
const probeEvery = 30 * time.Second

// nodes are the SIP proxies, and how each answered when it was last probed: a wrong
// address or secret is told before a call needs it. Safe for concurrent use.
type nodes struct {
	log *slog.Logger
	up  *prometheus.GaugeVec

	mu     sync.Mutex
	byID   map[string]*probed
	change chan struct{} // there is something new to probe
}

// probed is one node.
type probed struct {
	node
	kind  string
	state nodeState
	err   string // why it is not up
}

// nodeState is what a probe found.
type nodeState string

const (
	nodeUnknown     nodeState = "unknown" // not probed yet
	nodeUp          nodeState = "up"
	nodeUnreachable nodeState = "unreachable"
	nodeForbidden   nodeState = "wrong secret"
)

func newNodes(log *slog.Logger, reg prometheus.Registerer) *nodes {
	n := &nodes{log: log, byID: map[string]*probed{}, change: make(chan struct{}, 1),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sipwake_node_up", Help: "Whether the SIP node answered the last probe and took our secret: 1 or 0."}, []string{"node"})}
	reg.MustRegister(n.up)
	return n
}

// set takes the nodes of a configuration. What is as before keeps its connections
// and its state. It returns those that are in force now, and a function that closes
// what is not used any more.
func (n *nodes) set(cfg []config.Node, made map[string]node) (now map[string]wake.Node, closeOld func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var unused []wake.Node
	byID := make(map[string]*probed, len(made))
	for _, c := range cfg {
		p, old := made[c.ID], n.byID[c.ID]
		if old != nil && old.Fingerprint() == p.Fingerprint() && old.kind == c.Type {
			byID[c.ID] = old
			unused = append(unused, p)
			continue
		}
		byID[c.ID] = &probed{node: p, kind: c.Type, state: nodeUnknown}
		n.up.WithLabelValues(c.ID).Set(0)
	}
	now = make(map[string]wake.Node, len(byID))
	for id, p := range byID {
		now[id] = p.node
	}
	for id, old := range n.byID {
		if byID[id] != old {
			unused = append(unused, old)
		}
		if byID[id] == nil {
			n.up.DeleteLabelValues(id)
		}
	}
	n.byID = byID
	select {
	case n.change <- struct{}{}:
	default:
	}
	return now, func() {
		for _, u := range unused {
			u.Close()
		}
	}
}

// run probes the nodes, at once after each change and then now and again, until ctx
// ends.
func (n *nodes) run(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-n.change:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		n.mu.Lock()
		all := maps.Clone(n.byID)
		n.mu.Unlock()
		var probes sync.WaitGroup
		for id, p := range all {
			probes.Go(func() { n.probe(ctx, id, p) })
		}
		probes.Wait()
	}
}

// probe notes the state of a node, and logs it if it is another one.
func (n *nodes) probe(ctx context.Context, id string, p *probed) {
	err := p.Probe(ctx)
	if ctx.Err() != nil {
		return
	}
	state, text := nodeUp, ""
	switch {
	case errors.Is(err, kamailio.ErrForbidden), errors.Is(err, opensips.ErrForbidden):
		state, text = nodeForbidden, err.Error()
	case err != nil:
		state, text = nodeUnreachable, err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byID[id] != p {
		return // a reload has replaced it
	}
	was := p.state
	p.state, p.err = state, text
	up := 0.0
	if state == nodeUp {
		up = 1
	}
	n.up.WithLabelValues(id).Set(up)
	switch {
	case state == was:
	case state != nodeUp:
		n.log.Warn("node cannot be signalled: phones that are woken will not be rung there", "node", id, "state", string(state), "err", text)
	case was != nodeUnknown:
		n.log.Info("node can be signalled again", "node", id)
	}
}

// close drops the idle connections.
func (n *nodes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.byID {
		p.Close()
	}
}

// nodeInfo is what service.info tells of a node.
type nodeInfo struct {
	ID    string    `json:"id"`
	Type  string    `json:"type"`
	State nodeState `json:"state"`
	Error string    `json:"error,omitempty"`
}

// info returns the nodes, ordered by id.
func (n *nodes) info() []nodeInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]nodeInfo, 0, len(n.byID))
	for _, id := range slices.Sorted(maps.Keys(n.byID)) {
		p := n.byID[id]
		list = append(list, nodeInfo{id, p.kind, p.state, p.err})
	}
	return list
}

// makeNodes makes the nodes of a configuration, which connect to nothing yet, and
// reports what is wrong.
func makeNodes(cfg *config.Config, log *slog.Logger, problems *config.Problems) map[string]node {
	edges := map[string]string{}
	for _, n := range cfg.Nodes {
		if n.SIP != "" {
			edges[n.ID] = n.SIP
		}
	}
	made := make(map[string]node, len(cfg.Nodes))
	for i := range cfg.Nodes {
		field := fmt.Sprintf("nodes[%d]", i)
		if problems.Has(field) {
			continue
		}
		n, err := makeNode(&cfg.Nodes[i], edges, log)
		if err != nil {
			problems.Add(field, err)
			continue
		}
		made[cfg.Nodes[i].ID] = n
	}
	return made
}

func makeNode(n *config.Node, edges map[string]string, log *slog.Logger) (node, error) {
	if n.Type == config.NodeOpenSIPS {
		return opensips.New(n.ID, n.Config, edges, log)
	}
	return kamailio.New(n.ID, n.Config, edges, log)
}
