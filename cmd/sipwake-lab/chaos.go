package main

import (
	"context"
	"fmt"
	"os"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/lab/chaos"
)

type chaosCmd struct {
	Sipwake   string        `default:"bin/sipwake" help:"The sipwake to run (${default})." type:"path"`
	Seed      uint64        `help:"Decides the order of the faults and their victims; 0 takes the time."`
	Duration  time.Duration `default:"4m" help:"How long faults are made (${default})."`
	Faults    []string      `help:"Names of the faults to make; all if none is given."`
	Calls     float64       `default:"2" help:"Calls a second (${default})."`
	Registers float64       `default:"20" help:"REGISTERs a second (${default})."`
	Keep      bool          `help:"Keep the logs even if nothing is found."`
}

// Run breaks part after part and fails if anything that was promised is lost.
func (c *chaosCmd) Run(ctx context.Context) error {
	if c.Calls <= 0 || c.Registers <= 0 || c.Duration <= 0 {
		return fmt.Errorf("calls, registers and duration must be more than 0")
	}
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano() % 1_000_000)
	}
	goredis.SetLogger(silent{}) // for the whole process, so it is done here
	_, err := chaos.Run(ctx, chaos.Config{Sipwake: c.Sipwake, Seed: c.Seed, Duration: c.Duration, Faults: c.Faults,
		Calls: c.Calls, Registers: c.Registers, Keep: c.Keep, Out: os.Stdout})
	return err
}

// silent keeps go-redis from printing what the faults do to its connections.
type silent struct{}

// Printf implements the interface that goredis.SetLogger wants.
func (silent) Printf(context.Context, string, ...any) {}
