package webpush_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/webpushsim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/webpush"
)

// The commands that operators are told to use make keys that do, in both of
// openssl's formats, and show the public key as the web app wants it.
func TestKeyByOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("SIPWAKE_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, command := range []string{
		"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out vapid.pem",
		"openssl ecparam -name prime256v1 -genkey -out vapid.pem",
	} {
		dir := t.TempDir()
		sh := func(command string) string {
			t.Helper()
			cmd := exec.Command("sh", "-c", command)
			cmd.Dir = dir
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			return string(out)
		}
		sh(command)
		got, err := (&webpush.Config{VAPIDKeyFile: filepath.Join(dir, "vapid.pem")}).PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		want := sh("openssl pkey -in vapid.pem -pubout -outform DER | tail -c 65 | base64 -w0 | tr '/+' '_-' | tr -d '='")
		if got != want || len(got) != 87 {
			t.Errorf("%s: got %s, want %s", command, got, want)
		}
	}
}

func TestConfigFiles(t *testing.T) {
	_, c := start(t, webpushsim.Options{})
	c.SetDefaults()
	good, ca := c.VAPIDKeyFile, c.CAFile
	c.VAPIDKeyFile = filepath.Join(t.TempDir(), "key.pem")
	f := func(contents []byte, want string) {
		t.Helper()
		if err := os.WriteFile(c.VAPIDKeyFile, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := c.Apps(slog.New(slog.DiscardHandler))
		if err == nil || err.Error() != "vapid_key_file: "+c.VAPIDKeyFile+" is not a P-256 private key "+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	f(nil, "(it has no PEM block of one)")
	f(certificate, "(it has no PEM block of one)")
	f(pkcs8(t, p384), "(its curve is P-384)")
	f(pkcs8(t, edwards), "(it holds ed25519.PrivateKey)")
	f(bytes.Replace(pkcs8(t, p384), []byte("\nM"), []byte("\nA"), 1), "(the PEM block is damaged)")

	c.VAPIDKeyFile += "x"
	if _, err := c.Apps(nil); err == nil || !strings.HasPrefix(err.Error(), "vapid_key_file: cannot read file: ") {
		t.Errorf("%v", err)
	}
	c.VAPIDKeyFile, c.CAFile = good, good
	if _, err := c.Apps(nil); err == nil || err.Error() != "ca_file: "+good+" holds no PEM certificate" {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	f := func(change func(*webpush.Config), want ...string) {
		t.Helper()
		c := &webpush.Config{VAPIDKeyFile: "x", Subject: "mailto:admin@example.com"}
		change(c)
		c.SetDefaults()
		var got []string
		c.Validate(func(field, problem string) { got = append(got, field+": "+problem) })
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	f(func(*webpush.Config) {})
	f(func(c *webpush.Config) { c.VAPIDKeyFile = "" }, "vapid_key_file: must be set")
	for _, bad := range []string{"", "admin@example.com", "mailto:", "mailto:<a@b.example>", "mailto: a@b.example", "http://example.com", "https:"} {
		f(func(c *webpush.Config) { c.Subject = bad },
			fmt.Sprintf("subject: must be a mailto: or https: URL, such as mailto:admin@example.com, is %q", bad))
	}
	f(func(c *webpush.Config) { c.Subject = "https://example.com/contact" })
	f(func(c *webpush.Config) { c.AllowPrivate = true }, "allow_private: needs hosts to be set: it is for labs only")
	const name = `must be a host name in small letters, "*." and a domain, or either with a port`
	f(func(c *webpush.Config) {
		c.Hosts = []string{"push.example.com", "*.example.com:8443", "*", "*.com", "https://x.example", "Push.example.com", "a.example:0",
			"10.0.0.1", "[::1]:443", "push.example.com", "*.", "*x.example.com", ".example.com", "127.1", "a b", "a.example:x", ""}
	}, "hosts[2]: "+name, "hosts[3]: must not allow a whole top-level domain", "hosts[4]: has a port that is not between 1 and 65535",
		"hosts[5]: "+name, "hosts[6]: has a port that is not between 1 and 65535",
		"hosts[7]: must be a host name: an IP address is for labs only, with allow_private",
		"hosts[8]: must be a host name: an IP address is for labs only, with allow_private",
		`hosts[9]: "push.example.com" is there twice`, "hosts[10]: "+name, "hosts[11]: "+name, "hosts[12]: "+name, "hosts[13]: "+name,
		"hosts[14]: "+name, "hosts[15]: has a port that is not between 1 and 65535", "hosts[16]: "+name)
	f(func(c *webpush.Config) { c.Hosts, c.AllowPrivate = []string{"10.0.0.1:8443", "::1"}, true })
	f(func(c *webpush.Config) { c.OriginInFlight, c.InFlight = 11, 10 }, "origin_in_flight: must be between 1 and in_flight, which is 10, is 11")
	f(func(c *webpush.Config) { c.InFlight = 1 }, "in_flight: must be between 2 and 10000, is 1")
}

// A subject that Apple is known to refuse is said.
func TestDoubts(t *testing.T) {
	_, c := start(t, webpushsim.Options{})
	for subject, host := range map[string]string{
		"mailto:admin@example.com": "", "https://example.com/contact": "", "mailto:a@sip.example.co.uk?subject=x": "",
		"mailto:ops@localhost": "localhost", "https://localhost": "localhost", "https://localhost:8443/x": "localhost",
		"mailto:ops@host.invalid": "host.invalid", "mailto:ops@Host.Local.": "host.local", "mailto:ops@sip": "sip",
		"https://192.0.2.1/": "192.0.2.1",
	} {
		c.Subject = subject
		doubts := strings.Join(build(t, c).Doubts, "\n")
		if (doubts == "") != (host == "") || host != "" && !strings.HasPrefix(doubts, `subject has the host "`+host+`"`) {
			t.Errorf("%s: %q", subject, doubts)
		}
	}
}

func TestApp(t *testing.T) {
	_, c := start(t, webpushsim.Options{})
	a := build(t, c)
	if a.Provider != pnparam.WebPush || len(a.Packages) != 0 || !a.Default || a.Environment != "" || a.Fingerprint == "" {
		t.Errorf("%+v", a)
	}
	if b := build(t, c); b.Fingerprint != a.Fingerprint {
		t.Error("the same configuration has two fingerprints")
	}
	for _, change := range []func(){
		func() { c.Subject = "mailto:other@example.com" },
		func() { c.Hosts = append(c.Hosts, "push.example.com") },
		func() { c.OriginInFlight++ },
		func() { c.CAFile = "" },
		func() { makeKey(t, filepath.Dir(c.VAPIDKeyFile)) },
		func() { c.AllowPrivate, c.Hosts = false, c.Hosts[1:] },
	} {
		change()
		b := build(t, c)
		if b.Fingerprint == a.Fingerprint {
			t.Error("a change is not in the fingerprint")
		}
		a = b
	}
}

// A template that is a declarative push message is sent as one, so that Safari shows it
// without a service worker; others are bytes as before.
func TestDeclarativeMessage(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	dir := t.TempDir()
	for kind, text := range map[string]string{
		"call": `{"web_push":8030,"notification":{"title":"{TITLE}","navigate":"https://phone.example.com/"}}`,
		"chat": `{"title":"{TITLE}"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, kind+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.TemplatesDir = dir
	app, sub := build(t, c), subscribe(t, sim, c)
	keys := &pnparam.WebPushKeys{P256dh: secret.NewToken(sub.P256dh), Auth: secret.NewToken(sub.Auth)}
	for kind, want := range map[push.Kind]string{push.Call: "application/notification+json", push.Chat: "application/octet-stream"} {
		r := push.Request{Kind: kind, Provider: pnparam.WebPush, Keys: keys, Deadline: time.Now().Add(time.Minute)}
		payload, err := app.Templates.Payload(nil, &r, 3993)
		if err != nil {
			t.Fatal(err)
		}
		n := call(sub.URL)
		n.Kind, n.Payload, n.Keys, n.Delivery = kind, payload, keys, app.Templates.Delivery(&r)
		if reply := app.Client.Push(within(t, 10*time.Second), n); reply.Reason != push.Accepted {
			t.Fatalf("%s: %+v", kind, reply)
		}
		all := sim.Pushes()
		if got := all[len(all)-1].Header.Get("Content-Type"); got != want {
			t.Errorf("%s: Content-Type %s, want %s", kind, got, want)
		}
	}

	f := func(text, want string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "call.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.TemplatesDir, c.Templates = "", map[string]string{"call": file}
		_, err := c.Apps(slog.New(slog.DiscardHandler))
		if want = "templates.call: " + file + ": " + want; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f(`{"web_push":8030}`, "notification: must be an object with title and navigate, because web_push is 8030")
	f(`{"web_push":8030,"notification":"x"}`, "notification: must be an object with title and navigate, because web_push is 8030")
	f(`{"web_push":8030,"notification":{"navigate":"https://a.example/"}}`, "notification.title: must be set, because web_push is 8030")
	f(`{"web_push":8030,"notification":{"title":"x","navigate":"phone"}}`,
		"notification.navigate: must be an https URL or a path, because web_push is 8030")
	f(`{"headers":{"TTL":"1"}}`, "headers: cannot be set by a template: ttl is set for the app, the Content-Type follows from web_push")
}
