package tests

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	nodes "github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	kamailionode "github.com/sipwake/sipwake/kamailio"
)

// nodeStates returns the types and states of the nodes by id, as service.info shows
// them, and whether they have taken a signal.
func (r *rig) nodeStates() map[string]string {
	r.t.Helper()
	var info struct {
		Nodes []struct {
			ID, Type, State string
			LastSignal      time.Time `json:"last_signal"`
		} `json:"node_states"`
	}
	r.call("service.info", nil, &info)
	states := map[string]string{}
	for _, n := range info.Nodes {
		states[n.ID] = n.Type + " " + n.State
		if !n.LastSignal.IsZero() {
			states[n.ID] += " signalled"
		}
	}
	return states
}

// During calls, a reload opens no new connection to an unchanged node. A removed node keeps
// only the connection of the current request, and Stop closes the rest.
func TestReloadKeepsConnections(t *testing.T) {
	t.Parallel()
	r, second := newRig(t, rigOptions{}), newNode(t)
	const bound = "\n    connections: 1\n    timeout: 20s"
	other := "  - id: edge2\n    sip: sip:192.0.2.2\n    url: " + second.url() + bound + "\n    secret_file: " + r.write("n2", nodeSecret) + "\n"
	r.edit("    url: "+r.node.url(), "    url: "+r.node.url()+bound)
	r.edit("nodes:\n", "nodes:\n"+other)
	r.reload() // the timeout of edge1 is another: this is where the connections begin
	eventually(t, "both nodes are up", func() bool {
		s := r.nodeStates()
		return s["edge1"] == "kamailio up" && s["edge2"] == "kamailio up"
	})
	eventually(t, "the first connection is closed", func() bool { return r.node.opened.Load()-r.node.closed.Load() == 1 })
	first := r.node.opened.Load()

	arrived, release := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() { close(arrived); <-release })
	second.mu.Lock()
	second.answer = func(signal, int) string { hold(); return "" }
	second.mu.Unlock()
	bob, carol := apnsContact("bob", apnsToken(1)), apnsContact("carol", apnsToken(2))
	r.asleep("bob@example.com", bob)
	r.asleep("carol@example.com", carol)
	r.startWake("carol@example.com", "9-9", obj{"node": "edge2"})
	r.register("carol@example.com", carol, obj{"call_id": "reg2"})
	<-arrived

	rounds, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := range 3 {
			<-rounds
			if i == 2 {
				r.edit(other, "")
			}
			cfg, err := config.Load(r.file)
			if err == nil {
				err = r.app.Reload(cfg)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n, over := 1, false; !over; n++ {
		call := fmt.Sprint("1-", n)
		r.startWake("bob@example.com", call, nil)
		select {
		case rounds <- struct{}{}:
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			over = true
		default:
		}
		r.register("bob@example.com", bob, obj{"call_id": call})
		r.node.waitFor(t, "wake", call)
		r.endWake("bob@example.com", call, "answered")
	}
	if got := r.node.opened.Load(); got != first {
		t.Errorf("%d more connections to a node that stayed as it was", got-first)
	}
	close(release)
	second.waitFor(t, "wake", "9-9")
	eventually(t, "the removed node has no connection", func() bool { return second.opened.Load() == second.closed.Load() })
	if got := r.nodeStates(); len(got) != 1 || got["edge1"] != "kamailio up signalled" {
		t.Errorf("the nodes are %v", got)
	}
	stop(t, r.app)
	eventually(t, "after the end nor has the other", func() bool { return r.node.opened.Load() == r.node.closed.Load() })
}

// What service.info and the metrics say of nodes, and that a probe is no signal.
func TestNodeStates(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	wrong := func(id, url, secret string) string {
		return "  - id: " + id + "\n    url: " + url + "\n    secret_file: " + r.write(id, secret) + "\n"
	}
	r.edit("nodes:\n", "nodes:\n"+wrong("elsewhere", r.apns.URL(), nodeSecret)+wrong("foreign", r.node.url(), "another")+
		wrong("gone", "http://127.0.0.1:1", nodeSecret)+wrong("strange", "http://"+r.app.OperationsAddr(), nodeSecret))
	r.reload()
	want := map[string]string{"edge1": "kamailio up", "elsewhere": "kamailio unreachable", "foreign": "kamailio wrong secret",
		"gone": "kamailio unreachable", "strange": "kamailio wrong answer"}
	eventually(t, "every node has been probed", func() bool { return !strings.Contains(fmt.Sprint(r.nodeStates()), "unknown") })
	if got := r.nodeStates(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	_, metrics := r.get("/metrics")
	for id, state := range want {
		up := map[bool]string{true: "1", false: "0"}[state == "kamailio up"]
		if line := `sipwake_node_up{node="` + id + `"} ` + up; !strings.Contains(metrics, line) {
			t.Errorf("no %s", line)
		}
		if told := strings.Count(r.logs.String(), `"node":"`+id+`","state"`); told != 1 && up == "0" || told != 0 && up == "1" {
			t.Errorf("%s: %d lines in the log", id, told)
		}
	}
	if strings.Contains(r.logs.String(), "127.0.0.1:1:") || len(r.node.signals) > 0 {
		t.Error("an address is in the log, or a probe was taken for a signal")
	}
}

// kamailioProbes is what a real Kamailio with sipwake.cfg answers to probes.
func kamailioProbes(s *scenario) {
	// A probe that a busy machine answers too late is made again after 30 s.
	s.eventuallyLong("the node is up", func() bool { return strings.HasPrefix(s.nodeStates()[nodeID], "kamailio up") }) // another scenario may have signalled it
	f := func(url, password string, want error) {
		s.t.Helper()
		n, err := kamailionode.New(nodeID, nodes.Config{URL: url, Secret: secret.NewText(password)}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			s.t.Fatal(err)
		}
		defer n.Close()
		if err := n.Probe(s.ctx); !errors.Is(err, want) {
			s.t.Errorf("got %v, want %v", err, want)
		}
	}
	url := s.proxy.SignalURL()
	f(url, nodeSecret, nil)
	f(url, "another", wake.ErrForbidden)
	f(strings.TrimSuffix(url, "/sipwake")+"/elsewhere", nodeSecret, nodes.ErrOther)
}
