package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each testdata/check/X.yml has an X.want with exactly what `sipwake check` says,
// after "sipwake: ". serve must say the same and not start.
func TestCheckBroken(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.yml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	dir := t.TempDir()
	keys(t, dir)
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, name, text)
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yml") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"check", nobody, name}, {"serve", "--config", name}} {
				stdout, stderr, status := sipwake(t, dir, args...)
				if d := cmp.Diff("sipwake: "+string(want), stderr); d != "" {
					t.Errorf("%s: want -, got +:\n%s", args[0], d)
				}
				if stdout != "" || status != 1 {
					t.Errorf("%s: status %d, %q on standard output", args[0], status, stdout)
				}
				if strings.Contains(stderr, "hunter2") {
					t.Errorf("%s shows a secret", args[0])
				}
			}
		})
	}
}

func TestCheckMissingFile(t *testing.T) {
	_, stderr, status := sipwake(t, t.TempDir(), "check", "none.yml")
	want := "sipwake: cannot read configuration: open none.yml: no such file or directory\n"
	if stderr != want || status != 1 {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestCheckGood(t *testing.T) {
	dir := t.TempDir()
	keys(t, dir)
	write(t, dir, "sipwake.yml", []byte(good("127.0.0.1:8060", "127.0.0.1:8061")))
	const want = `apns   com.example.phone  production (default)
apns   com.example.phone  sandbox
fcm    example-phone
node   sip1               kamailio, http://127.0.0.1:5060
store  local              sipwake.db
sipwake.yml: ok
`
	for _, args := range [][]string{{"check", "sipwake.yml"}, {"check", "--config", "sipwake.yml"}} {
		stdout, stderr, status := sipwake(t, dir, append(args, nobody)...)
		if d := cmp.Diff(want, stdout); d != "" || stderr != "" || status != 0 {
			t.Errorf("%v: status %d: %s%s", args, status, d, stderr)
		}
	}
}

// Two keys of one iOS app, for production and the sandbox, are fine for check, and
// for serve.
func TestKeyForEachEnvironment(t *testing.T) {
	dir := t.TempDir()
	keys(t, dir)
	write(t, dir, "sipwake.yml", []byte(strings.Replace(good("127.0.0.1:0", "127.0.0.1:0"), "fcm:", `    environment: production
  - bundle_id: com.example.phone
    team_id: ABCDE12345
    key_id: 12345ABCDF
    key_file: key.p8
    environment: sandbox
fcm:`, 1)))
	const want = `apns   com.example.phone  production (default)
apns   com.example.phone  sandbox
fcm    example-phone
node   sip1               kamailio, http://127.0.0.1:5060
store  local              sipwake.db
sipwake.yml: ok
`
	stdout, stderr, status := sipwake(t, dir, "check", nobody, "sipwake.yml")
	if d := cmp.Diff(want, stdout); d != "" || stderr != "" || status != 0 {
		t.Errorf("status %d: %s%s", status, d, stderr)
	}
	serve(t, dir)
}

// nobody is a user that does not exist, so that files are not looked at for one.
const nobody = "--user=there-is-no-such-user"

// good is a configuration with one of each, whose files are those of keys.
func good(rpc, operations string) string {
	return `rpc:
  listen: ` + rpc + `
operations:
  listen: ` + operations + `
store:
  local:
    path: sipwake.db
nodes:
  - id: sip1
    url: http://127.0.0.1:5060
    secret_file: node.secret
apns:
  - bundle_id: com.example.phone
    team_id: ABCDE12345
    key_id: 12345ABCDE
    key_file: key.p8
fcm:
  - credentials_file: account.json
log:
  level: debug
`
}

func TestUsage(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		_, stderr, status := sipwake(t, t.TempDir(), args...)
		if status != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
	f("expected one of")
	f("unexpected argument", "dance")
	f("--last: expected", "trace", "--last", "many")
	f("--drain", "serve", "--drain", "soon")
}

// Secrets that others can read are a warning, each with its place; what is public
// is none.
func TestCheckOpenSecrets(t *testing.T) {
	dir := t.TempDir()
	keys(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "found"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "found/fcmkey.com.example.other.json", serviceAccount(t))
	write(t, dir, "sipwake.yml", []byte(strings.Replace(good("127.0.0.1:8060", "127.0.0.1:8061"), "operations:",
		"  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: cert.pem\n  token_files: [node.secret, rpc.token]\noperations:", 1)+
		"webhooks:\n  - provider: hms\n    url: http://127.0.0.1/\n    secret_file: long.secret\ncredentials_dir: found\n"))
	write(t, dir, "long.secret", []byte("a-secret-of-a-webhook"))
	check := func(want string) {
		t.Helper()
		stdout, stderr, status := sipwake(t, dir, "check", nobody, "sipwake.yml")
		if !strings.HasSuffix(stdout, "\nsipwake.yml: ok\n") || stderr != want || status != 0 {
			t.Errorf("status %d: %s\nwant %s, got\n%s", status, stdout, want, stderr)
		}
	}
	chmod := func(mode os.FileMode, names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	chmod(0o644, "sipwake.yml", "cert.pem")
	chmod(0o640, "key.pem", "node.secret")
	check("")
	chmod(0o644, "key.pem", "rpc.token", "node.secret", "key.p8", "account.json", "found/fcmkey.com.example.other.json")
	chmod(0o602, "long.secret")
	warning := func(line int, field, can, file string) string {
		return fmt.Sprintf("warning: sipwake.yml:%d: %s: every user of this machine can %s %s: chmod o= %s\n", line, field, can, file, file)
	}
	check(warning(4, "rpc.key_file", "read", "key.pem") + warning(6, "rpc.token_files[0]", "read", "node.secret") +
		warning(6, "rpc.token_files[1]", "read", "rpc.token") + warning(15, "nodes[0].secret_file", "read", "node.secret") +
		warning(20, "apns[0].key_file", "read", "key.p8") + warning(22, "fcm[0].credentials_file", "read", "account.json") +
		warning(28, "webhooks[0].secret_file", "change", "long.secret") +
		warning(29, "credentials_dir", "read", "found/fcmkey.com.example.other.json"))
	chmod(0o600, "key.pem", "rpc.token", "node.secret", "key.p8", "account.json", "found/fcmkey.com.example.other.json", "long.secret")
	check("")
	edit(t, dir, "secret_file: node.secret", "secret: in-the-file-itself")
	chmod(0o644, "sipwake.yml")
	check(warning(15, "nodes[0].secret", "read", "sipwake.yml"))
}
