package stack

import (
	"strings"
	"testing"
	"time"
)

// What one node registers, every other one knows, also a node that came later.
func TestCluster(t *testing.T) {
	ctx := need(t, "kamailio")
	nodes, err := StartCluster(ctx, []KamailioConfig{{Node: "a", Secret: "1"}, {Node: "b", Secret: "2"}, {Node: "c", Secret: "3"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range nodes {
		defer k.Stop()
	}
	if _, err := nodes[0].Command(ctx, "ul.add", "location", "bob", "sip:bob@192.0.2.7", "60", "1.0", "<sip:127.0.0.2;lr>", "0", "0", "8191"); err != nil {
		t.Fatal(err)
	}
	for i, k := range nodes {
		for {
			out, err := k.Command(ctx, "ul.lookup", "location", "bob")
			if err == nil && strings.Contains(out, "sip:bob@192.0.2.7") {
				break
			}
			select {
			case <-ctx.Done():
				t.Fatalf("node %d: %v: %s", i, err, out)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

func TestClusterThatFails(t *testing.T) {
	ctx := need(t, "kamailio")
	if nodes, err := StartCluster(ctx, []KamailioConfig{{Node: "a"}, {Node: "b", Script: "nonsense\n"}}); err == nil {
		for _, k := range nodes {
			k.Stop()
		}
		t.Error("started")
	}
}
