package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sipwake/sipwake/kamailio/cfg"
)

// KamailioConfig configures one Kamailio node.
type KamailioConfig struct {
	// Node is its id; the name of its log file too.
	Node string
	// URL is sipwake's JSON-RPC address, Token the token that the node sends there,
	// Secret the secret that sipwake must send to signal the node. With an empty Token
	// none is sent; with an empty Secret the node refuses signals.
	URL, Token, Secret string
	// Address is the IPv4 address to listen on. Default 127.0.0.1.
	Address string
	// SIPPort is for UDP and TCP, ParkPort for UDP on 127.0.0.1. 0 picks a free one.
	SIPPort, ParkPort int
	// Hold and ChatHold are how long an INVITE and a MESSAGE are held, in whole
	// seconds. 0 is the script's default.
	Hold, ChatHold time.Duration
	// Memory is the shared memory in MB; a held call needs about 40 kB. Default 64.
	Memory int
	// Defines are further -A NAME=VALUE. VALUE is inserted into the script unchanged:
	// use Quote for strings; "" defines the name without a value.
	Defines map[string]string
	// Script is the configuration to run, default the project's kamailio.cfg. It may
	// include "sipwake.cfg".
	Script string
	// PBXs makes the node a push gateway, unless there is a Script: the project's
	// gateway.cfg in front of these PBXs. Each is host:port, in the order of priority;
	// "2 host:port" is a PBX of set 2.
	PBXs []string
	// Dir holds the log and the control socket. Default a temporary directory that
	// Stop removes.
	Dir string
}

// Quote returns s as a string in a Kamailio script. s must not contain a double quote, a
// backslash or a line end.
func Quote(s string) string { return `"` + s + `"` }

// Kamailio is a running Kamailio node.
type Kamailio struct {
	*Process
	address string
	port    int
	ctl     string
}

// SIPAddress returns host:port for SIP over UDP and TCP.
func (k *Kamailio) SIPAddress() string { return net.JoinHostPort(k.address, strconv.Itoa(k.port)) }

// SignalURL returns the URL for sipwake's signals.
func (k *Kamailio) SignalURL() string { return "http://" + k.SIPAddress() + "/sipwake" }

