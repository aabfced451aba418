package stack

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// StartCluster starts nodes that share their registrations, and returns when each
// knows all the others. A node without an Address gets 127.0.0.2, 127.0.0.3 and so
// on: nodes on one address would take each other for themselves. On an error no
// node is left.
func StartCluster(ctx context.Context, nodes []KamailioConfig) ([]*Kamailio, error) {
	var (
		uris    = make([]string, len(nodes))
		configs = WithPeers(nodes)
	)
	for i, c := range configs {
		port, err := FreePort(c.Address)
		if err != nil {
			return nil, err
		}
		uris[i] = fmt.Sprintf("sip:%s:%d", c.Address, port)
		c.Defines["WITH_DMQ"], c.Defines["DMQ_PORT"], c.Defines["DMQ_SELF"] = "", strconv.Itoa(port), Quote(uris[i])
	}
	for i, c := range configs {
		// Any other node is enough: the nodes tell each other about the rest.
		c.Defines["DMQ_PEER"] = Quote(uris[(i+len(uris)-1)%len(uris)])
	}
	var (
		group   Group
		started []*Kamailio
	)
	for _, c := range configs {
		k, err := StartKamailio(ctx, c)
		if err != nil {
			group.Stop()
			return nil, err
		}
		group.Add(k)
		started = append(started, k)
	}
	for _, k := range started {
		if err := k.waitPeers(ctx, uris); err != nil {
			group.Stop()
			return nil, err
		}
	}
	return started, nil
}

// WithPeers returns the configurations with an address each and SIP_PEERS set to
// those of the others, so that the nodes take calls from each other.
func WithPeers(nodes []KamailioConfig) []KamailioConfig {
	all := make([]KamailioConfig, len(nodes))
	for i, c := range nodes {
		if c.Address == "" {
			c.Address = fmt.Sprintf("127.0.0.%d", 2+i)
		}
		all[i] = c
	}
	for i := range all {
		var peers []string
		for j, c := range all {
			if j != i {
				peers = append(peers, c.Address+"/32")
			}
		}
		defines := map[string]string{"SIP_PEERS": Quote(strings.Join(peers, ","))}
		maps.Copy(defines, all[i].Defines)
		all[i].Defines = defines
	}
	return all
}

// waitPeers waits until the node has all these DMQ nodes in its list.
func (k *Kamailio) waitPeers(ctx context.Context, uris []string) error {
	tick := time.NewTicker(readyPause)
	defer tick.Stop()
	for {
		list, err := k.Command(ctx, "dmq.list_nodes")
		missing := ""
		for _, uri := range uris {
			host, port, _ := strings.Cut(strings.TrimPrefix(uri, "sip:"), ":")
			if !activePeer(list, host, port) {
				missing = uri
			}
		}
		if err == nil && missing == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-k.Exited():
			return fmt.Errorf("cannot start %s: it ended", k.name)
		case <-ctx.Done():
			return fmt.Errorf("cannot see node %s from %s: %w: %s", missing, k.name, ctx.Err(), list)
		}
	}
}

// activePeer looks for a node in what dmq.list_nodes prints.
func activePeer(list, host, port string) bool {
	for node := range strings.SplitSeq(list, "}") {
		if strings.Contains(node, "host: "+host+"\n") && strings.Contains(node, "port: "+port+"\n") {
			return strings.Contains(node, "status: active")
		}
	}
	return false
}
