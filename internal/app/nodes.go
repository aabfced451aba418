package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/kamailio"
	"github.com/sipwake/sipwake/opensips"
)

// proxy is a node built from a configuration.
type proxy struct {
	wake.Node
	client *node.Client // below it
	kind   string       // config.NodeKamailio or config.NodeOpenSIPS
	url    string
}

// probeEvery is how often nodes are probed.
const probeEvery = 30 * time.Second

// nodes holds the SIP proxies and the result of each one's last probe. Probes reveal a
// wrong address or secret before a call needs the node. Safe for concurrent use.
type nodes struct {
	log *slog.Logger
	up  *prometheus.GaugeVec

	mu     sync.Mutex
	byID   map[string]*probed
	change chan struct{} // signals that there is something new to probe
}

// probed is one node.
type probed struct {
	proxy
	state    nodeState
	err      string // why it is not up
	troubled bool   // logged as not up, and not yet as up again
}

// nodeState is the result of a probe.
type nodeState string

const (
	nodeUnknown     nodeState = "unknown" // not probed yet
	nodeUp          nodeState = "up"
	nodeUnreachable nodeState = "unreachable"
	nodeForbidden   nodeState = "wrong secret"
	nodeOther       nodeState = "wrong answer"
)

// fix returns what to do about a node that is not up.
func (s nodeState) fix() string {
	switch s {
	case nodeUnreachable:
		return "does the proxy run, does it listen for HTTP at the host and port of url, and does no firewall stand between?"
	case nodeForbidden:
		return "the secret here and at the proxy must be the same; a changed file is read again at SIGHUP"
	}
	return "is url that of this proxy, with the port and path at which its script takes signals, and is type right?"
}

func newNodes(log *slog.Logger, reg prometheus.Registerer) *nodes {
	n := &nodes{log: log, byID: map[string]*probed{}, change: make(chan struct{}, 1),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sipwake_node_up", Help: "Whether the SIP node answered the last probe and took our secret: 1 or 0."}, []string{"node"})}
	reg.MustRegister(n.up)
	return n
}

// set replaces the nodes with those of a configuration. Unchanged nodes keep their
// connections and state. It returns the nodes now in force and a function that closes
// those no longer used.
func (n *nodes) set(made map[string]proxy) (now map[string]wake.Node, closeOld func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.byID
	n.byID, now = make(map[string]*probed, len(made)), make(map[string]wake.Node, len(made))
	var unused []*node.Client
	for id, m := range made {
		p, old := &probed{proxy: m, state: nodeUnknown}, was[id]
		switch {
		case old == nil:
			n.up.WithLabelValues(id).Set(0)
		case old.kind == p.kind && p.client.TakeOver(old.client):
			p.state, p.err, p.troubled = old.state, old.err, old.troubled
		default:
			p.troubled = old.troubled
			unused = append(unused, old.client)
		}
		n.byID[id], now[id] = p, p.Node
	}
	for id, old := range was {
		if n.byID[id] == nil {
			n.up.DeleteLabelValues(id)
			unused = append(unused, old.client)
		}
	}
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

// address returns host:port of the node's url, empty if there is none.
func (n *nodes) address(id string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.byID[id]
	if p == nil {
		return ""
	}
	u, err := url.Parse(p.url)
	if err != nil {
		return ""
	}
	return u.Host
}

// run probes the nodes immediately after each change and then periodically, until ctx
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

// probe records the state of a node, and logs it if it changed.
func (n *nodes) probe(ctx context.Context, id string, p *probed) {
	err := p.Probe(ctx)
	if ctx.Err() != nil {
		return
	}
	state, text := nodeUp, ""
	switch {
	case errors.Is(err, wake.ErrForbidden):
		state, text = nodeForbidden, err.Error()
	case errors.As(err, new(*node.NoAnswerError)):
		state, text = nodeUnreachable, err.Error()
	case err != nil:
		state, text = nodeOther, err.Error()
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
	case state == nodeUp && p.troubled:
		p.troubled = false
		n.log.Info("node can be signalled again", "node", id)
	case state != nodeUp && state != was:
		p.troubled = true
		n.log.Warn("node cannot be signalled: phones that are woken will not be rung there",
			"node", id, "state", string(state), "err", text, "fix", state.fix())
	}
}

// close closes the idle connections.
func (n *nodes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.byID {
		p.client.Close()
	}
}

// nodeInfo is a node in the result of service.info.
type nodeInfo struct {
	ID    string    `json:"id"`
	Type  string    `json:"type"`
	State nodeState `json:"state"`
	Error string    `json:"error,omitempty"`
	// LastSignal is when the node last accepted a signal.
	LastSignal time.Time `json:"last_signal,omitzero"`
}

// info returns the nodes, ordered by id.
func (n *nodes) info() []nodeInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]nodeInfo, 0, len(n.byID))
	for _, id := range slices.Sorted(maps.Keys(n.byID)) {
		p := n.byID[id]
		list = append(list, nodeInfo{id, p.kind, p.state, p.err, p.client.LastSignal().UTC().Truncate(time.Second)})
	}
	return list
}

// makeNodes builds the nodes of a configuration, which do not connect yet, and reports
// problems.
func makeNodes(cfg *config.Config, log *slog.Logger, problems *config.Problems) map[string]proxy {
	edges := map[string]string{}
	for _, n := range cfg.Nodes {
		if n.SIP != "" {
			edges[n.ID] = n.SIP
		}
	}
	made := make(map[string]proxy, len(cfg.Nodes))
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

func makeNode(n *config.Node, edges map[string]string, log *slog.Logger) (proxy, error) {
	if n.Type == config.NodeOpenSIPS {
		o, err := opensips.New(n.ID, n.Config, edges, log)
		return proxy{o, o.Client, n.Type, n.URL}, err
	}
	k, err := kamailio.New(n.ID, n.Config, edges, log)
	return proxy{k, k.Client, n.Type, n.URL}, err
}