// Command runs an RPC command of Kamailio's own, such as "ul.dump", and returns
// what it prints.
func (k *Kamailio) Command(ctx context.Context, args ...string) (string, error) {
	path, err := Find("kamcmd")
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, append([]string{"-s", k.ctl}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot run kamcmd %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// pickedPortTries is how often to pick other ports if those picked turn out to be taken.
const pickedPortTries = 5

// StartKamailio starts a node and returns when it answers SIP and takes signals.
// The error wraps ErrMissing if Kamailio has not been set up, and shows the end of
// Kamailio's log if that is where it failed.
func StartKamailio(ctx context.Context, c KamailioConfig) (*Kamailio, error) {
	path, err := Find("kamailio")
	if err != nil {
		return nil, err
	}
	if c.Address == "" {
		c.Address = "127.0.0.1"
	}
	for try := 1; ; try++ {
		k, err := startInTime(ctx, path, c)
		picked := c.SIPPort == 0 || c.ParkPort == 0
		if err == nil || !picked || try == pickedPortTries || ctx.Err() != nil ||
			!errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "Address already in use") {
			return k, err
		}
	}
}

// readyTime is far more than a Kamailio takes to start. Now and then one listens and never
// answers: then another is started.
const readyTime = 20 * time.Second

func startInTime(ctx context.Context, path string, c KamailioConfig) (*Kamailio, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	return startKamailio(ctx, path, c)
}

func startKamailio(ctx context.Context, path string, c KamailioConfig) (*Kamailio, error) {
	for _, pick := range []struct {
		port    *int
		address string
	}{{&c.SIPPort, c.Address}, {&c.ParkPort, "127.0.0.1"}} {
		if *pick.port == 0 {
			port, err := FreePort(pick.address)
			if err != nil {
				return nil, err
			}
			*pick.port = port
		}
	}
	dir, temporary, err := workDir(c.Dir, "kamailio")
	if err != nil {
		return nil, fmt.Errorf("cannot start kamailio: %w", err)
	}
	k := &Kamailio{address: c.Address, port: c.SIPPort, ctl: "unix:" + filepath.Join(dir, c.Node+".ctl")}
	script, err := writeScript(dir, c)
	if err == nil {
		k.Process, err = start(command{
			name: c.Node, path: path, args: k.arguments(dir, script, c), dir: dir, remove: temporary,
			// On SIGTERM the main process ends its children; SIGKILL would leave them.
			orphan: syscall.SIGTERM,
		})
	}
	if err != nil {
		if temporary {
			_ = os.RemoveAll(dir)
		}
		return nil, fmt.Errorf("cannot start kamailio: %w", err)
	}
	if err := k.waitReady(ctx, k.ready); err != nil {
		return nil, err
	}
	return k, nil
}

// writeScript puts the script beside sipwake.cfg and returns its path.
func writeScript(dir string, c KamailioConfig) (string, error) {
	name, list := "kamailio.cfg", ""
	if len(c.PBXs) > 0 {
		name = "gateway.cfg"
	}
	for i, pbx := range c.PBXs {
		set, address, other := strings.Cut(pbx, " ")
		if !other {
			set, address = "1", pbx
		}
		list += fmt.Sprintf("%s sip:%s 0 %d\n", set, address, len(c.PBXs)-i)
	}
	own, err := cfg.Files.ReadFile(name)
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
	// Several nodes may share the directory.
	path := scriptDir(dir, c)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	script := filepath.Join(path, "kamailio.cfg")
	return script, errors.Join(os.WriteFile(script, own, 0o600),
		os.WriteFile(filepath.Join(path, "sipwake.cfg"), include, 0o600),
		os.WriteFile(filepath.Join(path, pbxList), []byte(list), 0o600))
}

// pbxList is the file with the PBXs of a gateway, beside its script.
const pbxList = "dispatcher.list"

func scriptDir(dir string, c KamailioConfig) string { return filepath.Join(dir, c.Node+".kamailio") }

// arguments returns the command line. -DD: the process we start is the main one;
// -E: it logs to standard error.
func (k *Kamailio) arguments(dir, script string, c KamailioConfig) []string {
	args := []string{"-f", script, "-Y", dir, "-m", strconv.Itoa(cmp.Or(c.Memory, 64)), "-M", "16", "-DD", "-E"}
	defines := map[string]string{
		"SIP_ADDR":          c.Address,
		"SIP_PORT":          strconv.Itoa(c.SIPPort),
		"CTL":               Quote(k.ctl),
		"SIPWAKE_PARK_PORT": strconv.Itoa(c.ParkPort),
		"SIPWAKE_NODE":      Quote(c.Node),
	}
	for name, text := range map[string]string{
		"SIPWAKE_URL": c.URL, "SIPWAKE_TOKEN": c.Token, "SIPWAKE_SECRET": c.Secret,
	} {
		if text != "" {
			defines[name] = Quote(text)
		}
	}
	for name, d := range map[string]time.Duration{"SIPWAKE_HOLD_S": c.Hold, "SIPWAKE_CHAT_HOLD_S": c.ChatHold} {
		if d != 0 {
			defines[name] = strconv.Itoa(int(d / time.Second))
		}
	}
	if len(c.PBXs) > 0 {
		defines["GW_LIST"] = Quote(filepath.Join(scriptDir(dir, c), pbxList))
	}
	maps.Copy(defines, c.Defines)
	for _, name := range slices.Sorted(maps.Keys(defines)) {
		value := name
		if defines[name] != "" {
			value += "=" + defines[name]
		}
		args = append(args, "-A", value)
	}
	return args
}

// ready returns an error unless both SIP over UDP and HTTP work. Kamailio starts the
// processes for HTTP last.
func (k *Kamailio) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := pingSIP(ctx, k.SIPAddress()); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.SignalURL(), http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		return fmt.Errorf("a signal without the secret got HTTP %d: %s", res.StatusCode, b)
	}
	return nil
}

// pingSIP sends OPTIONS over UDP and waits for any answer.
func pingSIP(ctx context.Context, address string) error { return pingSIPOver(ctx, "udp", address) }

// pingSIPOver is like pingSIP, but over "udp" or "tcp".
func pingSIPOver(ctx context.Context, network, address string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer c.Close()
	// A datagram to a server that is not up yet is lost, so try again soon.
	_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	local := c.LocalAddr().String()
	id := strconv.FormatInt(time.Now().UnixNano(), 36)
	_, err = fmt.Fprintf(c, "OPTIONS sip:%[1]s SIP/2.0\r\nVia: SIP/2.0/%[4]s %[2]s;branch=z9hG4bK%[3]s;rport\r\nMax-Forwards: 5\r\n"+
		"From: <sip:ready@%[2]s>;tag=%[3]s\r\nTo: <sip:%[1]s>\r\nCall-ID: %[3]s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
		address, local, id, strings.ToUpper(network))
	if err != nil {
		return err
	}
	b := make([]byte, 2048)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(b[:n]), "SIP/2.0 ") {
		return fmt.Errorf("OPTIONS got %.40q", b[:n])
	}
	return nil
}
