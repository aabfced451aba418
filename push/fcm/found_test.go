package fcm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/fcm"
)

// A file makes an app by its name, and that app pushes.
func TestFromDir(t *testing.T) {
	sim, given := start(t, fcmsim.Options{})
	dir := t.TempDir()
	put := func(account string) {
		t.Helper()
		if err := os.Rename(account, filepath.Join(dir, "fcmkey.com.example.app.json")); err != nil {
			t.Fatal(err)
		}
	}
	put(given.CredentialsFile)
	for _, other := range []string{"README", "pushkit.com.a.p12", "account.json"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	find := func() push.App {
		t.Helper()
		list, err := fcm.FromDir(dir)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		list[0].Endpoint, list[0].CAFile = sim.URL(), given.CAFile
		return build(t, &list[0])
	}
	app := find()
	if diff := cmp.Diff([]string{project, "com.example.app"}, app.Packages); diff != "" {
		t.Error(diff)
	}
	if r := app.Client.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
	if find().Fingerprint != app.Fingerprint {
		t.Error("the same file has two fingerprints")
	}
	if app.Any {
		t.Error("an app of one package serves all")
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	move("fcmkey.com.example.app.json", "fcmkey.json")
	if all := find(); !all.Any || len(all.Packages) != 1 {
		t.Errorf("fcmkey.json makes %+v", all)
	}
	move("fcmkey.json", "fcmkey.com.example.app.json")
	account, err := sim.MakeAccount(t.TempDir(), project)
	if err != nil {
		t.Fatal(err)
	}
	put(account)
	if find().Fingerprint == app.Fingerprint {
		t.Error("the new key was not noticed")
	}
}

func TestFromDirErrors(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"fcmkey.com.a.txt", "fcmkey.com b.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := fcm.FromDir(dir)
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		"fcmkey.com b.json: packages[0] must have letters, digits, dots, colons, hyphens and underscores only",
		"fcmkey.com.a.txt: its name must be fcmkey.PACKAGE.json or fcmkey.json",
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := fcm.FromDir(filepath.Join(dir, "none")); err == nil {
		t.Error("no error for a directory that is not there")
	}
}
