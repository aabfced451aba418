package fcm_test

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/fcm"
)

// Every way that Google offers instead of a service account's key pushes.
func TestAccountsWithoutKey(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	dir := t.TempDir()
	f := func(name string, change func(*fcm.Config)) {
		t.Helper()
		c := *c
		change(&c)
		c.ProjectID = project
		before, _ := sim.Counts()
		if r := client(t, &c).Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
			t.Errorf("%s: %+v", name, r)
		}
		if after, _ := sim.Counts(); after != before+1 {
			t.Errorf("%s: %d pushes", name, after-before)
		}
	}
	external := func(e fcmsim.External) func(*fcm.Config) {
		file, _, err := sim.MakeExternal(dir, project, e)
		if err != nil {
			t.Fatal(err)
		}
		return func(c *fcm.Config) { c.CredentialsFile = file }
	}
	f("subject in a file", external(fcmsim.External{}))
	f("acting as an account", external(fcmsim.External{Impersonate: true}))
	cloud := httptest.NewServer(sim.Subject())
	t.Cleanup(cloud.Close)
	f("subject at a URL", external(fcmsim.External{URL: cloud.URL + "/metadata/identity"}))
	file, err := sim.MakeImpersonated(dir, project)
	if err != nil {
		t.Fatal(err)
	}
	f("impersonation", func(c *fcm.Config) { c.CredentialsFile = file })
	machine := httptest.NewServer(sim.Metadata(project))
	t.Cleanup(machine.Close)
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(machine.URL, "http://"))
	f("metadata server", func(c *fcm.Config) { c.CredentialsFile, c.MetadataServer = "", true })
}

