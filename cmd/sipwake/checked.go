package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// checked is the report of `sipwake check`. Its JSON format is stable.
type checked struct {
	File     string        `json:"file"`
	OK       bool          `json:"ok"` // no errors
	Errors   []string      `json:"errors,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
	Apps     []checkedApp  `json:"apps"`
	Nodes    []checkedNode `json:"nodes"`
	Store    checkedStore  `json:"store"`
	// User is the user whose access to the files was checked, if it was.
	User string `json:"user,omitempty"`
}

type checkedApp struct {
	Provider    pnparam.Provider    `json:"provider"`
	Packages    []string            `json:"packages"`
	Environment pnparam.Environment `json:"environment,omitempty"`
	// Default: the app also serves phones that name no environment.
	Default bool `json:"default"`
	// Expires is when the credential expires; absent if it does not.
	Expires *time.Time `json:"credential_expires,omitempty"`
	Online  string     `json:"online,omitempty"` // ok, failed or cannot be tried
}

type checkedNode struct {
	ID     string `json:"id"`
	Type   string `json:"type"`
	URL    string `json:"url"`
	Online string `json:"online,omitempty"`
}

type checkedStore struct {
	Type string `json:"type"`
	// Where has its file, or the addresses of Redis.
	Where []string `json:"where"`
}

// list adds what is configured to the report.
func (r *checked) list(cfg *config.Config, apps []push.App) {
	r.Apps, r.Nodes = make([]checkedApp, len(apps)), make([]checkedNode, len(cfg.Nodes))
	for i := range apps {
		a := &apps[i]
		r.Apps[i] = checkedApp{Provider: a.Provider, Packages: a.Packages, Environment: a.Environment, Default: a.Default}
		if !a.CredentialExpiry.IsZero() {
			ends := a.CredentialExpiry.UTC()
			r.Apps[i].Expires = &ends
		}
	}
	for i := range cfg.Nodes {
		n := &cfg.Nodes[i]
		r.Nodes[i] = checkedNode{ID: n.ID, Type: n.Type, URL: n.URL}
	}
	r.Store = checkedStore{cfg.Store.Type, []string{cfg.Store.Local.Path}}
	if cfg.Store.Type == config.StoreRedis {
		r.Store.Where = cfg.Store.Redis.Addresses
	}
}

func (a *checkedApp) name() string { return cmp.Or(strings.Join(a.Packages, ", "), "-") }

// text prints the report, one finding per line.
func (r *checked) text(w io.Writer) {
	var table bytes.Buffer
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	line := func(kind, name string, details ...string) {
		var shown []string
		for _, d := range details {
			if d != "" {
				shown = append(shown, d)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", kind, name, strings.Join(shown, ", "))
	}
	online := func(s string) string {
		if s == "" {
			return ""
		}
		return "online: " + s
	}
	for i := range r.Apps {
		a := &r.Apps[i]
		environment, ends := string(a.Environment), ""
		if a.Default && environment != "" {
			environment += " (default)"
		}
		if a.Expires != nil {
			ends = "certificate ends " + a.Expires.Format(time.DateOnly)
		}
		line(string(a.Provider), a.name(), environment, ends, online(a.Online))
	}
	for _, n := range r.Nodes {
		line("node", n.ID, n.Type, n.URL, online(n.Online))
	}
	line("store", r.Store.Type, r.Store.Where...)
	if r.User != "" {
		line("files", "looked at for user "+r.User)
	}
	_ = t.Flush() // to memory
	for row := range strings.Lines(table.String()) {
		fmt.Fprintln(w, strings.TrimRight(row, " \n"))
	}
}
