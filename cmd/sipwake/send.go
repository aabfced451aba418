package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// pushFlags are the flags of every push of an application.
type pushFlags struct {
	Kind    string            `default:"custom" enum:"call,chat,cancel,custom,refresh,0,1,2,3,4" help:"What it is: call (the phone rings), chat, cancel, custom or refresh, or its number 0 to 4 (${default})."`
	From    string            `help:"Who it is from: a URI, a number or a name."`
	Display string            `help:"How to show who it is from."`
	Title   string            `help:"Title."`
	Body    string            `help:"Text."`
	Data    map[string]string `help:"Data for the app: KEY=VALUE;KEY=VALUE."`
}

// params returns the flags as parameters of push.send and push.many.
func (f *pushFlags) params(ttl time.Duration) map[string]any {
	p := map[string]any{"kind": f.Kind, "from": f.From, "display": f.Display, "title": f.Title, "body": f.Body, "ttl_s": ttl.Seconds()}
	if len(f.Data) > 0 {
		p["data"] = f.Data
	}
	return p
}

type sendCmd struct {
	Config   string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
	AOR      string `xor:"to" help:"User to push: user@domain."`
	Token    string `xor:"to" help:"Push token, with --provider and --app; - reads it from standard input."`
	Status   string `xor:"to" help:"Show what has become of a push, by its id."`
	Provider string `help:"Push service of --token."`
	App      string `help:"App of --token."`
	Env      string `name:"environment" enum:",production,sandbox" default:"" help:"APNs environment of --token: production or sandbox."`

	pushFlags
	TTL  time.Duration `help:"How long it is worth delivering."`
	JSON bool          `name:"json" help:"Print what became of it as JSON, as push.status returns it."`
	Wait time.Duration `default:"5s" help:"How long to wait for the push services (${default})."`
}

// sent is a message in the results of push.send and push.status.
type sent struct {
	ID       string
	AOR      string
	Kind     string
	Deadline time.Time
	Devices  []struct {
		Device   string
		Provider string
		State    string
		Reason   string
		Detail   string
		Tries    int
	}

	raw json.RawMessage
}

func (m *sent) queued() bool {
	for _, d := range m.Devices {
		if d.State == "queued" {
			return true
		}
	}
	return false
}

// Run sends a push, or looks one up, and prints its state for each device. A push that
// finally failed is an error, a queued one is not.
func (c *sendCmd) Run() error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	ctx := context.Background()
	var m sent
	if c.Status != "" {
		if err := cl.call(ctx, "push.status", map[string]string{"id": c.Status}, &m); err != nil {
			return err
		}
		return m.print(c.JSON)
	}
	if c.AOR == "" && c.Token == "" {
		return errors.New("give --aor, --token or --status")
	}
	if c.Token == "-" {
		t, err := secret.ReadText("/dev/stdin")
		if err != nil {
			return err
		}
		c.Token = t.Reveal()
	}
	params := c.params(c.TTL)
	maps.Copy(params, map[string]any{"aor": c.AOR, "provider": c.Provider, "app": c.App, "environment": c.Env, "token": c.Token})
	if c.Kind == "call" || c.Kind == "0" {
		fmt.Fprintln(os.Stderr, "kind call: the phone will ring as for a call, and nobody is there when it is answered")
	}
	if err := cl.call(ctx, "push.send", params, &m); err != nil {
		return err
	}
	if len(m.Devices) == 0 {
		return fmt.Errorf("%s has no device that can be pushed", c.AOR)
	}
	const look = 50 * time.Millisecond
	for end := time.Now().Add(c.Wait); m.queued() && time.Now().Before(end); {
		time.Sleep(look)
		if err := cl.call(ctx, "push.status", map[string]string{"id": m.ID}, &m); err != nil {
			return err
		}
	}
	return m.print(c.JSON)
}

// UnmarshalJSON also keeps the complete JSON text.
func (m *sent) UnmarshalJSON(text []byte) error {
	type plain sent
	m.raw = append([]byte(nil), text...)
	m.Devices = nil
	return json.Unmarshal(text, (*plain)(m))
}

func (m *sent) print(asJSON bool) error {
	if asJSON {
		fmt.Printf("%s\n", m.raw)
		return m.failures()
	}
	fmt.Printf("%s  %s\n", m.ID, strings.TrimSpace(m.Kind+" "+m.AOR))
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, d := range m.Devices {
		if d.Device == "" {
			d.Device = "-"
		}
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%s\t%s\t%s\t%s %s", d.Device, d.Provider, d.State, d.Reason, d.Detail), " "))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return m.failures()
}

// failures returns an error if a push has failed.
func (m *sent) failures() error {
	failed := 0
	for _, d := range m.Devices {
		if d.State == "failed" {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d devices failed", failed, len(m.Devices))
	}
	return nil
}
