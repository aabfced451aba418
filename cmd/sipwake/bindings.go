package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
)

type bindingsCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`

	List   listCmd   `cmd:"" help:"List bindings, one line each."`
	Show   showCmd   `cmd:"" help:"Show everything about a user's bindings but their tokens, and why others went."`
	Remove removeCmd `cmd:"" help:"Remove bindings."`
	Export exportCmd `cmd:"" help:"Write all bindings with their push tokens into a file."`
	Import importCmd `cmd:"" help:"Read bindings from a file that export wrote."`
}

// AfterApply connects the subcommands to the running sipwake.
func (c *bindingsCmd) AfterApply(k *kong.Context) error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	k.Bind(cl)
	return nil
}

// shownBinding is a binding in the result of binding.list.
type shownBinding struct {
	AOR         string    `json:"aor"`
	Device      string    `json:"device"`
	Provider    string    `json:"provider"`
	App         string    `json:"app"`
	Environment string    `json:"environment"`
	Tokens      []shown   `json:"tokens"`
	Node        string    `json:"node"`
	Source      string    `json:"source"`
	UserAgent   string    `json:"user_agent"`
	Registered  time.Time `json:"registered_at"`
	Expires     time.Time `json:"expires_at"`
	Created     time.Time `json:"created_at"`
}

type shown struct {
	Service string `json:"service"`
	Token   string `json:"token"`
}

// shownRemoval is why a binding was removed, in the result of binding.list.
type shownRemoval struct {
	Device   string    `json:"device"`
	Provider string    `json:"provider"`
	App      string    `json:"app"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

type listCmd struct {
	AOR      string `xor:"what" help:"User whose bindings to list: user@domain."`
	All      bool   `xor:"what" help:"List those of every user."`
	App      string `help:"Only those of this app."`
	Provider string `help:"Only those of this push service: apns, fcm, webpush, or that of a webhook."`
	Search   string `help:"Only those of users with this part in their names."`
	JSON     bool   `name:"json" help:"Print one JSON object a line."`
}

// Run prints a table.
func (c *listCmd) Run(cl *client) error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	n := 0
	line := func(raw json.RawMessage) error {
		n++
		if c.JSON {
			_, err := fmt.Printf("%s\n", raw)
			return err
		}
		var b shownBinding
		if err := json.Unmarshal(raw, &b); err != nil {
			return fmt.Errorf("cannot read the answer: %w", err)
		}
		if n == 1 {
			fmt.Fprintln(out, "AOR\tDEVICE\tPROVIDER\tAPP\tREGISTERED\tNODE")
		}
		_, err := fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", b.AOR, b.Device, b.Provider, b.App, clock(b.Registered), b.Node)
		return err
	}
	if c.AOR == "" && !c.All && c.App == "" && c.Provider == "" && c.Search == "" {
		return errors.New("give --aor, --all, --app, --provider or --search")
	}
	params := map[string]any{"aor": c.AOR, "all": c.AOR == "", "app": c.App, "provider": c.Provider, "search": c.Search}
	if err := pages(cl, "binding.list", params, "listed", line); err != nil {
		return err
	}
	if n == 0 && !c.JSON {
		fmt.Println(errNoBinding)
	}
	return out.Flush()
}

var errNoBinding = errors.New("no binding")

func clock(t time.Time) string { return t.Local().Format(time.RFC3339) }

// pages reads all pages of a method and calls f with every binding.
func pages[T any](cl *client, method string, params map[string]any, done string, f func(T) error) error {
	p := newProgress(done)
	for {
		var res struct {
			Bindings []T
			Cursor   string
		}
		if err := cl.call(context.Background(), method, params, &res); err != nil {
			return err
		}
		for _, b := range res.Bindings {
			if err := f(b); err != nil {
				return err
			}
		}
		p.add(len(res.Bindings))
		if res.Cursor == "" {
			p.end()
			return nil
		}
		params["cursor"] = res.Cursor
	}
}

