package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/pushtest"
	"github.com/sipwake/sipwake/push/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	theToken = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
	access   = "7f3a-token-of-a-pbx"
)

// maker is a simulated sipwake of an app's maker.
type maker struct {
	*httptest.Server
	got    chan map[string]any
	answer func(w http.ResponseWriter, n int) // n counts the requests, from 1
}

func start(t *testing.T) (*maker, push.App) {
	t.Helper()
	m := &maker{got: make(chan map[string]any, 100)}
	n := 0
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Method string
			Params map[string]any
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Method != "push.relay" || r.Header.Get("Authorization") != "Bearer "+access {
			t.Errorf("%v %q %q", err, q.Method, r.Header)
		}
		n++
		m.got <- q.Params
		m.answer(w, n)
	}))
	t.Cleanup(m.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(access+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := relay.Config{Provider: "apns", Packages: []string{"com.a"}, URL: m.URL, TokenFile: file}
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	apps, err := c.Apps(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(apps[0].Client.Close)
	return m, apps[0]
}

// Every answer of the table, as a reason, an HTTP status or an error of JSON-RPC.
func TestTableOfAnswers(t *testing.T) {
	table := relay.Answers()
	pushtest.Answers(t, table, simulated)
}

// A machine that has no more files is no reason to give a call up.
func TestStarved(t *testing.T) { pushtest.Starved(t, simulated(t)) }

// simulated is an app with the push service that the tests of all providers ask.
func simulated(t *testing.T) pushtest.Service {
	t.Helper()
	m, app := start(t)
	m.answer = func(w http.ResponseWriter, _ int) {
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"state":"done","reason":"accepted"}}`)
	}
	return pushtest.Service{App: app, Hidden: []string{access},
		Request: push.Request{Provider: "apns", App: "com.a", Service: "remote", Token: secret.NewToken(theToken), Values: push.Values{AOR: "bob@example.com"}},
		Answer: func(status int, word string) {
			m.answer = func(w http.ResponseWriter, _ int) {
				if status != http.StatusBadRequest && status != http.StatusTeapot {
					w.WriteHeader(status)
					return
				}
				fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"state":"done","reason":%q,"detail":"because"}}`, word)
			}
		}}
}

// While the maker says that the push is under way, it is asked for again under the same
// ID, until there is an answer or no more time.
func TestPending(t *testing.T) {
	m, app := start(t)
	m.answer = func(w http.ResponseWriter, n int) {
		state := `"pending"`
		if n == 3 {
			state = `"done","reason":"token_dead","about":"token","dead_since":"2026-01-02T03:04:05Z"`
		}
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"state":`+state+`}}`)
	}
	n := &push.Notification{Kind: push.Call, App: "com.a", Environment: "sandbox", Service: "voip", Token: secret.NewToken(theToken),
		Payload: []byte(`{"user":"1001"}`), Deadline: time.Now().Add(30 * time.Second)}
	r := app.Client.Push(t.Context(), n)
	if r.Reason != push.TokenDead || r.DeadSince.IsZero() || len(m.got) != 3 {
		t.Errorf("%+v after %d requests", r, len(m.got))
	}
	first, second := <-m.got, <-m.got
	if first["id"] != second["id"] || first["environment"] != "sandbox" || first["service"] != "voip" || first["app"] != "com.a" ||
		first["token"] != theToken || fmt.Sprint(first["values"]) != "map[user:1001]" {
		t.Errorf("%v\n%v", first, second)
	}
	m.answer = func(w http.ResponseWriter, _ int) {
		time.Sleep(5 * time.Millisecond)
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"state":"pending"}}`)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r := app.Client.Push(ctx, n); r.Reason != push.Timeout {
		t.Errorf("%+v", r)
	}
}

// What is no answer of a sipwake says nothing of the push.
func TestNoAnswerOfARelay(t *testing.T) {
	m, app := start(t)
	for _, body := range []string{"", "<html>", "{}", `{"jsonrpc":"2.0","id":1,"result":{"state":"done"}}`} {
		m.answer = func(w http.ResponseWriter, _ int) { fmt.Fprint(w, body) }
		n := &push.Notification{Kind: push.Call, Token: secret.NewToken(theToken), Payload: []byte(`{}`), Deadline: time.Now().Add(time.Minute)}
		if r := app.Client.Push(t.Context(), n); r.Reason != push.Unavailable {
			t.Errorf("%q: %+v", body, r)
		}
	}
}

func TestErrors(t *testing.T) {
	m, app := start(t)
	for code, want := range map[int]push.Reason{-32001: push.Credential, -32002: push.Throttled, -32003: push.Unavailable, -32602: push.BadRequest, -32601: push.BadRequest} {
		m.answer = func(w http.ResponseWriter, _ int) {
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"error":{"code":`+strconv.Itoa(code)+`,"message":"x"}}`)
		}
		n := &push.Notification{Kind: push.Call, Token: secret.NewToken(theToken), Payload: []byte(`{}`), Deadline: time.Now().Add(time.Minute)}
		if r := app.Client.Push(t.Context(), n); r.Reason != want {
			t.Errorf("%d: %+v", code, r)
		}
		<-m.got
		prober := app.Client.(push.Prober)
		if err := prober.Probe(t.Context()); (err == nil) != (code == -32602) {
			t.Errorf("%d: probe %v", code, err)
		}
	}
}
