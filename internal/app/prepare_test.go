package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/push"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Load(write(t, t.TempDir(), "sipwake.yml", text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// credentials is a directory with a certificate, a key and two service accounts
// of one project.
func credentials(t *testing.T) string {
	t.Helper()
	apple, err := apnssim.Start(apnssim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer apple.Close()
	google, err := fcmsim.Start(fcmsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer google.Close()
	dir := t.TempDir()
	take := func(path string, err error) func(name string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return func(name string) {
			t.Helper()
			if err := os.Rename(path, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	tmp := t.TempDir()
	p12, _, err := apple.MakeCertificate(tmp, apnssim.Certificate{BundleID: "com.a", Production: true})
	take(p12, err)("pushkit.com.a.p12")
	take(apple.MakeKey(tmp, "TEAM123456", "KEY1234567"))("apns.com.b.TEAM123456.KEY1234567.p8")
	take(google.MakeAccount(tmp, "project"))("fcmkey.com.a.json")
	take(google.MakeAccount(tmp, "project"))("fcmkey.com.b.json")
	return dir
}

func list(t *testing.T, cfg *config.Config) []string {
	t.Helper()
	apps, err := app.Apps(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range apps {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", a.Provider, strings.Join(a.Packages, ","), a.Environment)))
	}
	return out
}

// Files in the directory make apps; what is configured wins over them.
func TestCredentialsDir(t *testing.T) {
	dir := credentials(t)
	f := func(text string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, list(t, load(t, text+"\ncredentials_dir: "+dir))); diff != "" {
			t.Error(diff)
		}
	}
	f("", "apns com.b production", "apns com.b sandbox", "apns com.a production", "fcm project,com.a", "fcm com.b")
	key := filepath.Join(dir, "apns.com.b.TEAM123456.KEY1234567.p8")
	f("apns: [{bundle_id: com.a, team_id: TEAM123456, key_id: KEY1234567, key_file: "+key+"}]",
		"apns com.a production", "apns com.a sandbox", "apns com.b production", "apns com.b sandbox",
		"fcm project,com.a", "fcm com.b")
	f("fcm: [{credentials_file: "+filepath.Join(dir, "fcmkey.com.a.json")+"}]",
		"fcm project", "apns com.b production", "apns com.b sandbox", "apns com.a production", "fcm com.a", "fcm com.b")
}

// What is in the directory is read anew each time: a file that has come, one that
// has gone, and one that has changed.
func TestCredentialsDirIsReadAgain(t *testing.T) {
	dir := credentials(t)
	cfg := load(t, "credentials_dir: "+dir)
	before, err := app.Apps(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "fcmkey.com.b.json"), filepath.Join(dir, "fcmkey.com.a.json")); err != nil {
		t.Fatal(err)
	}
	after, err := app.Apps(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 5 || len(after) != 4 {
		t.Fatalf("%d apps, then %d", len(before), len(after))
	}
	for i, a := range after {
		if same := a.Fingerprint == before[i].Fingerprint; same != (i < 3) {
			t.Errorf("%s %v: same fingerprint %v", a.Provider, a.Packages, same)
		}
	}
}

func TestProblemsNameTheLine(t *testing.T) {
	dir := t.TempDir()
	f := func(text string, want ...string) {
		t.Helper()
		_, err := app.Apps(load(t, strings.ReplaceAll(text, "DIR", dir)))
		if err == nil {
			t.Fatalf("no error, want %q", want)
		}
		var got []string
		for line := range strings.Lines(strings.ReplaceAll(err.Error(), dir, "DIR")) {
			_, rest, _ := strings.Cut(strings.TrimSpace(line), "sipwake.yml:")
			got = append(got, rest)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	f("\ncredentials_dir: DIR/none", "2: credentials_dir: cannot read directory: open DIR/none: no such file or directory")
	write(t, dir, "pushkit.com.a.p13", "")
	write(t, dir, "pushkit.com.b.pem", "")
	write(t, dir, "fcmkey.com.c.json", "{}")
	f("\ncredentials_dir: DIR",
		"2: credentials_dir: DIR/pushkit.com.a.p13: its name must end in .p12, .pem, .password or .pwd",
		"2: credentials_dir: credentials_file: DIR/fcmkey.com.c.json is not the JSON file of a service account (its type is not service_account, external_account or impersonated_service_account)")

	// What is wrong is said once, and what may be the app of a part that is wrong is not said
	// to be unknown.
	write(t, dir, "token", "of a tenant")
	write(t, dir, "rpc", "of the operator")
	f("\nrpc: {token_files: [DIR/rpc], tenants: [{name: a, token_files: [DIR/token], apps: [com.a]}]}",
		`2: rpc.tenants[0].apps[0]: no app has the package "com.a"`)
	f("\nrpc: {token_files: [DIR/rpc], tenants: [{name: a, token_files: [DIR/token], apps: [com.a]}]}\nrelays: [{provider: apns, url: 'https://push.example/rpc', token_file: DIR/none, packages: [com.a]}]",
		"3: relays[0].token_file: cannot read secret: open DIR/none: no such file or directory")

	// A payload that all apps of a kind share is said to be wrong once.
	good := dir
	dir = credentials(t)
	write(t, dir, "pushkitmessage.txt", "{\"aps\":{}")
	write(t, dir, "fcmmessage.txt", "{\n\"message\":{\"data\":{\"{FORM}\":1}}}")
	f("\ncredentials_dir: DIR",
		"2: credentials_dir: DIR/pushkitmessage.txt: line 1: it is not JSON: unexpected end of JSON input",
		"2: credentials_dir: DIR/fcmmessage.txt: line 2: message.data.{FORM}: a key cannot hold the keyword {FORM}")
	dir = good

	write(t, dir, "bad.json", "{\n\n\"a\": \"{B}\"}")
	write(t, dir, "good.json", "{}")
	f(`
apns:
  - bundle_id: com.a
    certificate_file: DIR/none
    templates:
      chat: DIR/good.json
      call: DIR/bad.json
    policy: {cancel: never}
`, "4: apns[0].certificate_file: cannot read file: open DIR/none: no such file or directory",
		"7: apns[0].templates.call: DIR/bad.json: line 3: a: unknown keyword {B}")
}

// The apps have what their configuration says.
func TestAppsHaveTheirPolicy(t *testing.T) {
	dir := credentials(t)
	apps, err := app.Apps(load(t, "fcm: [{credentials_file: "+filepath.Join(dir, "fcmkey.com.a.json")+", policy: {missed_call: true}}]"))
	if err != nil || len(apps) != 1 || !apps[0].Policy.MissedCall || apps[0].Policy.Cancel != push.CancelPushed {
		t.Fatalf("%+v, %v", apps, err)
	}
	rendered, err := apps[0].Templates.Render("com.a", push.PrivacyNone, push.HostileValues())
	if err != nil || !slices.ContainsFunc(rendered, func(r push.Rendered) bool { return r.Kind == push.Chat }) {
		t.Errorf("%+v, %v", rendered, err)
	}
}
