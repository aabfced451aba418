package stack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sipwake/sipwake/opensips/cfg"
)

// OpenSIPSConfig configures one OpenSIPS node.
type OpenSIPSConfig struct {
	// Node is its id; the name of its log file too.
	Node string
	// URL is sipwake's JSON-RPC address, Token the token that the node sends there; none
	// if empty.
	URL, Token string
	// Address is the IPv4 address to listen on, for MI too. Default 127.0.0.1.
	Address string
	// SIPPort is for UDP and TCP, ParkPort for UDP and MIPort for TCP. 0 picks a
	// free one.
	SIPPort, ParkPort, MIPort int
	// Hold and ChatHold are how long an INVITE and a MESSAGE are held, in whole
	// seconds. 0 is the script's default.
	Hold, ChatHold time.Duration
	// Memory is the shared memory in MB. Default 64.
	Memory int
	// Settings are further settings of sipwake.cfg by name, "s:TEXT" or "i:NUMBER".
	Settings map[string]string
	// Script is the configuration to run, default the project's opensips.cfg. It may
	// include "sipwake.cfg", and must include "settings.cfg".
	Script string
	// Dir holds the log. Default a temporary directory that Stop removes.
	Dir string
}

// OpenSIPS is a running OpenSIPS node.
type OpenSIPS struct {
	*Process
	address string
	port    int
	miPort  int
}

// SIPAddress returns host:port for SIP over UDP and TCP.
func (o *OpenSIPS) SIPAddress() string { return net.JoinHostPort(o.address, strconv.Itoa(o.port)) }

// SignalURL returns the URL for sipwake's signals: that of MI.
func (o *OpenSIPS) SignalURL() string {
	return "http://" + net.JoinHostPort(o.address, strconv.Itoa(o.miPort)) + "/mi"
}

// Command runs an MI command, such as "ul_dump", and returns its result as JSON.
// Arguments are NAME=VALUE, or NAME[]=VALUE for a list of one.
func (o *OpenSIPS) Command(ctx context.Context, method string, args ...string) (string, error) {
	params := map[string]any{}
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		if list, ok := strings.CutSuffix(name, "[]"); ok {
			params[list] = []string{value}
			continue
		}
		params[name] = value
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.SignalURL(), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("cannot run MI command %s: %w", method, err)
	}
	defer res.Body.Close()
	var answer struct {
		Result json.RawMessage
		Error  json.RawMessage
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("cannot run MI command %s: %w", method, err)
	}
	if answer.Error != nil {
		return "", fmt.Errorf("cannot run MI command %s: %s", method, answer.Error)
	}
	return string(answer.Result), nil
}

// FindOpenSIPS returns the paths of the opensips binary on PATH and of its
// modules: SIPWAKE_OPENSIPS_MODULES, or where they are by the binary's place. The
// error wraps ErrMissing if there are none: make setup cannot provide them.
func FindOpenSIPS() (program, modules string, err error) {
	program, err = exec.LookPath("opensips")
	if err != nil {
		return "", "", fmt.Errorf("cannot run opensips: it is not on PATH: %w", ErrMissing)
	}
	if modules = os.Getenv("SIPWAKE_OPENSIPS_MODULES"); modules != "" {
		return program, modules, nil
	}
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return "", "", fmt.Errorf("cannot run opensips: %w", err)
	}
	prefix := filepath.Dir(filepath.Dir(real))
	for _, pattern := range []string{prefix + "/lib64/opensips/modules", prefix + "/lib/opensips/modules",
		prefix + "/lib/*/opensips/modules", "/usr/lib/*/opensips/modules"} {
		found, _ := filepath.Glob(pattern) // the pattern is a good one
		if len(found) > 0 {
			return program, found[0], nil
		}
	}
	return "", "", fmt.Errorf("cannot find the modules of %s: set SIPWAKE_OPENSIPS_MODULES: %w", program, ErrMissing)
}

// StartOpenSIPS starts a node and returns when it answers SIP and takes signals.
// The error wraps ErrMissing if there is no OpenSIPS, and shows the end of its log
// if that is where it failed.
func StartOpenSIPS(ctx context.Context, c OpenSIPSConfig) (*OpenSIPS, error) {
	program, modules, err := FindOpenSIPS()
	if err != nil {
		return nil, err
	}
	if c.Address == "" {
		c.Address = "127.0.0.1"
	}
	for try := 1; ; try++ {
		o, err := startOpenSIPS(ctx, program, modules, c)
		picked := c.SIPPort == 0 || c.ParkPort == 0 || c.MIPort == 0
		if err == nil || !picked || try == pickedPortTries || !strings.Contains(err.Error(), "Address already in use") {
			return o, err
		}
	}
}

