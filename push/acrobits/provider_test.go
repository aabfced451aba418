package acrobits_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/acrobits"
	"github.com/sipwake/sipwake/push/pushtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	selector = "12869E0E6E553673C54F29105A0647204C416A2A:7C3A0D14"
	callTok  = "Y2FsbC10b2tlbi1vZi1hLXBob25l+/=="
	otherTok = "b3RoZXItdG9rZW4tb2YtYS1waG9uZQ=="
)

// sim is a mediator.
type sim struct {
	*httptest.Server
	got    chan map[string]any
	answer func(w http.ResponseWriter)
}

func start(t *testing.T) (*sim, *acrobits.Config) {
	t.Helper()
	s := &sim{got: make(chan map[string]any, 100)}
	s.answer = func(w http.ResponseWriter) { fmt.Fprint(w, `{"code":200,"response":"Success"}`) }
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m map[string]any
		if json.Unmarshal(body, &m) != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s", r.Method, body)
		}
		s.got <- m
		w.Header().Set("Content-Type", "application/json")
		s.answer(w)
	}))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("0123456789abcdef-of-the-keys\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, &acrobits.Config{Listen: "127.0.0.1:0", SecretFile: file, Endpoint: s.URL}
}

func build(t *testing.T, c *acrobits.Config) push.App {
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

func address(t *testing.T, r acrobits.Report) pnparam.Address {
	t.Helper()
	a, err := r.Address()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func iphone() acrobits.Report {
	return acrobits.Report{CallApp: "com.example.ios.pushkit", OtherApp: "com.example.ios", Selector: selector,
		CallToken: secret.NewToken(callTok), OtherToken: secret.NewToken(otherTok)}
}

func TestTableOfAnswers(t *testing.T) {
	pushtest.Answers(t, acrobits.Answers(), simulated)
}

// says has the mediator answer that status, with a code of its own if it is a number.
func (s *sim) says(status int, code string) {
	s.answer = func(w http.ResponseWriter) {
		w.WriteHeader(status)
		if _, err := strconv.Atoi(code); err != nil {
			fmt.Fprintf(w, "<html><body>%s</body></html>", code)
			return
		}
		fmt.Fprintf(w, `{"code":%s,"response":"because"}`, code)
	}
}

// What stands between us and the mediator speaks for no token, and accepts nothing.
func TestOnlyTheMediatorIsBelieved(t *testing.T) {
	s, c := start(t)
	app := build(t, c)
	a := address(t, iphone())
	f := func(status int, code string, want push.Reason) {
		t.Helper()
		s.says(status, code)
		n := &push.Notification{Kind: push.Call, Token: a.Tokens[0].Value, Payload: []byte(`{"Id":"1"}`), Deadline: time.Now().Add(time.Minute)}
		if r := app.Client.Push(t.Context(), n); r.Reason != want {
			t.Errorf("HTTP %d, code %q: %+v, want %s", status, code, r, want)
		}
	}
	for _, status := range []int{200, 204, 404, 410, 401, 403, 407, 502, 301} {
		f(status, "", push.Unavailable)
	}
	f(200, "0", push.Unavailable)
	f(200, "200", push.Accepted)
	f(202, "200", push.Accepted)
	f(404, "200", push.Unavailable)
	f(404, "404", push.TokenDead)
	f(200, "410", push.TokenDead)
	f(502, "404", push.Unavailable)
}

// A machine that has no more files is no reason to give a call up.
func TestStarved(t *testing.T) { pushtest.Starved(t, simulated(t)) }

// simulated is an app with the push service that the tests of all providers ask.
func simulated(t *testing.T) pushtest.Service {
	t.Helper()
	s, c := start(t)
	a := address(t, iphone())
	return pushtest.Service{App: build(t, c),
		Request: push.Request{Provider: a.Provider, App: a.App, Token: a.Tokens[0].Value, Values: push.Values{AOR: "bob@example.com", Body: "hi"}},
		Answer:  func(status int, code string) { s.says(status, code) },
		Hidden:  []string{callTok, otherTok},
	}
}

// What the mediator is sent for each kind, in the words of its documentation.
func TestMessages(t *testing.T) {
	s, c := start(t)
	app := build(t, c)
	f := func(r acrobits.Report, k push.Kind, change func(*push.Values), want map[string]any) {
		t.Helper()
		a := address(t, r)
		v := push.Values{AOR: "bob@example.com", From: "sip:1001@example.com", User: "1001", Display: "Alice", CallID: "c1@h",
			UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8"}
		if change != nil {
			change(&v)
		}
		req := &push.Request{Kind: k, Provider: a.Provider, App: a.App, Token: a.Tokens[0].Value, Values: v, Deadline: time.Now().Add(time.Minute)}
		payload, err := app.Templates.Payload(nil, req, 4096)
		if err != nil {
			t.Fatal(err)
		}
		reply := app.Client.Push(t.Context(), &push.Notification{Kind: k, Token: req.Token, Payload: payload, Deadline: req.Deadline})
		if want == nil {
			if reply.Reason != push.NoToken {
				t.Errorf("%s: %+v", k, reply)
			}
			return
		}
		if reply.Reason != push.Accepted {
			t.Fatalf("%s: %+v", k, reply)
		}
		if d := cmp.Diff(want, <-s.got); d != "" {
			t.Errorf("%s: want - got +\n%s", k, d)
		}
	}
	type m = map[string]any
	f(iphone(), push.Call, nil, m{"verb": "NotifyIncomingCall", "AppId": "com.example.ios.pushkit", "DeviceToken": callTok, "Selector": selector,
		"Id": "c1@h", "UserName": "1001", "UserDisplayName": "Alice"})
	for reason, verb := range map[string]string{"answered": "NotifyIncomingCallAnsweredElsewhere", "cancelled": "NotifyIncomingCallMissed",
		"timeout": "NotifyIncomingCallMissed", "declined": "NotifyIncomingCallAnsweredElsewhere", "": "NotifyIncomingCallAnsweredElsewhere"} {
		f(iphone(), push.Cancel, func(v *push.Values) { v.Reason = reason }, m{"verb": verb, "AppId": "com.example.ios", "DeviceToken": otherTok,
			"Selector": selector, "Id": "c1@h", "UserName": "1001", "UserDisplayName": "Alice"})
	}
	f(iphone(), push.Chat, func(v *push.Values) { v.Body = "hello" }, m{"verb": "NotifyGenericTextMessage", "AppId": "com.example.ios",
		"DeviceToken": otherTok, "Selector": selector, "Id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "UserName": "1001", "UserDisplayName": "Alice",
		"Message": "hello", "Sound": "default"})
	// With nothing of the call but an ID.
	f(iphone(), push.Call, func(v *push.Values) { *v = push.PrivacyFull.Hide(push.Call, *v) }, m{"verb": "NotifyIncomingCall",
		"AppId": "com.example.ios.pushkit", "DeviceToken": callTok, "Selector": selector, "Id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8"})
	calls := iphone()
	calls.OtherApp, calls.OtherToken = "", secret.Token{}
	f(calls, push.Chat, nil, nil)
}

func TestReportIsBad(t *testing.T) {
	for name, change := range map[string]func(*acrobits.Report){
		"no token":      func(r *acrobits.Report) { r.CallToken, r.OtherToken = secret.Token{}, secret.Token{} },
		"no selector":   func(r *acrobits.Report) { r.Selector = "" },
		"long selector": func(r *acrobits.Report) { r.Selector = strings.Repeat("A", 129) },
		"no app":        func(r *acrobits.Report) { r.CallApp = "" },
		"long token":    func(r *acrobits.Report) { r.CallToken = secret.NewToken(strings.Repeat("A", 1025)) },
		"control":       func(r *acrobits.Report) { r.Selector = "A\r\nB" },
	} {
		r := iphone()
		change(&r)
		if _, err := r.Address(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The same report in the ways that an app can send it.
func TestRead(t *testing.T) {
	_, c := start(t)
	c.Domain = "example.com"
	build(t, c)
	reports, err := c.Reports()
	if err != nil {
		t.Fatal(err)
	}
	v := url.Values{"username": {"bob"}, "key": {"k"}, "selector": {selector}, "pushTokenIncomingCall": {callTok}, "pushTokenOther": {otherTok},
		"pushappid_incoming_call": {"com.example.ios.pushkit"}, "pushappid_other": {"com.example.ios"}, "installid": {"i1"}}
	fields := map[string]string{}
	for k := range v {
		fields[k] = v.Get(k)
	}
	asJSON, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	want := iphone()
	want.Device = "i1"
	for name, req := range map[string]*http.Request{
		"GET":  httptest.NewRequest(http.MethodGet, "/acrobits/token?"+v.Encode(), nil),
		"form": httptest.NewRequest(http.MethodPost, "/acrobits/token", strings.NewReader(v.Encode())),
		"JSON": httptest.NewRequest(http.MethodPost, "/acrobits/token", strings.NewReader(string(asJSON))),
	} {
		if name == "form" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if name == "JSON" {
			req.Header.Set("Content-Type", "application/json; charset=utf-8")
		}
		user, key, got, err := reports.Read(req)
		if err != nil || user != "bob@example.com" || key != "k" || got != want {
			t.Errorf("%s: %q %q %+v %v", name, user, key, got, err)
		}
	}
}

// A key is one user's: nobody reports a phone for somebody else.
func TestKey(t *testing.T) {
	_, c := start(t)
	c.AppIDs = []string{"com.example.ios", "com.example.ios.pushkit"}
	build(t, c)
	reports, err := c.Reports()
	if err != nil {
		t.Fatal(err)
	}
	r := iphone()
	bob := reports.Key("bob@example.com").Reveal()
	if err := reports.Judge("bob@example.com", bob, &r); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"", "x", reports.Key("alice@example.com").Reveal(), bob[:len(bob)-1]} {
		if err := reports.Judge("bob@example.com", key, &r); err != acrobits.ErrForbidden { //nolint:errorlint // it is never wrapped
			t.Errorf("%q: %v", key, err)
		}
	}
	r.CallApp = "com.other"
	if err := reports.Judge("bob@example.com", bob, &r); err == nil {
		t.Error("an app that is none of app_ids may report")
	}
}
