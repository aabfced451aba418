package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sipwake/sipwake/app"
	"github.com/sipwake/sipwake/push"
)

type checkCmd struct {
	File   string `arg:"" optional:"" help:"Configuration file; instead of --config." type:"path"`
	Config string `short:"c" default:"${config}" help:"Configuration file (${default})." type:"path"`

	Templates bool `help:"Print every payload, filled with sample data."`
}

// Run loads the configuration as serve does, up to but not including the store
// and the listeners, and fills in every payload template. What is in order but
// will not be for long is a warning.
func (c *checkCmd) Run() error {
	if c.File == "" {
		c.File = c.Config
	}
	cfg, err := loadConfig(c.File)
	if err != nil {
		return err
	}
	apps, err := app.Apps(cfg)
	if err != nil {
		return err
	}
	out := io.Discard
	if c.Templates {
		out = os.Stdout
	}
	for i := range apps {
		if err := new(templatesCmd).print(out, &apps[i]); err != nil {
			return err
		}
	}
	for _, line := range cfg.Renamed() {
		fmt.Fprintln(os.Stderr, "warning:", line)
	}
	for _, w := range push.Warnings(apps, time.Now()) {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	if err := cfg.OpenSecrets(); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(os.Stderr, "warning:", strings.TrimSuffix(line, "\n"))
		}
	}
	fmt.Printf("%s: ok\n", c.File)
	return nil
}
