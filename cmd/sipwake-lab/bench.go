package main

import (
	"context"
	"time"

	"github.com/sipwake/sipwake/internal/lab/bench"
)

type benchCmd struct {
	Sipwake  string        `default:"bin/sipwake" help:"The sipwake program (${default})." type:"existingfile"`
	Round    time.Duration `default:"2s" help:"Time of one measurement (${default})."`
	Rounds   int           `default:"5" help:"Measurements of each figure, of which the median counts (${default})."`
	Bindings int           `default:"1000000" help:"How many bindings are many (${default})."`
	Against  string        `help:"Another sipwake, measured in the same rounds." type:"existingfile"`
	Only     string        `help:"Measure this part alone." enum:",rounds,registers,calls,many,new,refresh" default:""`
}

// Run prints the figures. A budget that is missed is no error.
func (c *benchCmd) Run(ctx context.Context) error {
	return bench.Run(ctx, bench.Config{Program: c.Sipwake, Round: c.Round, Rounds: c.Rounds, Bindings: c.Bindings,
		Against: c.Against, Only: c.Only})
}

type echoCmd struct{}

// Run serves until it is ended.
func (*echoCmd) Run(ctx context.Context) error { return bench.Echo(ctx) }

type bareCmd struct {
	Endpoint string        `required:""`
	CAFile   string        `required:"" name:"ca-file"`
	KeyFile  string        `required:""`
	Client   string        `required:""`
	Round    time.Duration `required:""`
}

// Run pushes for a while.
func (c *bareCmd) Run(ctx context.Context) error {
	b := bench.Bare{Endpoint: c.Endpoint, CAFile: c.CAFile, KeyFile: c.KeyFile, Client: c.Client, Round: c.Round}
	return b.Run(ctx)
}
