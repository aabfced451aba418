package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sipwake/sipwake/internal/outbox"
)

type sendManyCmd struct {
	Config   string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
	Users    string `xor:"to" required:"" help:"File with users to push, user@domain, one a line; - for standard input." type:"path"`
	Everyone bool   `xor:"to" required:"" help:"Push all users with a device of --app."`
	Status   string `xor:"to" required:"" help:"Show how far a push to many is, by its id, until it has ended or stopped."`
	Stop     string `xor:"to" required:"" help:"Stop a push to many while it runs, by its id."`
	Resume   string `xor:"to" required:"" help:"Let a push to many that was stopped go on where it was, by its id."`
	App      string `help:"Only devices of this app."`
	Provider string `help:"Only devices of this push service."`
	Rate     int    `default:"50" help:"Users a second (${default})."`

	pushFlags
	TTL    time.Duration `help:"How long all of it is worth going on (a day)."`
	Detach bool          `help:"Do not wait until it has ended."`
}

// manyStatus is the field many of push.status.
type manyStatus struct {
	ID   string
	Many struct {
		State       string
		Users, Sent int
		None        int `json:"without_device"`
	}
}

// Limits of one push.many: the number of users, and the bytes of the body.
const (
	manyUsers = outbox.MaxUsers
	manyBytes = 32 << 10
)

// Run starts a push to many users and shows its progress. If there are too many users for
// one job, it uses several. After an interrupt, the job that is shown continues in the
// service (--stop stops it), and later jobs are not started.
func (c *sendManyCmd) Run() error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	if done, err := c.known(cl); done {
		return err
	}
	parts := [][]string{nil}
	if c.Users != "" {
		if parts, err = readUsers(c.Users); err != nil {
			return err
		}
	} else if c.App == "" {
		return errors.New("give --app with --everyone")
	}
	return c.begin(cl, parts)
}

// begin starts a push to each part of the users. An error says where it stopped in a list
// of several parts, so that nobody has to be pushed twice.
func (c *sendManyCmd) begin(cl *client, parts [][]string) error {
	given, all := 0, 0
	for _, aors := range parts {
		all += len(aors)
	}
	if len(parts) > 1 {
		fmt.Fprintf(os.Stderr, "%d users, in %d pushes one after the other\n", all, len(parts))
	}
	left := func(err error) error {
		if given == 0 || given == all {
			return err
		}
		return fmt.Errorf("%w; the first %d of %d users were begun, and the others are left out", err, given, all)
	}
	for _, aors := range parts {
		params := c.params(c.TTL)
		maps.Copy(params, map[string]any{"app": c.App, "provider": c.Provider, "rate": c.Rate})
		if aors != nil {
			params["aors"] = aors
		}
		var m manyStatus
		if err := cl.call(context.Background(), "push.many", params, &m); err != nil {
			return left(err)
		}
		given += len(aors)
		fmt.Println(m.ID)
		if c.Detach {
			continue
		}
		if err := m.wait(cl); err != nil {
			return left(err)
		}
		if m.print(); m.Many.State == stopped {
			return left(errors.New("somebody has stopped it"))
		}
	}
	return nil
}

// known does what the flags request for an earlier push, and reports whether there was
// anything to do.
func (c *sendManyCmd) known(cl *client) (done bool, err error) {
	var m manyStatus
	for method, id := range map[string]string{"push.stop": c.Stop, "push.resume": c.Resume, "push.status": c.Status} {
		if id == "" {
			continue
		}
		if err := cl.call(context.Background(), method, map[string]string{"id": id}, &m); err != nil {
			return true, err
		}
		if m.Many.State == "" {
			return true, errors.New("that push is not one to many users")
		}
		if method == "push.status" && !c.Detach {
			err = m.wait(cl)
		}
		m.print()
		return true, err
	}
	return false, nil
}

// stopped is the state of a push to many users that somebody stopped.
const stopped = "stopped"

func (m *manyStatus) print() {
	fmt.Printf("%s: %d of %d users, %d without a device; what failed: sipwake pushes --job %s --state failed\n",
		m.Many.State, m.Many.Sent, m.Many.Users, m.Many.None, m.ID)
}

func (m *manyStatus) wait(cl *client) error {
	const look = 200 * time.Millisecond
	for next := time.Now().Add(progressEvery); m.Many.State != "ended" && m.Many.State != stopped; time.Sleep(look) {
		if err := cl.call(context.Background(), "push.status", map[string]string{"id": m.ID}, m); err != nil {
			return err
		}
		if time.Now().After(next) {
			next = time.Now().Add(progressEvery)
			fmt.Fprintf(os.Stderr, "%s, %d of %d users\n", m.Many.State, m.Many.Sent, m.Many.Users)
		}
	}
	return nil
}

// readUsers reads a file with one user per line, and splits it into parts that fit one
// push.many.
func readUsers(path string) (parts [][]string, err error) {
	in := os.Stdin
	if path != "-" {
		if in, err = os.Open(path); err != nil {
			return nil, fmt.Errorf("cannot open file: %w", err)
		}
		defer in.Close()
	}
	lines, size := bufio.NewScanner(in), 0
	for lines.Scan() {
		user := strings.TrimSpace(lines.Text())
		if user == "" {
			continue
		}
		if n := len(parts); n == 0 || len(parts[n-1]) == manyUsers || size+len(user) > manyBytes {
			parts, size = append(parts, nil), 0
		}
		size += len(user)
		parts[len(parts)-1] = append(parts[len(parts)-1], user)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot read file: %w", err)
	}
	if len(parts) == 0 {
		return nil, errors.New("the file names no user")
	}
	return parts, nil
}

type pushesCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
	State  string `enum:",queued,sent,failed" default:"" help:"Only those in this state: queued, sent or failed."`
	AOR    string `help:"Only those to this user: user@domain."`
	App    string `help:"Only those to this app."`
	Job    string `help:"Only those of this push to many, by its id."`
	JSON   bool   `name:"json" help:"Print one JSON object a line."`
}

// Run prints the stored pushes of applications, one line per device.
func (c *pushesCmd) Run() error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	n := 0
	params := map[string]any{"state": c.State, "aor": c.AOR, "app": c.App, "job": c.Job, "limit": 500}
	for {
		var res struct {
			Messages []json.RawMessage
			Cursor   string
		}
		if err := cl.call(context.Background(), "push.list", params, &res); err != nil {
			return err
		}
		for _, raw := range res.Messages {
			if n++; n == 1 && !c.JSON {
				fmt.Fprintln(out, "ID\tKIND\tAOR\tAPP\tSTATE\tREASON")
			}
			if err := c.line(out, raw); err != nil {
				return err
			}
		}
		if res.Cursor == "" {
			break
		}
		params["cursor"] = res.Cursor
	}
	if n == 0 && !c.JSON {
		fmt.Println("no push")
	}
	return out.Flush()
}

func (c *pushesCmd) line(out *tabwriter.Writer, raw json.RawMessage) error {
	if c.JSON {
		_, err := fmt.Printf("%s\n", raw)
		return err
	}
	var m struct {
		manyStatus
		AOR, Kind string
		Devices   []struct{ App, State, Reason string }
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	if m.Many.State != "" {
		fmt.Fprintf(out, "%s\t%s\t%d of %d users\t\t%s\t\n", m.ID, m.Kind, m.Many.Sent, m.Many.Users, m.Many.State)
	}
	for _, d := range m.Devices {
		if c.State != "" && d.State != c.State {
			continue
		}
		if m.AOR == "" {
			m.AOR = "-"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", m.ID, m.Kind, m.AOR, d.App, d.State, d.Reason)
	}
	return nil
}
