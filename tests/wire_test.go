package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/kamailio/cfg"
	"github.com/sipwake/sipwake/kamailio/wire"
)

// stockKamailio returns the kamailio.cfg that came with the Kamailio of these tests.
func stockKamailio(t *testing.T) string {
	t.Helper()
	kamailio().found(t)
	found, err := filepath.Glob(must2(stack.Cache())(t) + "/*/etc/kamailio/kamailio.cfg")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		found = []string{"/etc/kamailio/kamailio.cfg"}
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Skip("there is no kamailio.cfg of a package: ", err)
	}
	return string(text)
}

// wiredStock returns that file with the changes of `sipwake wire` and more defines.
func wiredStock(t *testing.T, listen []string, defines ...string) string {
	t.Helper()
	w, err := wire.File(stockKamailio(t), wire.Options{Domain: domain, Listen: listen})
	if err != nil || len(w.Missing) > 0 {
		t.Fatalf("%v, missing is %q", err, w.Missing)
	}
	var b strings.Builder
	b.WriteString("#!KAMAILIO\n")
	for _, d := range defines {
		fmt.Fprintf(&b, "#!define %s\n", d)
	}
	return b.String() + w.Text
}

// What `sipwake wire` makes of Kamailio's own file is good, whichever of its features
// are switched on.
func TestWireStock(t *testing.T) {
	t.Parallel()
	kamailio().found(t)
	program := must2(stack.Find("kamailio"))(t)
	include, err := cfg.Files.ReadFile("sipwake.cfg")
	if err != nil {
		t.Fatal(err)
	}
	for _, defines := range []string{"", "WITH_NAT", "WITH_NAT WITH_BLOCK3XX WITH_BLOCK401407 WITH_VOICEMAIL", "WITH_TLS WITH_NAT WITH_ANTIFLOOD WITH_JSONRPC",
		"WITH_JSONRPC", "WITH_ANTIFLOOD", "WITH_PSTN", "WITH_DEBUG WITH_NAT WITH_NATSIPPING"} {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"sipwake.cfg": string(include), wire.LocalFile: "#!define SIPWAKE_NODE \"sip1\"\n#!define SIPWAKE_SECRET \"s\"\n",
			"kamailio.cfg": wiredStock(t, []string{"udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"}, strings.Fields(defines)...)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command(program, "-M", "32", "-c", "-f", filepath.Join(dir, "kamailio.cfg"), "-Y", dir).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("config file ok")) || bytes.Contains(out, []byte("CRITICAL")) {
			t.Errorf("%q: %v\n%s", defines, err, out)
		}
	}
}

// A call through Kamailio's own file, wired, wakes a phone.
func TestWireStockWorks(t *testing.T) {
	t.Parallel()
	for _, defines := range []string{"", "WITH_JSONRPC WITH_ANTIFLOOD"} {
		script := wiredStock(t, []string{"udp:SIP_ADDR:SIP_PORT", "tcp:SIP_ADDR:SIP_PORT"}, strings.Fields(defines)...)
		wokenThrough(t, strings.Replace(script, `include_file "`+wire.LocalFile+`"`, "", 1), nil, false)
	}
}
