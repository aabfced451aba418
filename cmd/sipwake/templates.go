package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

type templatesCmd struct {
	Config  string `short:"c" default:"${config}" help:"Configuration file (${default})." type:"path"`
	Hostile bool   `help:"Fill in what a caller might send who tries to break the payload."`
}

// Run prints the payloads of each app as they would be sent, without the device token.
// Each kind has the values that pushes of that kind have. Run also executes the templates
// with hostile values, whether it prints them or not.
func (c *templatesCmd) Run() error {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return err
	}
	apps, err := app.Apps(cfg)
	if err != nil {
		return err
	}
	for i := range apps {
		if err := c.print(os.Stdout, &apps[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *templatesCmd) print(w io.Writer, a *push.App) error {
	name := ""
	if len(a.Packages) > 0 {
		name = a.Packages[0]
	}
	title := strings.TrimSpace(fmt.Sprintf("%s %s %s", a.Provider, strings.Join(a.Packages, ", "), a.Environment))
	shown, err := a.Templates.Render(name, a.Policy.Privacy, push.SampleValues())
	if err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	hostile, err := a.Templates.Render(name, a.Policy.Privacy, push.HostileValues())
	if err != nil {
		return fmt.Errorf("%s: with hostile values: %w", title, err)
	}
	if c.Hostile {
		shown = hostile
	}
	for _, r := range shown {
		source := r.Source
		if source == "" {
			source = "default"
		}
		fmt.Fprintf(w, "# %s: %s (%s, %d bytes; %s)\n", title, strings.TrimSpace(fmt.Sprintf("%s %s", r.Kind, r.Service)),
			source, len(r.Payload), sentAs(a.Provider, &r.Delivery))
		var out bytes.Buffer
		if len(r.Payload) > 0 {
			if err := json.Indent(&out, r.Payload, "", "  "); err != nil {
				return fmt.Errorf("%s: payload for kind %q: %w", title, r.Kind, err)
			}
		}
		fmt.Fprintf(w, "%s\n\n", out.Bytes())
	}
	return nil
}

// sentAs describes briefly how a payload is sent.
func sentAs(p pnparam.Provider, d *push.Delivery) string {
	said := []string{"priority " + string(d.Priority)}
	if p == pnparam.APNs {
		said = []string{"priority " + strconv.Itoa(d.ApplePriority()), "push type " + string(d.PushType)}
	}
	if d.ContentType != "" {
		said = append(said, d.ContentType)
	}
	if ttl := d.TTL(time.Now()); ttl > 0 {
		return strings.Join(append(said, "kept for "+ttl.Round(time.Second).String()), ", ")
	}
	return strings.Join(append(said, "now or never"), ", ")
}
