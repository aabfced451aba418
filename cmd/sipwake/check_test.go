package main

import (
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
			for _, args := range [][]string{{"check", name}, {"serve", "--config", name}} {
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
	for _, args := range [][]string{{"check", "sipwake.yml"}, {"check", "--config", "sipwake.yml"}} {
		stdout, stderr, status := sipwake(t, dir, args...)
		if stdout != "sipwake.yml: ok\n" || stderr != "" || status != 0 {
			t.Errorf("%v: status %d: %s%s", args, status, stdout, stderr)
		}
	}
}

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
	f("--aor=STRING or --call-id=STRING", "trace")
	f("--drain", "serve", "--drain", "soon")
}