// A subject's token that is renewed in its file is read again, and one that is refused
// is named as what it is, without being shown.
func TestSubjectRefused(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	file, subject, err := sim.MakeExternal(t.TempDir(), project, fcmsim.External{Impersonate: true})
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(subject)
	if err != nil {
		t.Fatal(err)
	}
	c.CredentialsFile, c.ProjectID = file, project
	p := client(t, c)
	f := func(token string, want push.Reason, detail string) {
		t.Helper()
		if token == "" {
			if err := os.Remove(subject); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(subject, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != want || r.Detail != detail {
			t.Errorf("%+v, want %s %q", r, want, detail)
		}
	}
	f("eyJ-of-a-stranger", push.Credential, "no access token: HTTP 400 127.0.0.1 invalid_grant")
	f("", push.Unavailable, "no access token: the token of the other provider cannot be read")
	f(string(good), push.Accepted, "")
	sim.BehaveOAuth(fcmsim.Behaviour{Status: 503, Code: "x"})
	if r := client(t, c).Push(within(t, 10*time.Second), call(1)); r.Reason != push.Unavailable {
		t.Errorf("%+v", r)
	}
}

// Files that would have the service run a program or ask a stranger are refused.
func TestFederationProblems(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	dir := t.TempDir()
	file, _, err := sim.MakeExternal(dir, project, fcmsim.External{Impersonate: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	impersonated, err := sim.MakeImpersonated(dir, project)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(impersonated)
	if err != nil {
		t.Fatal(err)
	}
	check := func(text []byte, change func(map[string]any), want string) {
		t.Helper()
		var contents map[string]any
		if err := json.Unmarshal(text, &contents); err != nil {
			t.Fatal(err)
		}
		change(contents)
		changed, err := json.Marshal(contents)
		if err != nil {
			t.Fatal(err)
		}
		c := *c
		c.CredentialsFile, c.ProjectID = filepath.Join(dir, "changed.json"), project
		if err := os.WriteFile(c.CredentialsFile, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		c.SetDefaults()
		_, err = c.Apps(slog.New(slog.DiscardHandler))
		want = "credentials_file: " + c.CredentialsFile + " is not the JSON file of a service account (" + want + ")"
		if err == nil || err.Error() != want {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
	f := func(field string, value any, want string) {
		t.Helper()
		check(text, func(c map[string]any) { c[field] = value }, want)
	}
	type obj = map[string]any
	f("type", "authorized_user", "its type is not service_account, external_account or impersonated_service_account")
	f("audience", "", "audience is missing")
	f("audience", 1, "it has a field of the wrong type")
	f("subject_token_type", "", "subject_token_type is missing")
	f("credential_source", nil, "credential_source is missing")
	for _, bad := range []string{"", "http://sts.googleapis.com/v1/token", "https://sts.googleapis.com.example.org/v1/token",
		"https://googleapis.com@example.org/", "https://127.0.0.1/v1/token", "file:///etc/passwd"} {
		f("token_url", bad, "token_url is not an https URL at googleapis.com")
	}
	f("token_info_url", "https://example.org/", "token_info_url is not an https URL at googleapis.com")
	f("service_account_impersonation_url", "https://example.org/", "service_account_impersonation_url is not an https URL at googleapis.com")
	f("credential_source", obj{"executable": obj{"command": "/bin/sh"}}, "credential_source.executable is a program, which is not run; let it write a file")
	f("credential_source", obj{"file": "/x", "executable": obj{"command": "/bin/sh"}}, "credential_source.executable is a program, which is not run; let it write a file")
	f("credential_source", obj{}, "credential_source has neither file nor url")
	f("credential_source", obj{"environment_id": "other1"}, "credential_source.environment_id is not known")
	for _, bad := range []string{"http://example.org/", "gopher://127.0.0.1/", "http://10.0.0.1/", "https://a:b@example.org/", "x"} {
		f("credential_source", obj{"url": bad}, "credential_source.url is neither https nor http to this machine's metadata server")
	}
	aws := func(field, value string) obj {
		o := obj{"environment_id": "aws1", "region_url": "http://169.254.169.254/latest/region", "url": "http://[fd00:ec2::254]/latest/role",
			"regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"}
		o[field] = value
		return o
	}
	f("credential_source", aws("region_url", "http://10.0.0.1/"), "credential_source.region_url is not http to this machine's metadata server")
	f("credential_source", aws("regional_cred_verification_url", "https://example.org/"), "credential_source.regional_cred_verification_url is not an https URL at amazonaws.com")

	check(other, func(c map[string]any) { delete(c, "source_credentials") }, "source_credentials are missing")
	check(other, func(c map[string]any) { c["source_credentials"] = obj{"type": "authorized_user"} },
		"source_credentials must be a service_account or an external_account")
	check(other, func(c map[string]any) { c["source_credentials"].(obj)["token_uri"] = "https://example.org/" }, "token_uri is not an https URL at googleapis.com")
	check(other, func(c map[string]any) {
		c["source_credentials"] = obj{"type": "external_account", "audience": "x", "subject_token_type": "x", "token_url": "https://sts.googleapis.com/v1/token",
			"credential_source": obj{"executable": obj{"command": "x"}}}
	}, "credential_source.executable is a program, which is not run; let it write a file")

	// What Google's own tool writes is fine.
	for _, source := range []obj{aws("region_url", "http://169.254.169.254/latest/region"), {"file": "/var/run/token"},
		{"url": "http://169.254.169.254/metadata/identity/oauth2/token?resource=x"}, {"url": "https://oidc.example.org/token"}} {
		var contents obj
		if err := json.Unmarshal(text, &contents); err != nil {
			t.Fatal(err)
		}
		contents["credential_source"], contents["token_url"] = source, "https://sts.googleapis.com/v1/token"
		contents["service_account_impersonation_url"] = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x:generateAccessToken"
		changed, err := json.Marshal(contents)
		if err != nil {
			t.Fatal(err)
		}
		c := *c
		c.CredentialsFile, c.ProjectID = filepath.Join(dir, "fine.json"), project
		if err := os.WriteFile(c.CredentialsFile, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		build(t, &c)
	}
}