// progress shows the progress of long work on standard error.
type progress struct {
	done  string // what has been done to them
	n     int
	next  time.Time
	shown bool
}

const progressEvery = time.Second

func newProgress(done string) *progress {
	return &progress{done: done, next: time.Now().Add(progressEvery)}
}

func (p *progress) add(n int) {
	p.n += n
	if time.Now().After(p.next) {
		p.next, p.shown = time.Now().Add(progressEvery), true
		fmt.Fprintf(os.Stderr, "%d bindings %s\n", p.n, p.done)
	}
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprintf(os.Stderr, "%d bindings %s, done\n", p.n, p.done)
	}
}

type removeCmd struct {
	AOR    string `help:"User whose bindings to remove: user@domain."`
	Device string `help:"Only this device, as list prints it."`
	Token  string `help:"The binding with this push token."`
}

// Run prints how many were removed. None is an error.
func (c *removeCmd) Run(cl *client) error {
	if (c.AOR == "") == (c.Token == "") || c.Device != "" && c.AOR == "" {
		return errors.New("give --aor, with --device if only one device is meant, or --token")
	}
	var res struct{ Removed int }
	err := cl.call(context.Background(), "binding.remove", map[string]string{"aor": c.AOR, "device": c.Device, "token": c.Token}, &res)
	if err != nil {
		return err
	}
	if res.Removed == 0 {
		return errors.New("no such binding")
	}
	fmt.Printf("removed: %d\n", res.Removed)
	return nil
}

type exportCmd struct {
	File string `arg:"" help:"File to write, one JSON object a line. It holds push tokens: only its owner can read it." type:"path"`
}

// Run writes the file, which appears only when it is complete.
func (c *exportCmd) Run(cl *client) error {
	f, err := os.CreateTemp(filepath.Dir(c.File), ".bindings-*") // mode 0600
	if err != nil {
		return fmt.Errorf("cannot create file: %w", err)
	}
	defer func() { // has no effect after success: then it is closed and renamed
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	w, n := bufio.NewWriter(f), 0
	err = pages(cl, "binding.export", map[string]any{}, "exported", func(line json.RawMessage) error {
		n++
		_, err := w.Write(append(line, '\n'))
		return err
	})
	if err == nil {
		err = errors.Join(w.Flush(), f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(f.Name(), c.File)
	}
	if err != nil {
		return fmt.Errorf("cannot export bindings: %w", err)
	}
	fmt.Printf("%s: %d bindings\n", c.File, n)
	return nil
}

type importCmd struct {
	File string `arg:"" help:"File that export wrote; - for standard input." type:"path"`
}

// Limits of one binding.import: the number of bindings, and the bytes of the body.
const (
	importBatch = 50
	importBytes = 32 << 10
)

// Run sends the file in batches. It can be repeated: known bindings stay as they are.
func (c *importCmd) Run(cl *client) error {
	in := os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("cannot open file: %w", err)
		}
		defer f.Close()
		in = f
	}
	var (
		batch             []json.RawMessage
		size, read, known int
		p                 = newProgress("imported")
	)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		var res struct{ Stored int }
		if err := cl.call(context.Background(), "binding.import", map[string]any{"bindings": batch}, &res); err != nil {
			return fmt.Errorf("cannot import lines %d to %d of %s: %w", read-len(batch)+1, read, c.File, err)
		}
		known += len(batch) - res.Stored
		p.add(len(batch))
		batch, size = nil, 0
		return nil
	}
	for lines := json.NewDecoder(in); ; {
		var one json.RawMessage
		err := lines.Decode(&one)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("cannot read line %d of %s: it is not JSON", read+1, c.File)
		}
		if len(batch) == importBatch || size+len(one) > importBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size, read = append(batch, one), size+len(one), read+1
	}
	if err := flush(); err != nil {
		return err
	}
	p.end()
	fmt.Printf("%s: %d bindings, %d stored, %d known already\n", c.File, read, read-known, known)
	return nil
}
