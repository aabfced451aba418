package cfg_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/kamailio/cfg"
)

// Every way to define the script must be a script.
func TestScriptsParse(t *testing.T) {
	kamailio, err := stack.Find("kamailio")
	if err != nil {
		if os.Getenv("SIPWAKE_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, cfg.Files); err != nil {
		t.Fatal(err)
	}
	script := "kamailio.cfg"
	f := func(defines ...string) {
		t.Helper()
		args := []string{"-c", "-f", filepath.Join(dir, script), "-Y", dir, "-M", "16"}
		for _, d := range defines {
			args = append(args, "-A", d)
		}
		out, err := exec.Command(kamailio, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "config file ok") {
			t.Errorf("%s %v: %v\n%s", script, defines, err, out)
		}
	}
	f()
	f("SIPWAKE_ANSWER_FIRST", `SIPWAKE_TOKEN="t"`, `SIPWAKE_SECRET="s"`)
	f("SIPWAKE_555", "SIPWAKE_PUSH_ONLY", "SIPWAKE_DOWN_480")
	f("SIPWAKE_ANSWER_FIRST", "SIPWAKE_555", "SIPWAKE_USE_DOMAIN")
	f(`SIPWAKE_DOMAIN="example.org"`, "SIPWAKE_HOLD_S=40", "SIPWAKE_RING_MS=90000", "SIPWAKE_BFLAG=3")
	f("WITH_DMQ", "DMQ_PORT=5070", `DMQ_SELF="sip:127.0.0.1:5070"`, `DMQ_PEER="sip:127.0.0.2:5070"`, `SIP_PEERS="127.0.0.2/32"`)
	f(`SIP_PEERS="127.0.0.2/32,127.0.0.3/32"`, "SIPWAKE_FAR", `SIPWAKE_SOCKET="udp:127.0.0.1:5060"`)

	script = "gateway.cfg"
	list := filepath.Join(dir, "dispatcher.list")
	if err := os.WriteFile(list, []byte("1 sip:192.0.2.30:5060\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := func(defines ...string) {
		t.Helper()
		f(append([]string{`GW_LIST="` + list + `"`}, defines...)...)
	}
	g()
	g("GW_UNREG=1", "GW_EXPIRES=0", `GW_HOST="192.0.2.10:5060"`)
	g("SIPWAKE_ANSWER_FIRST", "SIPWAKE_555", "SIPWAKE_PUSH_ONLY", "SIPWAKE_USE_DOMAIN")
	g("SIPWAKE_STRICT", "SIPWAKE_DOWN_480", "GW_SETS_HOOK=GW_SET")
}
