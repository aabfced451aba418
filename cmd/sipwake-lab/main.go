// Command sipwake-lab holds what no production host needs: a demonstration of
// real calls that wake simulated phones, tests under faults and load. Here are only the
// flags; the parts are below internal/lab.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Demo        demoCmd        `cmd:"" help:"Make calls through a real SIP proxy to phones that sleep, and print what happens."`
	Up          upCmd          `cmd:"" help:"Keep a SIP proxy, sipwake, push services and phones running, and do with them what you ask over HTTP."`
	Providers   providersCmd   `cmd:"" help:"Run simulated push services alone, for a sipwake of your own."`
	Watch       watchCmd       `cmd:"" help:"Make calls without end, and show them in Prometheus and Grafana."`
	Screenshots screenshotsCmd `cmd:"" help:"Take pictures of the pages that show the calls of the lab."`
	Interop     interopCmd     `cmd:"" help:"Make calls with clients made by others, JsSIP, baresip and SIPp, through a real Kamailio."`
	Leaks       leaksCmd       `cmd:"" help:"Look for secrets in what a test run has said."`
	Chaos       chaosCmd       `cmd:"" help:"Break part after part of a whole installation while calls flow, and count what is lost."`
	Bench       benchCmd       `cmd:"" help:"Measure sipwake under load, beside what it is built on."`
	Echo        echoCmd        `cmd:"" hidden:""`
	Bare        bareCmd        `cmd:"" hidden:""`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	parser, err := kong.New(&c, kong.Name("sipwake-lab"), kong.UsageOnError(),
		kong.Description("Simulated phones and push services for sipwake."), kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sipwake-lab:", err)
		return 2
	}
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "sipwake-lab:", err)
		return 1
	}
	return 0
}
