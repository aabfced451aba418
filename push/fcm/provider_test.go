package fcm_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/fcm"
)

const project = "example-phone"

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The SDK's imports start it when the program starts.
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// token returns the n-th registration token.
func token(n int) string {
	return fmt.Sprintf("fcmtoken%06d:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx_%06d", n, n)
}

// start runs a simulator and returns the configuration of an app for it.
func start(t testing.TB, o fcmsim.Options) (*fcmsim.Server, *fcm.Config) {
	t.Helper()
	sim, err := fcmsim.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	dir := t.TempDir()
	account, err := sim.MakeAccount(dir, project)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := sim.WriteCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return sim, &fcm.Config{CredentialsFile: account, CAFile: ca, Endpoint: sim.URL()}
}

// build makes the configuration's app.
func build(t testing.TB, c *fcm.Config) push.App {
	t.Helper()
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	list, err := c.Apps(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(list[0].Client.Close)
	return list[0]
}

func client(t testing.TB, c *fcm.Config) push.Provider {
	t.Helper()
	return build(t, c).Client
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func call(n int) *push.Notification {
	return notification(n, push.Call, 20*time.Second)
}

// notification is what the dispatcher makes of a request for the n-th token.
func notification(n int, kind push.Kind, left time.Duration) *push.Notification {
	deadline := time.Now().Add(left)
	return &push.Notification{
		Kind: kind, Token: secret.NewToken(token(n)),
		Delivery: push.DefaultTemplates(pnparam.FCM).Delivery(&push.Request{Kind: kind, Deadline: deadline}),
		Payload:  []byte(`{"data":{"ntype":"call","nfrom":"<sip:a&b@example.org>"},"android":{"direct_boot_ok":true}}`),
		Deadline: deadline,
	}
}

func TestMessage(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	f := func(kind push.Kind, left time.Duration, payload, priority string, ttl ...string) {
		t.Helper()
		n := notification(1, kind, left)
		if payload != "" {
			n.Payload = []byte(payload)
		}
		r := p.Push(within(t, 10*time.Second), n)
		if r.Reason != push.Accepted || !strings.HasPrefix(r.ID, "projects/"+project+"/messages/") {
			t.Fatalf("%s: %+v", kind, r)
		}
		all := sim.Pushes()
		got := all[len(all)-1]
		if got.Protocol != "HTTP/2.0" || got.Token != n.Token || got.Message.Android.Priority != priority ||
			!strings.Contains(strings.Join(ttl, " "), got.Message.Android.TTL) {
			t.Errorf("%s: %+v %+v", kind, got, got.Message.Android)
		}
		if payload == "" && (got.Message.Data["nfrom"] != "<sip:a&b@example.org>" || !got.Message.Android.DirectBootOK) {
			t.Errorf("%s: payload became %+v %+v", kind, got.Message, got.Message.Android)
		}
	}
	f(push.Call, 20*time.Second, "", "high", "19s", "20s")
	f(push.Chat, time.Minute, "", "high", "59s", "60s")
	f(push.Cancel, time.Minute, "", "normal", "59s", "60s")
	f(push.Cancel, time.Minute, `{"android":{"priority":"high","notification":{"title":"x"}}}`, "high", "59s", "60s")
	f(push.Refresh, time.Minute, `{"android":{"priority":"normal"}}`, "normal", "59s", "60s")
	f(push.Custom, 1000*time.Hour, `{"topic":"all"}`, "high", "2419200s")
	f(push.Custom, -time.Hour, `{}`, "high", "0s")
}

func TestTokenThatIsNone(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	for _, bad := range []string{"", "with space", "line\nbreak", strings.Repeat("a", 5000)} {
		n := call(1)
		n.Token = secret.NewToken(bad)
		if r := p.Push(within(t, 10*time.Second), n); r.Reason != push.TokenBad && r.Reason != push.NoToken {
			t.Errorf("%q: %+v", bad, r)
		}
	}
	if sends, grants := sim.Requests(); sends+grants != 0 {
		t.Errorf("%d requests for tokens that are none", sends)
	}
}

type row struct {
	answer fcmsim.Behaviour
	want   push.Reason
	detail string
	wait   time.Duration
}

// rows are the answers of FCM and what follows from each.
func rows() []row {
	b := func(status int, code string) fcmsim.Behaviour { return fcmsim.Behaviour{Status: status, Code: code} }
	late := func(b fcmsim.Behaviour) fcmsim.Behaviour { b.RetryAfter = "7"; return b }
	return []row{
		{fcmsim.Unregistered(), push.TokenDead, "UNREGISTERED", 0},
		{b(404, "NOT_FOUND"), push.BadRequest, "NOT_FOUND", 0},
		{fcmsim.BadToken(), push.TokenBad, "INVALID_ARGUMENT", 0},
		{fcmsim.BadField("message.token"), push.TokenBad, "INVALID_ARGUMENT", 0},
		{fcmsim.BadField("message.android.ttl"), push.BadRequest, "INVALID_ARGUMENT message.android.ttl", 0},
		{fcmsim.BadField("message.data[0].value"), push.BadRequest, "INVALID_ARGUMENT message.data", 0},
		{fcmsim.Behaviour{Status: 400, Code: "INVALID_ARGUMENT", Message: "Android message is too big"}, push.BadRequest, "INVALID_ARGUMENT", 0},
		{b(401, "UNAUTHENTICATED"), push.Credential, "UNAUTHENTICATED", 0},
		{b(401, "THIRD_PARTY_AUTH_ERROR"), push.Credential, "THIRD_PARTY_AUTH_ERROR", 0},
		{b(403, "SENDER_ID_MISMATCH"), push.TokenBad, "SENDER_ID_MISMATCH", 0},
		{b(403, "PERMISSION_DENIED"), push.Credential, "PERMISSION_DENIED", 0},
		{b(429, "QUOTA_EXCEEDED"), push.Throttled, "QUOTA_EXCEEDED", time.Minute},
		{late(b(429, "QUOTA_EXCEEDED")), push.Throttled, "QUOTA_EXCEEDED", 7 * time.Second},
		{b(500, "INTERNAL"), push.Unavailable, "INTERNAL", 0},
		{b(503, "UNAVAILABLE"), push.Unavailable, "UNAVAILABLE", 0},
		{late(b(503, "UNAVAILABLE")), push.Unavailable, "UNAVAILABLE", 7 * time.Second},
		{fcmsim.Behaviour{Status: 200, Body: "<html>"}, push.Unavailable, "HTTP 200", 0},
		{fcmsim.Behaviour{Status: 302, Body: "<html>"}, push.BadRequest, "HTTP 302", 0},
		{fcmsim.Behaviour{Status: 400, Body: "<html>"}, push.BadRequest, "HTTP 400", 0},
		{fcmsim.Behaviour{Status: 404, Body: "<html>"}, push.BadRequest, "HTTP 404", 0},
		{fcmsim.Behaviour{Status: 403, Body: "<html>"}, push.Credential, "HTTP 403", 0},
		{fcmsim.Behaviour{Status: 407, Body: "<html>"}, push.Credential, "HTTP 407", 0},
		{fcmsim.Behaviour{Status: 502, Body: "<html>"}, push.Unavailable, "HTTP 502", 0},
	}
}

// One request leaves for each push, whatever the answer.
func TestAnswers(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	for i, row := range rows() {
		sim.Behave(token(i), row.answer)
		before, _ := sim.Requests()
		r := p.Push(within(t, 10*time.Second), call(i))
		if r.Reason != row.want || r.Detail != row.detail || r.RetryAfter != row.wait {
			t.Errorf("%+v: %+v", row.answer, r)
		}
		if after, _ := sim.Requests(); after != before+1 {
			t.Errorf("%+v: %d requests", row.answer, after-before)
		}
	}
}

func TestBadPayload(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	for payload, detail := range map[string]string{
		``:                                  "not valid JSON",
		`{"data":`:                          "not valid JSON",
		`{"data":{"n":1}}`:                  "data must be a string",
		`{"android":{"priority":"urgent"}}`: "priority must be 'normal' or 'high'",
	} {
		n := call(1)
		n.Payload = []byte(payload)
		if r := p.Push(within(t, 10*time.Second), n); r.Reason != push.BadRequest || !strings.Contains(r.Detail, detail) {
			t.Errorf("%s: %+v", payload, r)
		}
	}
	if sends, _ := sim.Requests(); sends != 0 {
		t.Errorf("%d requests", sends)
	}
}

// TestNothingLeaks runs every failure and looks for the token, the key and the
// access token in all that comes out.
func TestNothingLeaks(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	n := 0
	f := func(b fcmsim.Behaviour, change func(*push.Notification)) {
		t.Helper()
		n++
		sim.Behave(token(n), b)
		note := call(n)
		if change != nil {
			change(note)
		}
		r := p.Push(within(t, 300*time.Millisecond), note)
		if r.Reason == push.Accepted {
			t.Errorf("behaviour %+v: accepted", b)
		}
		text := fmt.Sprintf("%+v %#v %v", r, r, note)
		for _, hidden := range []string{token(n), token(n)[20:], "ya29", "eyJ", "PRIVATE"} {
			if strings.Contains(text, hidden) {
				t.Errorf("behaviour %+v: %s", b, text)
			}
		}
		if len(r.Detail) > 200 {
			t.Errorf("behaviour %+v: detail of %d bytes", b, len(r.Detail))
		}
	}
	for _, row := range rows() {
		f(row.answer, nil)
	}
	for _, fault := range []fcmsim.Fault{fcmsim.Silence, fcmsim.Reset, fcmsim.Drop} {
		f(fcmsim.Behaviour{Fault: fault}, nil)
	}
	f(fcmsim.Behaviour{Status: 400, Code: token(n + 1), Message: token(n + 1), Field: token(n + 1)}, nil)
	f(fcmsim.Behaviour{Status: 500, Body: token(n + 1)}, nil)
	f(fcmsim.Behaviour{Status: 200, Body: token(n + 1)}, nil)
	f(fcmsim.Behaviour{Delay: time.Minute}, nil)
	f(fcmsim.Behaviour{}, func(note *push.Notification) { note.Payload = []byte(token(n)) })
	f(fcmsim.Behaviour{}, func(note *push.Notification) {
		note.Payload = []byte(`{"notification":{"image":" ` + token(n) + `"}}`)
	})
	sim.Close()
	f(fcmsim.Behaviour{}, nil)

	sim, c = start(t, fcmsim.Options{})
	sim.BehaveOAuth(fcmsim.Behaviour{Status: 400, Code: "invalid_grant"})
	p = client(t, c)
	f(fcmsim.Behaviour{}, nil)
	sim.BehaveOAuth(fcmsim.Behaviour{Fault: fcmsim.Drop})
	f(fcmsim.Behaviour{}, nil)
	sim.Close()
	f(fcmsim.Behaviour{}, nil)
}

func TestConfigFiles(t *testing.T) {
	_, c := start(t, fcmsim.Options{})
	contents, err := os.ReadFile(c.CredentialsFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := func(contents, change, to, want string) {
		t.Helper()
		file := dir + "/account.json"
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(contents, change, to)), 0o600); err != nil {
			t.Fatal(err)
		}
		c := *c
		c.CredentialsFile = file
		_, err := c.Apps(slog.New(slog.DiscardHandler))
		if err == nil {
			t.Fatalf("no error, want %q", want)
		}
		if got := strings.ReplaceAll(err.Error(), dir+"/", ""); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	good := string(contents)
	const not = "credentials_file: account.json is not the JSON file of a service account "
	f("-----BEGIN PRIVATE KEY-----", "x", "x", not+"(it is not valid JSON)")
	f(good, "service_account", "authorized_user", not+"(its type is not service_account, external_account or impersonated_service_account)")
	f(good, "client_email", "mail", not+"(client_email is missing)")
	f(good, "BEGIN PRIVATE", "BEGIN", not+"(private_key is missing or damaged)")
	f(good, "MII", "AAA", not+"(private_key is damaged)")
	f(good, "https:", "http:", not+"(token_uri is not an https URL)")
	f(good, `"`+project+`"`, `""`, "project_id: must be set, account.json has none")
	c.CAFile = c.CredentialsFile
	f(good, "x", "x", "ca_file: "+c.CAFile+" holds no PEM certificate")
	c.CAFile = dir + "/none"
	f(good, "x", "x", "ca_file: cannot read file: open none: no such file or directory")
}

func TestValidate(t *testing.T) {
	c := &fcm.Config{ProjectID: "a b", Packages: []string{"org.example", "", "org.example"}, Endpoint: "http://x"}
	c.InFlight = 1
	c.SetDefaults()
	var got []string
	c.Validate(func(field, problem string) { got = append(got, field+": "+problem) })
	want := []string{
		"credentials_file: must be set, or metadata_server instead",
		"project_id: must have letters, digits, dots, colons and hyphens only",
		"packages[1]: must have letters, digits, dots, colons, hyphens and underscores only",
		`packages[2]: "org.example" is there twice`,
		`endpoint: must be an https URL of host and port only, is "http://x"`,
	}
	if len(got) < len(want) || strings.Join(got[:len(want)], "\n") != strings.Join(want, "\n") || !strings.HasPrefix(got[len(want)], "in_flight: ") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

func TestValidateAccount(t *testing.T) {
	f := func(c fcm.Config, want string) {
		t.Helper()
		c.SetDefaults()
		var got []string
		c.Validate(func(field, problem string) { got = append(got, field+": "+problem) })
		if strings.Join(got, "; ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f(fcm.Config{MetadataServer: true, ProjectID: project}, "")
	f(fcm.Config{MetadataServer: true}, "project_id: must be set for metadata_server")
	f(fcm.Config{MetadataServer: true, ProjectID: project, CredentialsFile: "x"}, "metadata_server: must not be set together with credentials_file")
}

func TestApp(t *testing.T) {
	_, c := start(t, fcmsim.Options{})
	c.Packages = []string{"org.example.phone", project}
	a := build(t, c)
	if strings.Join(a.Packages, " ") != project+" org.example.phone" || !a.Default || a.Environment != "" || a.Fingerprint == "" {
		t.Errorf("%+v", a)
	}
	if b := build(t, c); b.Fingerprint != a.Fingerprint {
		t.Error("the same configuration has two fingerprints")
	}
	c.ProjectID = "another"
	if b := build(t, c); b.Packages[0] != "another" || b.Fingerprint == a.Fingerprint {
		t.Errorf("%+v", b)
	}
	// The account is not that project's.
	if r := client(t, c).Push(within(t, 10*time.Second), call(1)); r.Reason != push.Credential {
		t.Errorf("%+v", r)
	}
}
