package main

import (
	"fmt"

	"github.com/sipwake/sipwake/app"
	"github.com/sipwake/sipwake/config"
)

type checkCmd struct {
	Config string `arg:"" optional:"" default:"${config}" help:"Configuration file (${default})." type:"path"`
}

// Run loads the configuration as serve does, up to but not including the store
// and the listeners.
func (c *checkCmd) Run() error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	if err := app.Check(cfg); err != nil {
		return err
	}
	fmt.Printf("%s: ok\n", c.Config)
	return nil
}
