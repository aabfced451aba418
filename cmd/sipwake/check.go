package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

type checkCmd struct {
	File   string `arg:"" optional:"" help:"Configuration file; instead of --config." type:"path"`
	Config string `short:"c" default:"${config}" help:"Configuration file (${default})." type:"path"`

	Templates bool   `xor:"output" help:"Print every payload, filled with sample data."`
	JSON      bool   `name:"json" xor:"output" help:"Print what was found as JSON."`
	Online    bool   `help:"Also try each node and its secret, and connect to the push services. Nobody is pushed."`
	User      string `default:"sipwake" help:"When run as root: the user that must be able to read the files (${default})."`
}

// Run loads the configuration like serve, except for the store and the listeners, and
// executes every payload template. Each problem is an error. What is valid but may be
// refused, or will expire, is a warning.
func (c *checkCmd) Run() error {
	if c.File == "" {
		c.File = c.Config
	}
	r := &checked{File: c.File}
	cfg, err := config.LoadWithCredentials(c.File, credentialsDir())
	if cfg == nil {
		r.fail(err)
	} else {
		c.look(r, cfg)
	}
	r.OK = len(r.Errors) == 0
	if c.JSON {
		return r.json(os.Stdout)
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	if !r.OK {
		return errors.New(strings.Join(r.Errors, "\n"))
	}
	r.text(os.Stdout)
	fmt.Printf("%s: ok\n", c.File)
	return nil
}

// look checks the configuration and fills in the report.
func (c *checkCmd) look(r *checked, cfg *config.Config) {
	apps, nodes, err := app.Check(cfg)
	r.fail(err)
	out := io.Discard
	if c.Templates && err == nil {
		out = os.Stdout
	}
	for i := range apps {
		r.fail(new(templatesCmd).print(out, &apps[i]))
	}
	r.Warnings = append(cfg.Renamed(), push.Warnings(apps, time.Now())...)
	r.Warnings = append(r.Warnings, app.Warnings(cfg, apps, time.Now())...)
	if problems := (*config.Problems)(nil); errors.As(cfg.OpenSecrets(), &problems) {
		r.Warnings = append(r.Warnings, problems.Lines()...)
	}
	if service, ok := lookupAccount(c.User); ok && os.Geteuid() == 0 {
		r.User = service.name
		r.Warnings = append(r.Warnings, unreadableFiles(cfg, service)...)
	}
	r.list(cfg, apps)
	if c.Online && len(r.Errors) == 0 {
		probe(r, nodes, apps)
	}
	for i := range apps {
		apps[i].Client.Close()
	}
}

// fail adds an error to the report; of joined errors, each one separately.
func (r *checked) fail(err error) {
	problems := (*config.Problems)(nil)
	switch {
	case errors.As(err, &problems):
		r.Errors = append(r.Errors, problems.Lines()...)
	case err != nil:
		r.Errors = append(r.Errors, err.Error())
	}
}

// probeTimeout limits one probe over the network.
const probeTimeout = 10 * time.Second

// prober is what can be probed over the network.
type prober interface {
	Probe(ctx context.Context) error
}

// probe concurrently probes everything that can be probed over the network.
func probe(r *checked, nodes map[string]wake.Node, apps []push.App) {
	type result struct {
		what string
		to   *string
		err  error
	}
	results := make(chan result)
	tries := 0
	try := func(what string, to *string, p prober, ok bool) {
		if !ok {
			*to = "cannot be tried"
			return
		}
		tries++
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
			defer cancel()
			results <- result{what, to, p.Probe(ctx)}
		}()
	}
	for i := range r.Nodes {
		n := &r.Nodes[i]
		p, ok := nodes[n.ID]
		try("node "+n.ID, &n.Online, p, ok)
	}
	for i := range r.Apps {
		a := &r.Apps[i]
		p, ok := apps[i].Client.(prober)
		try(strings.TrimSpace(fmt.Sprintf("%s %s %s", a.Provider, a.name(), a.Environment)), &a.Online, p, ok)
	}
	for range tries {
		switch got := <-results; {
		case got.err != nil:
			*got.to = "failed"
			r.Errors = append(r.Errors, fmt.Sprintf("%s: %v", got.what, got.err))
		default:
			*got.to = "ok"
		}
	}
}

// json prints the report, and returns an error if there are problems.
func (r *checked) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	if !r.OK {
		return fmt.Errorf("%s has %d problems", r.File, len(r.Errors))
	}
	return nil
}
