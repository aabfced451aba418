package main

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/kamailio"
	"github.com/sipwake/sipwake/kamailio/wire"
)

type wireCmd struct {
	File   string `arg:"" default:"/etc/kamailio/kamailio.cfg" help:"Your kamailio.cfg (${default})." type:"path"`
	Config string `short:"c" default:"${config}" help:"sipwake's configuration, for the node's secret and the token of RPC (${default})." type:"path"`
	Node   string `help:"The node's id in that configuration; not needed if it has one Kamailio."`
	Domain string `help:"The one domain of all users, whatever name or address a request carries."`
}

// Run prints a patch that adds sipwake.cfg to kamailio.cfg. It changes no file.
func (c *wireCmd) Run() error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("cannot read kamailio.cfg: %w", err)
	}
	local, notes, err := c.local()
	if err != nil {
		return err
	}
	o := wire.Options{Domain: c.Domain, Listen: sockets()}
	if o.Domain == "" {
		o.Domain = "example.com"
		notes = append(notes, "set SIPWAKE_DOMAIN to the domain of your users, or call again with --domain")
	}
	w, err := wire.File(string(text), o)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	fmt.Print(wire.Diff(filepath.Base(c.File), string(text), w.Text))
	beside := filepath.Join(filepath.Dir(c.File), wire.LocalFile)
	if _, err := os.Stat(beside); err == nil {
		notes = append(notes, beside+" is there already and stays as it is")
	} else {
		fmt.Print(wire.Diff(wire.LocalFile, "", local))
		notes = append(notes, "others must not read its secrets: chmod 640 "+beside+", and chgrp to Kamailio's group")
	}
	notes = append(notes, "apply it in "+filepath.Dir(c.File)+" with patch -p0", "copy sipwake.cfg beside it: /usr/share/sipwake/kamailio/sipwake.cfg of the package, kamailio/cfg/sipwake.cfg of the sources",
		"give Kamailio more private memory than its 8 MB: PKG_MEMORY=32 in /etc/default/kamailio, which is its option -M 32",
		"then: kamailio -M 32 -c -f "+c.File+", and look for your addresses in what it prints")
	for _, n := range notes {
		fmt.Fprintln(os.Stderr, "sipwake:", n)
	}
	if len(w.Missing) > 0 {
		return fmt.Errorf("%s is unlike the file that comes with Kamailio; by hand:\n  %s", c.File, strings.Join(w.Missing, "\n  "))
	}
	return nil
}

// local returns the settings of this machine, from sipwake's configuration or, if there is
// none yet, with a new secret.
func (c *wireCmd) local() (text string, notes []string, err error) {
	node, url := cmp.Or(c.Node, "sip1"), "http://127.0.0.1:8060/rpc"
	var (
		password string
		token    secret.Text
	)
	switch service, err := newClient(c.Config); {
	case errors.Is(err, fs.ErrNotExist):
		password = newSecret()
		notes = append(notes, c.Config+" is not there, so the secret is a new one: put it into the file that secret_file of the node is to name")
	case err != nil:
		return "", nil, err
	default:
		n, err := pickNode(service.cfg, c.Node)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", c.Config, err)
		}
		client, err := kamailio.New(n.ID, n.Config, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			return "", nil, fmt.Errorf("%s: node %s: %w", c.Config, n.ID, err)
		}
		node, url, password, token = n.ID, service.url, client.Secret.Reveal(), service.token
	}
	var b strings.Builder
	b.WriteString("# settings of this machine for sipwake.cfg; nobody but Kamailio should read them\n")
	fmt.Fprintf(&b, "#!define SIPWAKE_NODE %q\n#!define SIPWAKE_URL %q\n#!define SIPWAKE_SECRET %q\n", node, url, password)
	if !token.Empty() {
		fmt.Fprintf(&b, "#!define SIPWAKE_TOKEN %q\n", token.Reveal())
	}
	return b.String(), notes, nil
}

func pickNode(cfg *config.Config, id string) (*config.Node, error) {
	var found *config.Node
	n := 0
	for i := range cfg.Nodes {
		c := &cfg.Nodes[i]
		if c.Type == config.NodeKamailio && (id == "" || c.ID == id) {
			found = c
			n++
		}
	}
	switch {
	case n == 1:
		return found, nil
	case n > 1:
		return nil, fmt.Errorf("the configuration has %d nodes of type kamailio: say which with --node", n)
	case id != "":
		return nil, fmt.Errorf("the configuration has no node %q of type kamailio", id)
	}
	return nil, fmt.Errorf("the configuration has no node of type kamailio: add one to nodes")
}

func newSecret() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// sockets returns the addresses of this machine that a SIP proxy may listen on.
func sockets() (list []string) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.IsLinkLocalUnicast() || ip.IP.To4() == nil {
			continue
		}
		list = append(list, "udp:"+ip.IP.String()+":5060", "tcp:"+ip.IP.String()+":5060")
	}
	return list
}
