package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kamailioCfg = "listen=udp:192.0.2.1:5060\nrequest_route {\n\tif (!save(\"location\")) {\n\t}\n\texit;\n\tif (!lookup(\"location\")) {\n\t}\n}\n"

// A patch is printed, and no file is changed.
func TestWire(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "kamailio.cfg", []byte(kamailioCfg))
	stdout, stderr, status := sipwake(t, dir, "wire", "kamailio.cfg", "--domain", "example.org", "--config", "sipwake.yml")
	for _, want := range []string{"+\troute(SIPWAKE_REGISTER);\n", "+#!define SIPWAKE_DOMAIN \"example.org\"\n", "+++ sipwake-local.cfg\n", "+#!define SIPWAKE_NODE \"sip1\"\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	if status != 0 || !strings.Contains(stderr, "the secret is a new one") || !strings.Contains(stderr, "patch -p0") ||
		!strings.Contains(stderr, "PKG_MEMORY=32") || !strings.Contains(stderr, "kamailio -M 32 -c -f") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "kamailio.cfg")); err != nil || string(text) != kamailioCfg {
		t.Errorf("the file was changed: %s %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "sipwake-local.cfg")); err == nil {
		t.Error("a file was written")
	}

	// With a configuration the secret and the token are those of sipwake.
	write(t, dir, "sip7.secret", []byte("9fa1c07d-wire-77e3\n"))
	write(t, dir, "rpc.token", []byte("4be2d915-wire-c86f\n"))
	write(t, dir, "sipwake.yml", []byte("rpc: {token_files: [rpc.token]}\nnodes:\n  - {id: sip7, url: \"http://192.0.2.1:5060\", secret_file: sip7.secret}\n  - {id: os, type: opensips, url: \"http://192.0.2.1:8888\"}\n"))
	stdout, stderr, status = sipwake(t, dir, "wire", "kamailio.cfg", "--config", "sipwake.yml")
	for _, want := range []string{"SIPWAKE_NODE \"sip7\"", "SIPWAKE_SECRET \"9fa1c07d-wire-77e3\"", "SIPWAKE_TOKEN \"4be2d915-wire-c86f\"", "SIPWAKE_URL \"http://127.0.0.1:8060/rpc\""} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	if status != 0 || !strings.Contains(stderr, "--domain") {
		t.Errorf("status %d: %s", status, stderr)
	}

	f := func(text, want string, args ...string) {
		t.Helper()
		write(t, dir, "kamailio.cfg", []byte(text))
		_, stderr, status := sipwake(t, dir, append([]string{"wire", "kamailio.cfg", "--config", "sipwake.yml"}, args...)...)
		if status != 1 || !strings.Contains(stderr, want) {
			t.Errorf("status %d: %s", status, stderr)
		}
	}
	f(kamailioCfg, `has no node "sip9" of type kamailio`, "--node", "sip9")
	f("include_file \"sipwake.cfg\"\n", "includes sipwake.cfg already")
	f("nothing\n", "has no request_route")
	f("request_route {\n}\n", "put route(SIPWAKE_CALL)")
	write(t, dir, "sipwake.yml", []byte("nodes: 7\n"))
	f(kamailioCfg, "sipwake.yml:1: nodes: must be a list")
	if _, stderr, status := sipwake(t, dir, "wire", "nowhere.cfg"); status != 1 || !strings.Contains(stderr, "cannot read kamailio.cfg") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
