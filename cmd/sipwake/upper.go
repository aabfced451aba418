package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
)

type upperCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`

	List    upperListCmd    `cmd:"" help:"List registrations at PBXs, one line each."`
	Show    upperShowCmd    `cmd:"" help:"Show the registration of a user."`
	Refresh upperRefreshCmd `cmd:"" help:"Refresh the registration of a user now."`
	Remove  upperRemoveCmd  `cmd:"" help:"Remove a user's bindings, and end his registration at the PBX."`
}

// AfterApply connects the subcommands to the running sipwake.
func (c *upperCmd) AfterApply(k *kong.Context) error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	k.Bind(cl)
	return nil
}

// shownUpper is a registration in the result of upper.list.
type shownUpper struct {
	AOR     string    `json:"aor"`
	Server  string    `json:"server"`
	Node    string    `json:"node"`
	User    string    `json:"user"`
	State   string    `json:"state"`
	Why     string    `json:"why"`
	Granted int       `json:"granted_s"`
	LastOK  time.Time `json:"last_ok_at"`
	Due     time.Time `json:"due_at"`
	Tries   int       `json:"failed_tries"`
}

var errNoUpper = errors.New("no registration that is kept alive")

// uppers returns a page of registrations.
func uppers(cl *client, params map[string]any) (list []json.RawMessage, cursor string, err error) {
	var res struct {
		Registrations []json.RawMessage
		Cursor        string
	}
	err = cl.call(context.Background(), "upper.list", params, &res)
	return res.Registrations, res.Cursor, err
}

type upperListCmd struct {
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// Run prints a table.
func (c *upperListCmd) Run(cl *client) error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(out, "AOR\tSERVER\tSTATE\tLAST OK\tDUE\tWHY")
	}
	params := map[string]any{}
	for {
		list, cursor, err := uppers(cl, params)
		if err != nil {
			return err
		}
		for _, raw := range list {
			if c.JSON {
				fmt.Printf("%s\n", raw)
				continue
			}
			var u shownUpper
			if err := json.Unmarshal(raw, &u); err != nil {
				return fmt.Errorf("cannot read the answer: %w", err)
			}
			fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", u.AOR, u.Server, u.State, clock(u.LastOK), clock(u.Due), u.Why)
		}
		if cursor == "" {
			return out.Flush()
		}
		params["cursor"] = cursor
	}
}

type upperShowCmd struct {
	AOR string `arg:"" help:"User: user@domain."`
}

// Run prints a line for each known fact. No registration is an error.
func (c *upperShowCmd) Run(cl *client) error {
	list, _, err := uppers(cl, map[string]any{"aor": c.AOR})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errNoUpper
	}
	var u shownUpper
	if err := json.Unmarshal(list[0], &u); err != nil {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	fmt.Printf("user      %s\nserver    %s\nthrough   %s\nas        %s\nstate     %s\n", u.AOR, u.Server, u.Node, u.User, u.State)
	if u.Why != "" {
		fmt.Printf("why       %s, %d times in a row\n", u.Why, u.Tries)
	}
	fmt.Printf("granted   %s\nlast ok   %s\ndue       %s\n", time.Duration(u.Granted)*time.Second, clock(u.LastOK), clock(u.Due))
	return nil
}

type upperRefreshCmd struct {
	AOR string `arg:"" help:"User: user@domain."`
}

// Run makes the gateway ask the PBX. The command show prints the result.
func (c *upperRefreshCmd) Run(cl *client) error {
	return tellUpper(cl, "upper.refresh", c.AOR, "asked")
}

type upperRemoveCmd struct {
	AOR string `arg:"" help:"User: user@domain."`
}

// Run removes everything stored for the user. No registration is an error.
func (c *upperRemoveCmd) Run(cl *client) error {
	return tellUpper(cl, "upper.remove", c.AOR, "removed")
}

func tellUpper(cl *client, method, aor, done string) error {
	var res struct{ Found bool }
	if err := cl.call(context.Background(), method, map[string]string{"aor": aor}, &res); err != nil {
		return err
	}
	if !res.Found {
		return errNoUpper
	}
	fmt.Println(done)
	return nil
}
