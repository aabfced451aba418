package apns_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
)

func TestValidate(t *testing.T) {
	good := func() *apns.Config {
		return &apns.Config{BundleID: bundle, TeamID: team, KeyID: keyID, KeyFile: "x.p8"}
	}
	f := func(change func(*apns.Config), want ...string) {
		t.Helper()
		c := good()
		change(c)
		c.SetDefaults()
		var got []string
		c.Validate(func(field, problem string) { got = append(got, field+": "+problem) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	f(func(*apns.Config) {})
	f(func(c *apns.Config) { c.KeyFile, c.KeyID, c.CertificateFile = "", "", "x.p12" })
	f(func(c *apns.Config) { c.BundleID = "" }, "bundle_id: must be set")
	f(func(c *apns.Config) { c.BundleID = "a.b.voip" }, `bundle_id: must be without ".voip", which is added where it is needed`)
	f(func(c *apns.Config) { c.Topic = "a b" }, "topic: must have letters, digits, dots and hyphens only")
	f(func(c *apns.Config) { c.KeyFile, c.KeyID = "", "" }, "key_file: must be set, or certificate_file instead")
	f(func(c *apns.Config) { c.KeyFile = "" }, "key_file: must be set, or certificate_file instead", "key_id: is only for key_file")
	f(func(c *apns.Config) { c.CertificateFile = "x.pem" }, "certificate_file: must not be set together with key_file")
	f(func(c *apns.Config) { c.TeamID, c.KeyID = "", "A B" }, "team_id: must be set for key_file", "key_id: must have letters and digits only")
	f(func(c *apns.Config) { c.CertificatePassword = secret.NewText("x") }, "certificate_password: is only for certificate_file")
	f(func(c *apns.Config) { c.CertificatePasswordFile = "x" }, "certificate_password_file: is only for certificate_file")
	f(func(c *apns.Config) { c.Environment = "test" }, `environment: must be production or sandbox, is "test"`)
	both := []pnparam.Environment{pnparam.Production, pnparam.Sandbox}
	f(func(c *apns.Config) { c.Environments = both })
	f(func(c *apns.Config) { c.Environments = both[1:] })
	f(func(c *apns.Config) { c.Environments = []pnparam.Environment{} }, "environments: must have production, sandbox or both")
	f(func(c *apns.Config) { c.Environments = []pnparam.Environment{"production", "sandbox", "test"} }, `environments[2]: must be production or sandbox, is "test"`)
	f(func(c *apns.Config) { c.Environments = []pnparam.Environment{"production", "sandbox", "production"} }, `environments[2]: "production" is there twice`)
	f(func(c *apns.Config) { c.Environments, c.Environment = both[1:], both[0] }, "environment: must be sandbox, the only one that environments has")
	f(func(c *apns.Config) { c.KeyFile, c.KeyID, c.CertificateFile, c.Environments = "", "", "x.p12", both }, "environments: is only for key_file")
	f(func(c *apns.Config) { c.Endpoint = "http://x" }, `endpoint: must be an https URL of host and port only, is "http://x"`)
	f(func(c *apns.Config) { c.SandboxEndpoint = "https://x/3/device" }, `sandbox_endpoint: must be an https URL of host and port only, is "https://x/3/device"`)
	f(func(c *apns.Config) { c.HTTP2 = "fast" }, `http2: must be own or standard, is "fast"`)
	f(func(c *apns.Config) { c.Connections = 1 }, "connections: must be between 2 and 32, is 1")
	f(func(c *apns.Config) { c.Queue = -1 }, "queue: must be between 1 and 1000000, is -1")
}

func TestWrongFiles(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	dir := t.TempDir()
	p12, pemFile, err := sim.MakeCertificate(dir, apnssim.Certificate{BundleID: bundle, Password: "right", Sandbox: true})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, blocks ...*pem.Block) string {
		var out []byte
		for _, b := range blocks {
			out = append(out, pem.EncodeToMemory(b)...)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, out, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) *pem.Block {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	}
	ec, err := x509.MarshalECPrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := os.ReadFile(pemFile)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := pem.Decode(contents)
	empty := write("empty")

	f := func(change func(*apns.Config), want string) {
		t.Helper()
		c := *c
		change(&c)
		c.SetDefaults()
		_, err := c.Apps(slog.New(slog.DiscardHandler))
		if err == nil {
			t.Fatalf("no error, want %q", want)
		}
		if got := strings.ReplaceAll(err.Error(), dir+"/", ""); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	key := func(file string) func(*apns.Config) { return func(c *apns.Config) { c.KeyFile = file } }
	f(key(filepath.Join(dir, "none")), "key_file: cannot read file: open none: no such file or directory")
	f(key(empty), "key_file: empty is not a PKCS#8 ECDSA private key (it has no PEM block)")
	f(key(write("c.p8", leaf)), "key_file: c.p8 is not a PKCS#8 ECDSA private key (PEM block is CERTIFICATE)")
	f(key(write("e.p8", &pem.Block{Type: "EC PRIVATE KEY", Bytes: ec})), "key_file: e.p8 is not a PKCS#8 ECDSA private key (PEM block is EC PRIVATE KEY)")
	f(key(write("r.p8", pkcs8(rsaKey))), "key_file: r.p8 is not a PKCS#8 ECDSA private key (it holds *rsa.PrivateKey)")
	f(key(write("p.p8", pkcs8(p384))), "key_file: p.p8 is not a P-256 key (its curve is P-384)")
	f(key(write("d.p8", &pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})), "key_file: d.p8 is not a PKCS#8 ECDSA private key (the PEM block is damaged)")

	cert := func(file, password string) func(*apns.Config) {
		return func(c *apns.Config) {
			c.KeyFile, c.KeyID, c.CertificateFile = "", "", file
			c.CertificatePassword = secret.NewText(password)
			c.Environment = pnparam.Sandbox
		}
	}
	f(cert(p12, "wrong"), "certificate_file: org.example.phone.p12 cannot be decrypted: certificate_password is wrong")
	f(cert(p12, ""), "certificate_file: org.example.phone.p12 cannot be decrypted: certificate_password is wrong")
	f(cert(write("leaf.pem", leaf), ""), "certificate_file: leaf.pem holds no private key")
	f(cert(write("key.pem", pkcs8(rsaKey)), ""), "certificate_file: key.pem holds no certificate")
	f(cert(write("other.pem", pkcs8(rsaKey), leaf), ""), "certificate_file: other.pem holds a private key that belongs to none of its certificates")
	f(cert(write("enc.pem", &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}, leaf), ""), "certificate_file: enc.pem holds an encrypted PKCS#8 key, which only a .p12 file may have")
	f(func(c *apns.Config) { cert(p12, "right")(c); c.Environment = "" }, `environment: must be sandbox, the only one that certificate_file "org.example.phone.p12" is good for`)
	f(func(c *apns.Config) { cert(p12, "")(c); c.CertificatePasswordFile = empty }, "certificate_password_file: cannot read secret: empty is empty")
	f(func(c *apns.Config) { c.CAFile = empty }, "ca_file: empty holds no PEM certificate")
}

func TestCertificate(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	dir := t.TempDir()
	p12, pemFile, err := sim.MakeCertificate(dir, apnssim.Certificate{BundleID: bundle, Password: "right", Production: true, Sandbox: true})
	if err != nil {
		t.Fatal(err)
	}
	c.KeyFile, c.KeyID, c.TeamID = "", "", ""
	for _, file := range []string{p12, pemFile} {
		c.CertificateFile, c.CertificatePassword = file, secret.NewText("right")
		all := apps(t, c)
		if len(all) != 2 || all[pnparam.Production].CredentialExpiry.Before(time.Now()) {
			t.Errorf("%s: apps %+v", file, all)
		}
		for env, app := range all {
			if r := app.Client.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
				t.Errorf("%s at %s: %+v", file, env, r)
			}
		}
	}
}

// A certificate that the service does not take ends the connection, and that is
// a problem of the credential.
func TestCertificateRefused(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	other, _ := start(t, apnssim.Options{})
	_, foreign, err := other.MakeCertificate(t.TempDir(), apnssim.Certificate{BundleID: bundle})
	if err != nil {
		t.Fatal(err)
	}
	_, expired, err := sim.MakeCertificate(t.TempDir(), apnssim.Certificate{BundleID: bundle, End: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	c.KeyFile, c.KeyID, c.TeamID = "", "", ""
	for _, file := range []string{foreign, expired} {
		c.CertificateFile = file
		if r := client(t, c).Push(within(t, 10*time.Second), call(1)); r.Reason != push.Credential {
			t.Errorf("%+v", r)
		}
	}
	var log bytes.Buffer
	if _, err := c.Apps(slog.New(slog.NewTextHandler(&log, nil))); err != nil || !strings.Contains(log.String(), "certificate has expired") {
		t.Errorf("error %v, log %s", err, log.String())
	}
}

func TestFingerprint(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	print := func() string { return apps(t, c)[pnparam.Production].Fingerprint }
	first := print()
	if print() != first {
		t.Error("the same configuration has two fingerprints")
	}
	c.Environment = pnparam.Sandbox // decides which app is the default, not what it is
	if print() != first {
		t.Error("the default environment changed the fingerprint")
	}
	c.InFlight++
	second := print()
	if second == first {
		t.Error("limits are not in the fingerprint")
	}
	if _, err := sim.MakeKey(filepath.Dir(c.KeyFile), team, keyID); err != nil {
		t.Fatal(err)
	}
	if print() == second {
		t.Error("the key is not in the fingerprint")
	}
}

// What Apple will refuse is said, with both names.
func TestDoubts(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	f := func(change func(*apns.Config), want ...string) {
		t.Helper()
		c := *c
		change(&c)
		for env, a := range apps(t, &c) {
			if d := cmp.Diff(want, a.Doubts); d != "" {
				t.Errorf("%s: %s", env, d)
			}
		}
	}
	f(func(*apns.Config) {})
	f(func(c *apns.Config) { c.TeamID, c.KeyID = "TEAM", "KEY12345678" },
		"team_id has 4 characters, those of Apple have 10", "key_id has 11 characters, those of Apple have 10")
	certificate := func(topics ...string) (file string, use func(*apns.Config)) {
		t.Helper()
		_, file, err := sim.MakeCertificate(t.TempDir(), apnssim.Certificate{BundleID: topics[0], Topics: topics[1:]})
		if err != nil {
			t.Fatal(err)
		}
		return file, func(c *apns.Config) { c.TeamID, c.KeyID, c.KeyFile, c.CertificateFile = "", "", "", file }
	}
	for _, topics := range [][]string{{bundle}, {bundle + ".voip"}, {"org.example.other", "org.example.other.voip", bundle}} {
		_, use := certificate(topics...)
		f(use)
	}
	file, use := certificate("org.example.other.voip", "org.example.other")
	f(use, `certificate_file "`+file+`" is for "org.example.other", and not for "org.example.phone"`)
	f(func(c *apns.Config) { use(c); c.Topic = "org.example.other" })
}
