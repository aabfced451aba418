package main

import (
	"context"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/bench"
)

type benchCmd struct {
	Sipwake  string        `default:"bin/sipwake" help:"The sipwake program (${default})." type:"existingfile"`
	Round    time.Duration `default:"3s" help:"Time of one measurement (${default})."`
	Rounds   int           `default:"5" help:"Measurements of each figure, of which the median counts (${default})."`
	Bindings int           `default:"200000" help:"How many bindings are many (${default})."`
}

// Run prints the figures. A budget that is missed is no error.
func (c *benchCmd) Run(ctx context.Context) error {
	return bench.Run(ctx, bench.Config{Program: c.Sipwake, Round: c.Round, Rounds: c.Rounds, Bindings: c.Bindings})
}

type echoCmd struct{}

// Run serves until it is ended.
func (*echoCmd) Run(ctx context.Context) error { return bench.Echo(ctx) }
