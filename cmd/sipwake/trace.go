package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

type traceCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
	AOR    string `xor:"what" required:"" help:"User whose calls to show: user@domain."`
	CallID string `xor:"what" required:"" name:"call-id" help:"Call-ID of the call to show."`
}

// Run prints one block a call: when it was held, and what happened to each
// device, in milliseconds since then.
func (c *traceCmd) Run() error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	var res struct {
		Wakes []struct {
			AOR       string
			Node      string
			CallID    string `json:"call_id"`
			Kind      string
			StartedMS int64 `json:"started_ms"`
			Outcome   string
			Reason    string
			Events    []struct {
				AtMS   int64 `json:"at_ms"`
				Event  string
				Device string
				Detail string
			}
		}
	}
	params := map[string]string{"aor": c.AOR}
	if c.CallID != "" {
		params = map[string]string{"call_id": c.CallID}
	}
	if err := cl.call(context.Background(), "wake.trace", params, &res); err != nil {
		return err
	}
	if len(res.Wakes) == 0 {
		fmt.Println("no call remembered")
	}
	for _, w := range res.Wakes {
		fmt.Printf("%s  %s for %s at node %s: %s  (Call-ID %s)\n", time.UnixMilli(w.StartedMS).Format(time.RFC3339),
			w.Kind, w.AOR, w.Node, standing(w.Outcome, w.Reason), w.CallID)
		for _, e := range w.Events {
			fmt.Println(strings.TrimRight(fmt.Sprintf("%8d ms  %-12s %s %s", e.AtMS-w.StartedMS, e.Event, e.Device, e.Detail), " "))
		}
	}
	return nil
}

// standing says how the wake began and how it ended. One for nobody, or one that
// was shed, is never open.
func standing(outcome, reason string) string {
	switch {
	case reason != "":
		return outcome + ", " + reason
	case outcome == "none" || outcome == "shed":
		return outcome
	}
	return outcome + ", open"
}
