package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/wake"
)

// fakeNode is a Kamailio that counts its connections.
type fakeNode struct {
	*httptest.Server
	opened, closed atomic.Int64
	secret         atomic.Pointer[string]
}

func newFakeNode(t *testing.T) *fakeNode {
	n := &fakeNode{}
	n.setSecret("s")
	n.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+*n.secret.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found"}}`)
	}))
	n.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			n.opened.Add(1)
		case http.StateClosed:
			n.closed.Add(1)
		}
	}
	n.Start()
	t.Cleanup(n.Close)
	return n
}

func (n *fakeNode) setSecret(s string) { n.secret.Store(&s) }

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// configOf makes a configuration with nodes named a, b, ... at the addresses.
func configOf(t *testing.T, secret string, urls ...string) *config.Config {
	t.Helper()
	var c config.Config
	for i, u := range urls {
		n := config.Node{ID: string(rune('a' + i))}
		n.URL = u
		if err := n.Secret.UnmarshalText([]byte(secret)); err != nil {
			t.Fatal(err)
		}
		c.Nodes = append(c.Nodes, n)
	}
	c.SetDefaults()
	return &c
}

func set(t *testing.T, n *nodes, c *config.Config) map[string]wake.Node {
	t.Helper()
	problems := c.Problems()
	made := makeNodes(c, slog.New(slog.DiscardHandler), problems)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	now, closeOld := n.set(made)
	closeOld()
	return now
}

// A reload keeps the connections of a node that is as before, and closes those of
// one that is not.
func TestNodesReload(t *testing.T) {
	one, two := newFakeNode(t), newFakeNode(t)
	n := newNodes(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	probe := func(now map[string]wake.Node) {
		t.Helper()
		for id, node := range now {
			if err := node.Probe(t.Context()); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
		}
	}
	c := configOf(t, "s", one.URL, two.URL)
	for range 3 {
		probe(set(t, n, c))
	}
	if one.opened.Load() != 1 || two.opened.Load() != 1 {
		t.Errorf("%d and %d connections", one.opened.Load(), two.opened.Load())
	}
	c.Nodes[1].Timeout = 2 * time.Second
	probe(set(t, n, c))
	until(t, "the connection of the changed node is closed", func() bool { return two.closed.Load() == 1 })
	probe(set(t, n, configOf(t, "s", one.URL)))
	until(t, "that of the removed node too", func() bool { return two.closed.Load() == 2 })
	if one.opened.Load() != 1 || one.closed.Load() != 0 {
		t.Errorf("%d connections to the node that is as before", one.opened.Load())
	}
	// Another node's sip is told to the others, and they stay as they are.
	c = configOf(t, "s", one.URL, two.URL)
	c.Nodes[1].SIP = "sip:192.0.2.2"
	probe(set(t, n, c))
	if got := n.byID["a"].client.Edges; len(got) != 1 || got["b"] != "sip:192.0.2.2" {
		t.Errorf("the edges are %v", got)
	}
	if one.opened.Load() != 1 || one.closed.Load() != 0 {
		t.Errorf("%d connections to the node beside one with a sip", one.opened.Load())
	}
	n.close()
	until(t, "all are closed at the end", func() bool { return one.closed.Load() == 1 })
}

// A wrong address or secret is told once, and so is that it is right again.
func TestNodesProbe(t *testing.T) {
	good, strange := newFakeNode(t), httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"result":{"status":"ok"}}`)
	}))
	defer strange.Close()
	var log logged
	reg := prometheus.NewRegistry()
	n := newNodes(slog.New(slog.NewTextHandler(&log, nil)), reg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.run(ctx)
	}()
	defer func() {
		cancel()
		<-done
		n.close()
	}()
	states := func() string {
		var list []string
		for _, i := range n.info() {
			list = append(list, i.ID+" "+string(i.State))
		}
		return strings.Join(list, ", ")
	}
	c := configOf(t, "s", good.URL, "http://127.0.0.1:1", strange.URL)
	set(t, n, c)
	until(t, "each has a state", func() bool { return states() == "a up, b unreachable, c wrong answer" })
	if strings.Count(log.String(), "level=WARN") != 2 || strings.Contains(log.String(), "node=a") || strings.Count(log.String(), "fix=") != 2 {
		t.Errorf("the log is %s", log.String())
	}
	good.setSecret("another")
	n.probe(ctx, "a", n.byID["a"])
	n.probe(ctx, "a", n.byID["a"])
	if got := states(); got != "a wrong secret, b unreachable, c wrong answer" || strings.Count(log.String(), "node=a") != 1 {
		t.Errorf("%s, the log is %s", got, log.String())
	}
	good.setSecret("s")
	n.probe(ctx, "a", n.byID["a"])
	if !strings.Contains(log.String(), "node can be signalled again") {
		t.Errorf("the log is %s", log.String())
	}
	// A reload that corrects the secret is told as well.
	good.setSecret("another")
	n.probe(ctx, "a", n.byID["a"])
	c = configOf(t, "another", good.URL, "http://127.0.0.1:1", strange.URL)
	set(t, n, c)
	until(t, "it works again", func() bool { return strings.Count(log.String(), "node can be signalled again") == 2 })
	gathered, err := reg.Gather()
	if err != nil || len(gathered) != 1 || len(gathered[0].GetMetric()) != 3 {
		t.Errorf("metrics are %v, %v", gathered, err)
	}
	old := n.byID["b"]
	set(t, n, configOf(t, "another", good.URL))
	n.probe(ctx, "b", old) // one that a reload has removed
	if got := states(); got != "a up" {
		t.Errorf("after the reload: %s", got)
	}
}

func TestMakeNodesBad(t *testing.T) {
	c := configOf(t, "s", "http://192.0.2.1", "ftp://192.0.2.1")
	c.Nodes[1].Type = config.NodeOpenSIPS
	problems := c.Problems()
	made := makeNodes(c, slog.New(slog.DiscardHandler), problems)
	if err := problems.Err(); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:8888") || len(made) != 1 {
		t.Errorf("%d nodes, %v", len(made), err)
	}
}
