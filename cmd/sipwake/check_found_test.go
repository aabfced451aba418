package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// What services are known to refuse is a warning, and the status is 0.
func TestCheckDoubts(t *testing.T) {
	dir := t.TempDir()
	keys(t, dir)
	sim, err := apnssim.Start(apnssim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	_, other, err := sim.MakeCertificate(dir, apnssim.Certificate{BundleID: "com.example.other", End: time.Now().Add(48*time.Hour + time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(good("127.0.0.1:8060", "127.0.0.1:8061"), "team_id: ABCDE12345", "team_id: ABCDE1234", 1) +
		"webpush: {vapid_key_file: key.pem, subject: mailto:ops@localhost}\n"
	text = strings.Replace(text, "fcm:\n", "  - bundle_id: com.example.old\n    certificate_file: "+other+"\nfcm:\n", 1)
	write(t, dir, "sipwake.yml", []byte(text))
	want := `warning: apns app "com.example.phone": team_id has 9 characters, those of Apple have 10
warning: apns app "com.example.old": certificate_file "com.example.other.pem" is for "com.example.other", and not for "com.example.old"
warning: apns app "com.example.old": the certificate expires in 2 days, on ` + time.Now().Add(48*time.Hour+time.Minute).UTC().Format(time.DateOnly) + `
warning: webpush app "-": subject has the host "localhost", which nobody else can reach: Apple refuses all pushes with it
`
	stdout, stderr, status := sipwake(t, dir, "check", nobody, "sipwake.yml")
	if d := cmp.Diff(want, stderr); d != "" || status != 0 {
		t.Errorf("status %d: %s", status, d)
	}
	if !strings.Contains(stdout, "certificate ends ") {
		t.Error(stdout)
	}
}

func TestCheckJSON(t *testing.T) {
	dir := t.TempDir()
	keys(t, dir)
	check := func() (checked, int) {
		t.Helper()
		stdout, _, status := sipwake(t, dir, "check", nobody, "--json", "sipwake.yml")
		var r checked
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("%v: %s", err, stdout)
		}
		return r, status
	}
	write(t, dir, "sipwake.yml", []byte(good("127.0.0.1:8060", "127.0.0.1:8061")))
	want := checked{
		File: "sipwake.yml", OK: true,
		Apps: []checkedApp{
			{Provider: "apns", Packages: []string{"com.example.phone"}, Environment: "production", Default: true},
			{Provider: "apns", Packages: []string{"com.example.phone"}, Environment: "sandbox"},
			{Provider: "fcm", Packages: []string{"example-phone"}, Default: true},
		},
		Nodes: []checkedNode{{ID: "sip1", Type: "kamailio", URL: "http://127.0.0.1:5060"}},
		Store: checkedStore{"local", []string{"sipwake.db"}},
	}
	got, status := check()
	got.File = filepath.Base(got.File)
	if d := cmp.Diff(want, got); d != "" || status != 0 {
		t.Errorf("status %d: %s", status, d)
	}
	edit(t, dir, "key_file: key.p8", "key_file: none.p8")
	edit(t, dir, "level: debug", "level: loud")
	if got, status := check(); got.OK || len(got.Errors) != 2 || len(got.Nodes) != 1 || status != 1 {
		t.Errorf("status %d: %+v", status, got)
	}
	write(t, dir, "sipwake.yml", []byte("a: ["))
	if got, status := check(); got.OK || len(got.Errors) != 1 || status != 1 {
		t.Errorf("status %d: %+v", status, got)
	}
}

// Root hears of the files that the service's user cannot read.
func TestCheckUnreadable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	const uid = 65532
	dir, err := os.MkdirTemp("", "check") //nolint:usetesting // whose directory only its owner may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	keys(t, dir)
	write(t, dir, "sipwake.yml", []byte(good("127.0.0.1:8060", "127.0.0.1:8061")))
	own := func(user, group int, mode os.FileMode, names ...string) {
		t.Helper()
		for _, name := range names {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.Chown(path, user, group), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(want string) {
		t.Helper()
		stdout, stderr, status := sipwake(t, dir, "check", fmt.Sprintf("--user=%d", uid), "sipwake.yml")
		if d := cmp.Diff(want, stderr); d != "" || status != 0 || !strings.Contains(stdout, "looked at for user 65532\n") {
			t.Errorf("status %d: %s%s", status, d, stdout)
		}
	}
	own(0, uid, 0o640, "sipwake.yml", "node.secret")
	own(uid, 0, 0o400, "account.json")
	own(0, 0, 0o640, "key.p8")
	check("warning: sipwake.yml:16: apns[0].key_file: user 65532 cannot read key.p8: chgrp 65532 key.p8; chmod g+r key.p8\n")
	own(uid, 0, 0o040, "key.p8") // an owner has only what owners have
	own(0, uid, 0o640, "account.json")
	check("warning: sipwake.yml:16: apns[0].key_file: user 65532 cannot read key.p8: chgrp 65532 key.p8; chmod g+r key.p8\n")
	own(0, uid, 0o640, "key.p8")
	check("")
	own(0, 0, 0o700, ".")
	_, stderr, _ := sipwake(t, dir, "check", fmt.Sprintf("--user=%d", uid), "sipwake.yml")
	if !strings.Contains(stderr, "cannot read key.p8: the directory "+dir+" is closed to it\n") {
		t.Error(stderr)
	}
}

// --online connects and authenticates, and pushes nobody.
func TestCheckOnline(t *testing.T) {
	dir := t.TempDir()
	keys(t, dir)
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
	account, err1 := google.MakeAccount(dir, "example-phone")
	googleCA, err2 := google.WriteCA(dir)
	appleCA, err3 := apple.WriteCA(dir)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "sipwake.yml", []byte(`store: {local: {path: sipwake.db}}
apns:
  - {bundle_id: com.example.phone, team_id: ABCDE12345, key_id: 12345ABCDE, key_file: key.p8, ca_file: `+appleCA+`, endpoint: "`+apple.URL()+`", sandbox_endpoint: "`+apple.URL()+`"}
fcm:
  - {credentials_file: `+account+`, ca_file: `+googleCA+`, endpoint: "`+google.URL()+`"}
`))
	stdout, stderr, status := sipwake(t, dir, "check", nobody, "--online", "sipwake.yml")
	want := `apns   com.example.phone  production (default), online: ok
apns   com.example.phone  sandbox, online: ok
fcm    example-phone      online: ok
store  local              sipwake.db
sipwake.yml: ok
`
	if d := cmp.Diff(want, stdout); d != "" || stderr != "" || status != 0 {
		t.Errorf("status %d: %s%s", status, d, stderr)
	}
	sends, grants := google.Requests()
	_, connected := apple.Connections()
	if accepted, refused := apple.Counts(); sends != 0 || grants != 1 || accepted+refused != 0 || connected != 2 {
		t.Errorf("%d messages, %d access tokens; %d pushes, %d connections", sends, grants, accepted+refused, connected)
	}
	google.BehaveOAuth(fcmsim.Behaviour{Status: 400, Code: "invalid_grant"})
	_, stderr, status = sipwake(t, dir, "check", nobody, "--online", "sipwake.yml")
	if stderr != "sipwake: fcm example-phone: no access token: HTTP 400 invalid_grant\n" || status != 1 {
		t.Errorf("status %d: %s", status, stderr)
	}
	apple.Close()
	stdout, stderr, status = sipwake(t, dir, "check", nobody, "--online", "--json", "sipwake.yml")
	if !strings.Contains(stdout, "cannot connect to APNs") || stderr != "sipwake: sipwake.yml has 3 problems\n" || status != 1 {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}

type tried struct {
	wake.Node
	err error
}

func (n tried) Probe(context.Context) error { return n.err }

// Each node is tried, and says what is wrong with it.
func TestProbe(t *testing.T) {
	r := &checked{Nodes: []checkedNode{{ID: "sip1"}, {ID: "sip2"}, {ID: "sip3"}}, Apps: []checkedApp{{Provider: pnparam.WebPush}}}
	probe(r, map[string]wake.Node{"sip1": tried{}, "sip2": tried{err: errors.New("wrong secret")}}, make([]push.App, 1))
	var got []string
	for _, n := range r.Nodes {
		got = append(got, n.Online)
	}
	got = append(got, r.Apps[0].Online)
	want := []string{"ok", "failed", "cannot be tried", "cannot be tried"}
	if d := cmp.Diff(want, got); d != "" || len(r.Errors) != 1 || r.Errors[0] != "node sip2: wrong secret" {
		t.Errorf("%s%v", d, r.Errors)
	}
}

// Registrations so short that iOS would not deliver their refresh pushes are a warning,
// if there is an app for iOS.
func TestCheckRefreshOfIPhones(t *testing.T) {
	dir := configured(t)
	f := func(wake, want string) {
		t.Helper()
		write(t, dir, "sipwake.yml", []byte(strings.Replace(good("127.0.0.1:0", "127.0.0.1:0"), "log:", "wake: {"+wake+"}\nlog:", 1)))
		if _, stderr, status := sipwake(t, dir, "check", nobody, "sipwake.yml"); stderr != want || status != 0 {
			t.Errorf("%s: status %d: %s\nwant %s", wake, status, stderr, want)
		}
	}
	const warning = "warning: sipwake.yml:19: wake.min_expires: is %s: an iPhone that registers for less than 24m0s would have to be woken " +
		"more often than the 3 times an hour that iOS delivers, and is not (background_per_hour of apns)\n"
	f("refresh: {enabled: true}", fmt.Sprintf(warning, "4m0s"))
	f("min_expires: 10m, refresh: {enabled: true}", fmt.Sprintf(warning, "10m0s"))
	f("min_expires: 24m, refresh: {enabled: true}", "")
	f("min_expires: 10m", "")
}
