package stack

import (
	"testing"
)

func TestCluster(t *testing.T) {
	ctx := need(t, "kamailio")
	nodes, err := StartCluster(ctx, []KamailioConfig{{Node: "a", Secret: "s"}, {Node: "b", Secret: "s"}, {Node: "c", Secret: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range nodes {
		defer k.Stop()
		out, err := k.Command(ctx, "dmq.list_nodes")
		t.Log(out, err)
		t.Log(k.LogTail())
	}
}