func startOpenSIPS(ctx context.Context, program, modules string, c OpenSIPSConfig) (*OpenSIPS, error) {
	for _, port := range []*int{&c.SIPPort, &c.ParkPort, &c.MIPort} {
		if *port == 0 {
			free, err := FreePort(c.Address)
			if err != nil {
				return nil, err
			}
			*port = free
		}
	}
	dir, temporary, err := workDir(c.Dir, "opensips")
	if err != nil {
		return nil, fmt.Errorf("cannot start opensips: %w", err)
	}
	o := &OpenSIPS{address: c.Address, port: c.SIPPort, miPort: c.MIPort}
	script, err := WriteOpenSIPS(filepath.Join(dir, c.Node+".opensips"), modules, c)
	if err == nil {
		o.Process, err = start(command{
			// -F: the process we start is the main one.
			name: c.Node, path: program, args: []string{"-F", "-f", script, "-m", strconv.Itoa(cmp.Or(c.Memory, 64)), "-M", "8"},
			dir: dir, remove: temporary,
			// On SIGTERM the main process ends its children; SIGKILL would leave them.
			orphan: syscall.SIGTERM,
		})
	}
	if err != nil {
		if temporary {
			_ = os.RemoveAll(dir)
		}
		return nil, fmt.Errorf("cannot start opensips: %w", err)
	}
	if err := o.waitReady(ctx, o.ready); err != nil {
		return nil, err
	}
	return o, nil
}

// WriteOpenSIPS creates dir, writes the scripts and settings of a node into it, and returns
// the path of the main script. Every port must be set.
func WriteOpenSIPS(dir, modules string, c OpenSIPSConfig) (script string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	own, err := cfg.Files.ReadFile("opensips.cfg")
	if err != nil {
		return "", err
	}
	if c.Script != "" {
		own = []byte(c.Script)
	}
	include, err := cfg.Files.ReadFile("sipwake.cfg")
	if err != nil {
		return "", err
	}
	const mpath = `mpath="/usr/lib/x86_64-linux-gnu/opensips/modules/"`
	own = bytes.Replace(own, []byte(mpath), []byte(`mpath="`+modules+`/"`), 1)
	// Paths of included files are relative to OpenSIPS' working directory.
	for _, name := range []string{"sipwake.cfg", "settings.cfg"} {
		own = bytes.Replace(own, []byte(`include_file "`+name+`"`), []byte(`include_file "`+filepath.Join(dir, name)+`"`), 1)
	}
	script = filepath.Join(dir, "opensips.cfg")
	return script, errors.Join(os.WriteFile(script, own, 0o600),
		os.WriteFile(filepath.Join(dir, "sipwake.cfg"), include, 0o600),
		os.WriteFile(filepath.Join(dir, "settings.cfg"), []byte(settings(c)), 0o600))
}

func settings(c OpenSIPSConfig) string {
	park := net.JoinHostPort(c.Address, strconv.Itoa(c.ParkPort))
	sip := net.JoinHostPort(c.Address, strconv.Itoa(c.SIPPort))
	all := map[string]string{"sipwake_node": "s:" + c.Node, "sipwake_park": "s:" + park, "sip_peer": "s:", "sipwake_domain": "s:example.com"}
	if c.URL != "" {
		all["sipwake_url"] = "s:" + c.URL
	}
	if c.Token != "" {
		all["sipwake_token"] = "s:" + c.Token
	}
	for name, d := range map[string]time.Duration{"sipwake_hold_s": c.Hold, "sipwake_chat_hold_s": c.ChatHold} {
		if d != 0 {
			all[name] = fmt.Sprintf("i:%d", d/time.Second)
		}
	}
	for name, value := range c.Settings {
		all[name] = value
	}
	var b strings.Builder
	fmt.Fprintf(&b, "socket=udp:%[1]s\nsocket=tcp:%[1]s\nsocket=udp:%[2]s\nalias=example.com\n", sip, park)
	fmt.Fprintf(&b, "modparam(\"httpd\", \"ip\", %q)\nmodparam(\"httpd\", \"port\", %d)\n", c.Address, c.MIPort)
	for name, value := range all {
		fmt.Fprintf(&b, "modparam(\"cfgutils\", \"shvset\", \"%s=%s\")\n", name, value)
	}
	return b.String()
}

// ready returns an error unless SIP over UDP and TCP and MI all work.
func (o *OpenSIPS) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := pingSIP(ctx, o.SIPAddress()); err != nil {
		return err
	}
	// OpenSIPS listens on TCP last. Another program on the port would not answer SIP.
	if err := pingSIPOver(ctx, "tcp", o.SIPAddress()); err != nil {
		return err
	}
	_, err := o.Command(ctx, "version")
	return err
}
