package hms_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/hmssim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/hms"
	"github.com/sipwake/sipwake/push/pushtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	client = "101234567"
	token  = "IQAAAACy0PYlAADkX3v2nJ8oQ1zL5tR7wY9uB4eH6gK0mN-_sD2fT"
)

func start(t *testing.T) (*hmssim.Server, *hms.Config) {
	t.Helper()
	s, err := hmssim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	dir := t.TempDir()
	file, err := s.MakeClient(dir, client)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := s.WriteCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, &hms.Config{ClientID: client, ClientSecretFile: file, Packages: []string{"com.example.phone"}, Endpoint: s.URL(), TokenURL: s.TokenURL(), CAFile: ca}
}

func build(t *testing.T, c *hms.Config) push.App {
	t.Helper()
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	apps, err := c.Apps(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(apps[0].Client.Close)
	return apps[0]
}

func request() push.Request {
	return push.Request{Provider: pnparam.HMS, App: client, Token: secret.NewToken(token), Values: push.Values{AOR: "bob@example.com", User: "1001"}}
}

// simulated is an app with the push service that the tests of all providers ask.
func simulated(t *testing.T) pushtest.Service {
	t.Helper()
	s, c := start(t)
	return pushtest.Service{App: build(t, c), Request: request(), Hidden: []string{"CwEAAAAA"},
		Answer: func(status int, word string) {
			b := hmssim.Behaviour{Status: status, Body: word}
			if strings.Trim(word, "0123456789") == "" {
				b.Code = word
			}
			s.Behave(token, b)
		}}
}

// Every answer of the table has what it says there, and leaks no token.
func TestTableOfAnswers(t *testing.T) { pushtest.Answers(t, hms.Answers(), simulated) }

// A machine that has no more files is no reason to give a call up.
func TestStarved(t *testing.T) { pushtest.Starved(t, simulated(t)) }

// send pushes once, as the dispatcher does.
func send(t *testing.T, app push.App, k push.Kind, change func(*push.Request)) push.Reply {
	t.Helper()
	r := request()
	r.Kind, r.Deadline = k, time.Now().Add(30*time.Second)
	if change != nil {
		change(&r)
	}
	payload, err := app.Templates.Payload(nil, &r, 3500)
	if err != nil {
		t.Fatal(err)
	}
	return app.Client.Push(t.Context(), &push.Notification{Kind: k, Token: r.Token, Payload: payload, Deadline: r.Deadline, Delivery: app.Templates.Delivery(&r)})
}

// What Push Kit is sent for each kind.
func TestMessages(t *testing.T) {
	s, c := start(t)
	app := build(t, c)
	f := func(k push.Kind, urgency, category string, shown map[string]string) {
		t.Helper()
		if r := send(t, app, k, func(r *push.Request) { r.Values.Display, r.Values.Body = `Al"ice`, "Hello" }); r.Reason != push.Accepted || r.ID == "" {
			t.Fatalf("%s: %+v", k, r)
		}
		all := s.Pushes()
		m := all[len(all)-1].Message
		var data map[string]string
		if err := json.Unmarshal([]byte(m.Data), &data); err != nil || data["nfrom"] != "1001" || data["display"] != `Al"ice` {
			t.Errorf("%s: data %s, %v", k, m.Data, err)
		}
		if m.Android.Urgency != urgency || m.Android.Category != category || m.Android.TTL != "30s" {
			t.Errorf("%s: %+v", k, m.Android)
		}
		if d := cmp.Diff(shown, m.Notification); d != "" {
			t.Errorf("%s: want - got +\n%s", k, d)
		}
	}
	f(push.Call, "HIGH", "VOIP", nil)
	f(push.Chat, "HIGH", "IM", map[string]string{"title": `Al"ice`, "body": "Hello"})
	f(push.Custom, "HIGH", "", map[string]string{"title": `Al"ice`, "body": "Hello"})
	f(push.Cancel, "HIGH", "", nil)
	f(push.Refresh, "NORMAL", "", nil)
	if s.Grants() != 1 {
		t.Errorf("%d access tokens", s.Grants())
	}
	// Long texts are cut to what Push Kit takes, whatever they are made of.
	if r := send(t, app, push.Chat, func(r *push.Request) { r.Values.Body = strings.Repeat("öh", 4000) }); r.Reason != push.Accepted {
		t.Errorf("a long text: %+v", r)
	}
	if r := send(t, app, push.Chat, func(r *push.Request) { r.Values.Body = strings.Repeat(`"`, 4000) }); r.Reason != push.BadRequest {
		t.Errorf("a text of quotes: %+v", r)
	}
}

// A push is accepted by the status and the code together.
func TestAcceptedByBoth(t *testing.T) {
	s, c := start(t)
	app := build(t, c)
	s.Behave(token, hmssim.Behaviour{Status: 502, Code: "80000000"})
	if r := send(t, app, push.Call, nil); r.Reason != push.Unavailable {
		t.Errorf("%+v", r)
	}
}

// An access token that has been ended is replaced, and one that is new and refused is
// the secret's fault.
func TestAccess(t *testing.T) {
	s, c := start(t)
	app := build(t, c)
	if err := app.Client.(push.Prober).Probe(t.Context()); err != nil || s.Grants() != 1 {
		t.Errorf("%v, %d access tokens", err, s.Grants())
	}
	s.Behave(token, hmssim.Behaviour{Status: 401, Code: "80200001"})
	if r := send(t, app, push.Call, nil); r.Reason != push.Credential || r.About != push.AboutCredential {
		t.Errorf("%+v", r)
	}
	s.Behave(token)
	s.EndAccess()
	if r := send(t, app, push.Call, nil); r.Reason != push.Unavailable || r.About != push.AboutConnection {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(c.ClientSecretFile, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := build(t, c)
	if r := send(t, other, push.Call, nil); r.Reason != push.Credential || r.Detail != "no access token: HTTP 400 " {
		t.Errorf("a wrong secret: %+v", r)
	}
	if err := other.Client.(push.Prober).Probe(t.Context()); err == nil || strings.Contains(err.Error(), "another") {
		t.Error(err)
	}
	if other.Fingerprint == app.Fingerprint {
		t.Error("another secret has the same fingerprint")
	}
}

// A client of a project pushes its apps by the project's ID.
func TestProject(t *testing.T) {
	s, c := start(t)
	c.ProjectID = "736430079245"
	if r := send(t, build(t, c), push.Call, nil); r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
	if len(s.Pushes()) != 1 {
		t.Errorf("%d pushes", len(s.Pushes()))
	}
}

func TestConfig(t *testing.T) {
	f := func(change func(*hms.Config), want string) {
		t.Helper()
		c := &hms.Config{ClientID: client, ClientSecretFile: "x"}
		change(c)
		c.SetDefaults()
		var got []string
		c.Validate(func(field, problem string) { got = append(got, field+": "+problem) })
		if strings.Join(got, "\n") != want {
			t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n"), want)
		}
	}
	f(func(*hms.Config) {}, "")
	f(func(c *hms.Config) { c.ClientID = "1/2" }, "client_id: must be the OAuth 2.0 client ID of the app, such as 101234567")
	f(func(c *hms.Config) { c.ProjectID = "a b" }, "project_id: must be the ID of the project at Huawei")
	f(func(c *hms.Config) { c.ClientSecretFile = "" }, "client_secret_file: must be set")
	f(func(c *hms.Config) { c.Endpoint = "http://example.com" },
		"endpoint: must be an https URL: http is only for this machine, such as http://127.0.0.1:8090/push")
	f(func(c *hms.Config) { c.TokenURL = "x" }, "token_url: must be an https URL without user information and fragment")
	f(func(c *hms.Config) { c.PushType = map[push.Kind]push.Type{push.Call: push.TypeAlert} }, "push_type: is only for apns and fcm")
	for text, want := range map[string]string{`{"token":["x"]}`: "must not have token, topic and condition: the push goes to one phone", `{"android":[]}`: "android: must be an object"} {
		_, c := start(t)
		file := filepath.Join(t.TempDir(), "call.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Templates = map[string]string{"call": file}
		c.SetDefaults()
		if _, err := c.Apps(slog.New(slog.DiscardHandler)); err == nil || err.Error() != fmt.Sprintf("templates.call: %s: %s", file, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
