package cfg_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/opensips/cfg"
)

// OpenSIPS must take the scripts, as they are and with every setting.
func TestScriptsParse(t *testing.T) {
	program, modules, err := stack.FindOpenSIPS()
	if err != nil {
		if os.Getenv("SIPWAKE_REQUIRE_OPENSIPS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	check := func(script string) {
		t.Helper()
		cmd := exec.Command(program, "-C", "-f", script)
		cmd.Dir = filepath.Dir(script)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "config file ok") {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	f := func(name string, settings map[string]string) {
		t.Helper()
		text, err := cfg.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		script, err := stack.WriteOpenSIPS(filepath.Join(t.TempDir(), "node"), modules, stack.OpenSIPSConfig{
			Node: "edge1", Address: "127.0.0.1", SIPPort: 5060, ParkPort: 5099, MIPort: 8888, URL: "http://127.0.0.1:8060/rpc",
			Token: "t", Script: string(text), Settings: settings,
		})
		if err != nil {
			t.Fatal(err)
		}
		check(script)
	}
	f("opensips.cfg", nil)
	f("opensips.cfg", map[string]string{"sipwake_answer_first": "i:1", "sipwake_strict": "i:1", "sipwake_domain": "s:example.org"})
	f("pn_enable.cfg", nil)
	f("gateway.cfg", map[string]string{"gw_pbx": "s:192.0.2.30:5060", "sipwake_trunk": "s:192.0.2.30", "gw_host": "s:192.0.2.10:5060"})

	// With the settings.cfg that is shipped, and with mpath alone changed.
	dir := t.TempDir()
	if err := os.CopyFS(dir, cfg.Files); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"opensips.cfg", "pn_enable.cfg", "gateway.cfg"} {
		script := filepath.Join(dir, name)
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		own := strings.Replace(string(text), "/usr/lib/x86_64-linux-gnu/opensips/modules/", modules+"/", 1)
		if own == string(text) {
			t.Errorf("%s has another mpath than expected", name)
		}
		if err := os.WriteFile(script, []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
		check(script)
	}
}
