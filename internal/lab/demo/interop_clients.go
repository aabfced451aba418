package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// clients are programs of other makers, each "" if missing.
type clients struct {
	node, modules           string // Node.js, and the folder with JsSIP and ws
	baresip, baresipModules string
	sipp                    string
	noWebSocket             bool // Kamailio has no module for it

	jssipVersion, wsVersion string
}

// findClients finds what tests/setup/interop.sh has downloaded.
func findClients() (c clients, err error) {
	cache, err := stack.Cache()
	if err != nil {
		return c, err
	}
	c.modules = filepath.Join(cache, "interop", "node")
	c.jssipVersion, c.wsVersion = npmVersion(c.modules, "jssip"), npmVersion(c.modules, "ws")
	if c.jssipVersion != "" && c.wsVersion != "" {
		if c.node, err = exec.LookPath("node"); err != nil {
			c.node = ""
		}
	}
	if found, _ := filepath.Glob(filepath.Join(cache, "interop", "debian-*", "usr", "lib", "baresip", "modules")); len(found) > 0 {
		c.baresipModules = found[0]
		c.baresip, _ = stack.Find("baresip") // "" if it is missing
	}
	c.sipp, _ = stack.Find("sipp")
	return c, nil
}

// browsers reports whether JsSIP can run.
func (c clients) browsers() bool { return c.node != "" && !c.noWebSocket }

// npmVersion returns the version of an npm package, "" if it is missing.
func npmVersion(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, "node_modules", name, "package.json"))
	var p struct{ Version string }
	if err != nil || json.Unmarshal(text, &p) != nil {
		return ""
	}
	return p.Version
}

// print prints what runs, and what is skipped and why.
func (c clients) print(ctx context.Context, sipwake string) {
	fmt.Printf("interop: sipwake %s\n", version(ctx, sipwake, "--version"))
	if kamailio, err := stack.Find("kamailio"); err == nil {
		fmt.Printf("interop: Kamailio %s\n", version(ctx, kamailio, "-v"))
	}
	fmt.Println("interop: simulated FCM and Web Push, phones of the lab")
	switch {
	case c.noWebSocket:
		fmt.Println("interop: JsSIP is skipped: this Kamailio has no module websocket")
	case c.node == "":
		fmt.Println("interop: JsSIP is skipped: Node.js, or JsSIP and ws from npm, are missing")
	default:
		fmt.Printf("interop: JsSIP %s with ws %s on Node.js %s\n", c.jssipVersion, c.wsVersion, version(ctx, c.node, "--version"))
	}
	if c.baresip != "" {
		fmt.Printf("interop: baresip %s\n", version(ctx, c.baresip, "-h"))
	} else {
		fmt.Println("interop: baresip is skipped: Debian's package baresip-core is missing")
	}
	if c.sipp != "" {
		fmt.Printf("interop: SIPp %s\n", version(ctx, c.sipp, "-v"))
	} else {
		fmt.Println("interop: SIPp is skipped: Debian's package sip-tester is missing")
	}
}

var versionText = regexp.MustCompile(`v?\d+\.\d+(\.\d+)?\S*`)

// version returns the version that the program prints.
func version(ctx context.Context, path, flag string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, flag).CombinedOutput()
	// baresip and SIPp print it and exit with an error.
	if v := versionText.FindString(string(out)); v != "" {
		return strings.TrimSuffix(strings.TrimPrefix(v, "v"), ".")
	}
	if text := strings.TrimSpace(string(out)); err == nil && text != "" {
		return text // a commit
	}
	return "of an unknown version"
}
