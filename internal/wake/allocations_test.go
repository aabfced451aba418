//go:build !race

package wake_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// atOnce is a Pusher whose push service accepts everything at once.
type atOnce struct{ *pusher }

func (atOnce) Push(_ context.Context, _ push.Request, done func(push.Outcome)) {
	done(push.Outcome{Reply: push.Reply{Reason: push.Accepted, ID: "id"}, Tries: 1})
}

// TestAllocations holds what a call costs in the rules, with a store in memory and without
// the signal that makes the node answer the caller.
func TestAllocations(t *testing.T) {
	s, p := newMemory(), &pusher{}
	p.policy.SetDefaults(pnparam.APNs)
	var c wake.Config
	c.Alert.Code = -1
	c.SetDefaults()
	none := 0
	c.Limits.Pair, c.Limits.Caller, c.Limits.AOR = &none, &none, &none
	service := wake.New(c, map[string]wake.Node{"sip1": &node{answer: wake.SignalOK}}, wake.Deps{Store: s, Sweeper: s, History: s, Others: &others{},
		Pusher: atOnce{p}, Traces: trace.NewLog(100), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	defer func() {
		if err := service.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	_, err := service.Register(t.Context(), wake.RegisterParams{Node: "sip1", AOR: bob, Contact: iPhone("1"), CSeq: 1, CallID: "registration", Expires: 3600})
	if err != nil {
		t.Fatal(err)
	}
	s.entry(bob).recent = nil // it is asleep
	calls := 0
	n := testing.AllocsPerRun(200, func() {
		calls++
		call := fmt.Sprint(calls)
		res, err := service.Start(t.Context(), wake.StartParams{Node: "sip1", AOR: bob, CallID: call, Call: call, Kind: push.Call, From: alice})
		if err != nil || res.Outcome != wake.OutcomePushing {
			t.Fatal(res.Outcome, err)
		}
		if _, err := service.End(t.Context(), wake.EndParams{Node: "sip1", AOR: bob, Call: call, Reason: wake.EndAnswered}); err != nil {
			t.Fatal(err)
		}
	})
	const most = 32
	if n > most {
		t.Errorf("%v allocations a call, %v are allowed", n, most)
	}
}
