package webhook_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/push/webhook"
)

func TestValidate(t *testing.T) {
	f := func(change func(*webhook.Config), want ...string) {
		t.Helper()
		c := &webhook.Config{Provider: "hms", URL: "https://push.example.com/hms?key=k", SecretFile: "x"}
		change(c)
		c.SetDefaults()
		var got []string
		c.Validate(func(field, problem string) { got = append(got, field+": "+problem) })
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	f(func(*webhook.Config) {})
	for _, p := range []string{"apns", "fcm", "webpush", "apns.dev", "ios", "android", "google"} {
		f(func(c *webhook.Config) { c.Provider = p }, fmt.Sprintf("provider: must not be %q: sipwake pushes for it itself", p))
	}
	for _, p := range []string{"", "HMS", "h m", "hms/1", strings.Repeat("h", 65)} {
		f(func(c *webhook.Config) { c.Provider = p },
			"provider: must be a name of 1 to 64 small letters, digits, dots, hyphens and underscores")
	}
	f(func(c *webhook.Config) { c.Packages = []string{"a", "", "b c", "a"} }, "packages[1]: must be 1 to 255 visible ASCII characters",
		"packages[2]: must be 1 to 255 visible ASCII characters", `packages[3]: "a" is there twice`)
	const notHTTPS = "url: must be an https URL without user information and fragment"
	for _, u := range []string{"", "push.example.com", "ftp://push.example.com", "https:///x", "https://u:p@push.example.com", "https://x.example#f", "https://%zz"} {
		f(func(c *webhook.Config) { c.URL = u }, notHTTPS)
	}
	for _, u := range []string{"http://push.example.com", "http://10.0.0.1/x", "http://localhost.example.com/", "http://[2001:db8::1]/"} {
		f(func(c *webhook.Config) { c.URL = u },
			"url: must be an https URL: http is only for this machine, such as http://127.0.0.1:8090/push")
	}
	for _, u := range []string{"http://127.0.0.1:8090/push", "http://[::1]/", "http://localhost/"} {
		f(func(c *webhook.Config) { c.URL = u })
	}
	f(func(c *webhook.Config) { c.SecretFile, c.InFlight = "", 1 }, "secret_file: must be set", "in_flight: must be between 2 and 10000, is 1")
}

func TestApps(t *testing.T) {
	_, c := start(t)
	a := build(t, c)[0]
	if a.Provider != "hms" || a.Packages[0] != "102345" || !a.Default || a.Environment != "" || a.Fingerprint == "" {
		t.Errorf("%+v", a)
	}
	if b := build(t, c)[0]; b.Fingerprint != a.Fingerprint {
		t.Error("the same configuration has two fingerprints")
	}
	for _, change := range []func(){
		func() { c.URL += "2" },
		func() { c.InFlight++ },
		func() { c.CAFile = "" },
		func() {
			if err := os.WriteFile(c.SecretFile, []byte(key+"2"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		change()
		b := build(t, c)[0]
		if b.Fingerprint == a.Fingerprint {
			t.Error("a change is not in the fingerprint")
		}
		a = b
	}
	c.Packages = nil
	if list := build(t, c); len(list) != 1 || list[0].Packages[0] != "" {
		t.Errorf("%+v", list)
	}
	f := func(contents, want string) {
		t.Helper()
		if err := os.WriteFile(c.SecretFile, []byte(contents), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Apps(nil); err == nil || strings.ReplaceAll(err.Error(), c.SecretFile, "FILE") != want {
			t.Errorf("%v", err)
		}
	}
	f("", "secret_file: cannot read secret: FILE is empty")
	f("short\n", "secret_file: FILE must hold at least 16 bytes")
	if err := os.WriteFile(c.SecretFile, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	c.CAFile = c.SecretFile
	if _, err := c.Apps(nil); err == nil || err.Error() != "ca_file: "+c.CAFile+" holds no PEM certificate" {
		t.Errorf("%v", err)
	}
}
