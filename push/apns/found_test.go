package apns_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
)

func move(t *testing.T, from, dir, name string) {
	t.Helper()
	if err := os.Rename(from, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, dir string) map[string]*apns.Config {
	t.Helper()
	list, err := apns.FromDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]*apns.Config)
	for i := range list {
		out[list[i].BundleID] = &list[i]
	}
	return out
}

// Files make apps by their names, and those apps push.
func TestFromDir(t *testing.T) {
	sim, given := start(t, apnssim.Options{})
	dir, tmp := t.TempDir(), t.TempDir()
	certificate := func(c apnssim.Certificate) (p12, pem string) {
		t.Helper()
		p12, pem, err := sim.MakeCertificate(tmp, c)
		if err != nil {
			t.Fatal(err)
		}
		return p12, pem
	}
	p12, _ := certificate(apnssim.Certificate{BundleID: "com.a", Password: "right", Production: true, Sandbox: true})
	move(t, p12, dir, "pushkit.com.a.p12")
	if err := os.WriteFile(filepath.Join(dir, "pushkit.com.a.password"), []byte("right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, pem := certificate(apnssim.Certificate{BundleID: "com.b", Sandbox: true})
	move(t, pem, dir, "pushkit.com.b.pem")
	key, err := sim.MakeKey(tmp, team, "KEYOFDIR00", "com.c-d")
	if err != nil {
		t.Fatal(err)
	}
	move(t, key, dir, "apns.com.c-d."+team+".KEYOFDIR00.p8")
	// MPUSH's names: no package, which the certificate says, and .pwd.
	p12, _ = certificate(apnssim.Certificate{BundleID: "com.d", Password: "pwd", Production: true, Topics: []string{"com.d", "com.d.voip"}})
	move(t, p12, dir, "pushkit.p12")
	if err := os.WriteFile(filepath.Join(dir, "pushkit.pwd"), []byte("pwd"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"README", "fcmkey.com.x.json", "AuthKey_X.p8"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	found := find(t, dir)
	if len(found) != 4 {
		t.Fatalf("found %v", found)
	}
	f := func(name string, env, byDefault pnparam.Environment, count int) {
		t.Helper()
		c := found[name]
		c.Endpoint, c.SandboxEndpoint, c.CAFile = sim.URL(), sim.URL(), given.CAFile
		all := apps(t, c)
		if len(all) != count || !all[byDefault].Default || all[env].Client == nil {
			t.Fatalf("%s: apps %+v", name, all)
		}
		if r := all[env].Client.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
			t.Errorf("%s: %+v", name, r)
		}
		if got := lastPush(t, sim).Topic; got != name+".voip" {
			t.Errorf("%s: topic %s", name, got)
		}
	}
	f("com.a", pnparam.Sandbox, pnparam.Production, 2)
	f("com.b", pnparam.Sandbox, pnparam.Sandbox, 1) // its only environment
	f("com.c-d", pnparam.Production, pnparam.Production, 2)
	f("com.d", pnparam.Production, pnparam.Production, 1)

	// A certificate that is replaced under its name is another one.
	before := apps(t, find(t, dir)["com.b"])[pnparam.Sandbox].Fingerprint
	if again := apps(t, find(t, dir)["com.b"])[pnparam.Sandbox].Fingerprint; again != before {
		t.Error("the same file has two fingerprints")
	}
	_, pem = certificate(apnssim.Certificate{BundleID: "com.b", Sandbox: true})
	move(t, pem, dir, "pushkit.com.b.pem")
	if after := apps(t, find(t, dir)["com.b"])[pnparam.Sandbox].Fingerprint; after == before {
		t.Error("the new certificate was not noticed")
	}
}

func TestFromDirErrors(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"pushkit.com.a.p12", "pushkit.com.a.pem", "pushkit.com.b.voip.p12", "pushkit.com.c.p13", "pushkit.com d.p12",
		"apns.com.e.p8", "apns.com.i.TEAM123456.KEY1234567.p8", "apns.com.i.TEAM123456.KEY1234568.sandbox.p8",
		"apns.com.f.TEAM.K-1.p8", "apns.com.g.TEAM.KEY.pem",
		"pushkit.pem", "pushkit.com.h.p12", "pushkit.com.h.pwd", "pushkit.com.h.password",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := apns.FromDir(dir)
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		"apns.com.e.p8: its name must be apns.PACKAGE.TEAM.KEY.p8, or with .production or .sandbox before .p8",
		"apns.com.f.TEAM.K-1.p8: key_id must have letters and digits only",
		"apns.com.g.TEAM.KEY.pem: its name must be apns.PACKAGE.TEAM.KEY.p8, or with .production or .sandbox before .p8",
		"apns.com.i.TEAM123456.KEY1234568.sandbox.p8: is for the same app as apns.com.i.TEAM123456.KEY1234567.p8; " +
			"keep one of them, or name the environment of each: .production.p8, .sandbox.p8",
		"pushkit.com d.p12: bundle_id must have letters, digits, dots and hyphens only",
		"pushkit.com.a.pem: is for the same app as pushkit.com.a.p12; keep one of them",
		`pushkit.com.b.voip.p12: bundle_id must be without ".voip", which is added where it is needed`,
		"pushkit.com.c.p13: its name must end in .p12, .pem, .password or .pwd",
		"pushkit.com.h.p12: has two files with its password, pushkit.com.h.password and pushkit.com.h.pwd; keep one of them",
		"pushkit.pem: certificate_file: pushkit.pem is neither PEM nor PKCS#12 with one key and its certificate: pkcs12: error reading P12 data: asn1: syntax error: sequence truncated",
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := apns.FromDir(filepath.Join(dir, "none")); err == nil {
		t.Error("no error for a directory that is not there")
	}

	empty := t.TempDir()
	if err := os.WriteFile(filepath.Join(empty, "pushkit.com.a.p12"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := find(t, empty)["com.a"].Apps(slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "pushkit.com.a.p12") {
		t.Errorf("a file that is no certificate: %v", err)
	}
}
