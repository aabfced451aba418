package main

import (
	"fmt"

	"github.com/sipwake/sipwake/app"
	"github.com/sipwake/sipwake/config"
)

type checkCmd struct {
	File   string `arg:"" optional:"" help:"Configuration file; instead of --config." type:"path"`
	Config string `short:"c" default:"${config}" help:"Configuration file (${default})." type:"path"`
}

// Run loads the configuration as serve does, up to but not including the store
// and the listeners.
func (c *checkCmd) Run() error {
	if c.File == "" {
		c.File = c.Config
	}
	cfg, err := config.Load(c.File)
	if err != nil {
		return err
	}
	if err := app.Check(cfg); err != nil {
		return err
	}
	fmt.Printf("%s: ok\n", c.File)
	return nil
}
