package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	key   = "0123456789abcdef0123456789abcdef"
	token = "hms-token-IQAAAACy0PYl/with:all+sorts=of&things"
)

// posted is a request that the service got and found well signed.
type posted struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind"`
	Provider string          `json:"provider"`
	App      string          `json:"app"`
	Token    string          `json:"token"`
	TTL      int             `json:"ttl_s"`
	Payload  json.RawMessage `json:"payload"`
}

// service is what an operator would run.
type service struct {
	*httptest.Server
	t testing.TB

	mu     sync.Mutex
	got    []posted
	conns  map[string]bool
	answer func(w http.ResponseWriter, r *http.Request)
	ahead  time.Duration // its clock
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var p posted
	switch {
	case r.Method != http.MethodPost, r.URL.RequestURI() != "/push?x=1", r.Header.Get("Content-Type") != "application/json":
		s.t.Errorf("%s %s %s", r.Method, r.URL, r.Header)
	case s.ahead != 0 && !verify(r.Header.Get("X-Sipwake-Signature"), text, time.Now().Add(s.ahead)):
		w.Header().Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusUnauthorized)
		return
	case s.ahead == 0 && !verify(r.Header.Get("X-Sipwake-Signature"), text, time.Now()):
		s.t.Errorf("signature %q is not that of the body", r.Header.Get("X-Sipwake-Signature"))
	case json.Unmarshal(text, &p) != nil || p.ID == "" || r.Header.Get("Idempotency-Key") != p.ID:
		s.t.Errorf("%s is not %s", r.Header.Get("Idempotency-Key"), text)
	}
	s.mu.Lock()
	s.got = append(s.got, p)
	s.conns[r.RemoteAddr] = true
	answer := s.answer
	s.mu.Unlock()
	answer(w, r)
}

// verify does what the package comment tells receivers to do.
func verify(header string, text []byte, now time.Time) bool {
	t, v1, ok := strings.Cut(header, ",v1=")
	t, found := strings.CutPrefix(t, "t=")
	seconds, err := strconv.ParseInt(t, 10, 64)
	if !ok || !found || err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s.%s", t, text)
	return hmac.Equal([]byte(v1), []byte(hex.EncodeToString(mac.Sum(nil))))
}

func (s *service) answers(f func(w http.ResponseWriter, r *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *service) posts() []posted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]posted(nil), s.got...)
}

// start runs a service and returns the configuration of an app for it.
func start(t testing.TB) (*service, *webhook.Config) {
	t.Helper()
	s := &service{t: t, conns: make(map[string]bool), answer: func(http.ResponseWriter, *http.Request) {}}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	write := func(name string, contents []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return s, &webhook.Config{
		Provider: "hms", Packages: []string{"102345"}, URL: s.URL + "/push?x=1",
		SecretFile: write("secret", []byte(key+"\n")),
		CAFile:     write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
	}
}

// build makes the configuration's apps.
func build(t testing.TB, c *webhook.Config) []push.App {
	t.Helper()
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	list, err := c.Apps(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		t.Cleanup(a.Client.Close)
	}
	return list
}

func client(t testing.TB, c *webhook.Config) push.Provider {
	t.Helper()
	return build(t, c)[0].Client
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func call() *push.Notification {
	return &push.Notification{
		Kind: push.Call, Token: secret.NewToken(token), Payload: []byte(`{"from":"<sip:a&b@example.org>"}`),
		Deadline: time.Now().Add(20 * time.Second),
	}
}

func TestBody(t *testing.T) {
	s, c := start(t)
	p := client(t, c)
	n := call()
	for range 2 { // two tries of one push
		if r := p.Push(within(t, 10*time.Second), n); r.Reason != push.Accepted {
			t.Fatalf("%+v", r)
		}
	}
	another := call()
	another.Kind, another.Payload, another.Deadline = push.Chat, nil, time.Now().Add(-time.Hour)
	if r := p.Push(within(t, 10*time.Second), another); r.Reason != push.Accepted {
		t.Fatalf("%+v", r)
	}
	got := s.posts()
	var payload map[string]string
	if err := json.Unmarshal(got[0].Payload, &payload); err != nil || payload["from"] != "<sip:a&b@example.org>" {
		t.Errorf("%v: %s", err, got[0].Payload)
	}
	if g := got[0]; g.Kind != "call" || g.Provider != "hms" || g.App != "102345" || g.Token != token || g.TTL < 1 || g.TTL > 20 || len(g.ID) != 32 {
		t.Errorf("%+v", g)
	}
	if g := got[2]; g.Kind != "chat" || g.TTL != 0 || g.Payload != nil {
		t.Errorf("%+v", g)
	}
	if got[0].ID != got[1].ID || got[0].ID == got[2].ID {
		t.Errorf("ids %s, %s, %s", got[0].ID, got[1].ID, got[2].ID)
	}
	if len(s.conns) != 1 {
		t.Errorf("%d connections", len(s.conns))
	}
}

// From the dispatcher to the service, with the default payload and two packages.
func TestThroughDispatcher(t *testing.T) {
	s, c := start(t)
	c.Packages = append(c.Packages, "org.example.phone")
	d := push.NewDispatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := d.SetApps(build(t, c)); err != nil {
		t.Fatal(err)
	}
	outcomes := make(chan push.Outcome)
	for i, app := range c.Packages {
		for j, k := range push.Kinds() {
			d.Push(t.Context(), push.Request{
				Kind: k, Provider: "hms", App: app, Environment: pnparam.Production, Token: secret.NewToken(token),
				Values: push.Values{
					AOR: "bob@example.org", From: "sip:al@example.org", User: "al", Display: `A"l`, CallID: "c1", UUID: "u1",
					Media: "audio", Title: "T", Body: "B", Data: map[string]string{"k": "v"},
				},
				Deadline: time.Now().Add(20 * time.Second),
			}, func(o push.Outcome) { outcomes <- o })
			if o := <-outcomes; o.Reason != push.Accepted {
				t.Fatalf("%+v", o)
			}
			got := s.posts()[i*len(push.Kinds())+j]
			const want = `{"to":"bob@example.org","from":"sip:al@example.org","user":"al","display":"A\"l","call_id":"c1","uuid":"u1",` +
				`"media":"audio","title":"T","body":"B","data":{"k":"v"}}`
			if got.Kind != string(k) || got.App != app || string(got.Payload) != want {
				t.Errorf("%+v %s", got, got.Payload)
			}
		}
	}
	if err := d.Stop(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
}

type row struct {
	status int
	body   string
	want   push.Reason
	detail string
	id     string
}

// rows are the answers of a service and what follows from each.
func rows() []row {
	all := []row{
		{200, "", push.Accepted, "", ""},
		{200, `{"id":"80000123"}`, push.Accepted, "", "80000123"},
		{200, `{"id":"8 0"}`, push.Accepted, "", ""},
		{200, `{"id":8}`, push.Accepted, "", ""},
		{200, `{"id":"` + strings.Repeat("8", 129) + `"}`, push.Accepted, "", ""},
		{200, `{"id":"x` + token + `"}`, push.Accepted, "", ""},
		{200, `{"id":"1","reason":"accepted"}`, push.Accepted, "", "1"},
		{200, `{"id":"1","reason":"token_dead"}`, push.TokenDead, "HTTP 200", ""},
		{200, `{"reason":"expired"}`, push.Accepted, "", ""}, // not for a service to say
		{200, `{"reason":"` + token + `"}`, push.Accepted, "", ""},
		{200, `<html>`, push.Accepted, "", ""},
		{500, `{"reason":"accepted"}`, push.Unavailable, "HTTP 500", ""},
		{500, `{"reason":"bad_request"}`, push.BadRequest, "HTTP 500", ""},
		{400, `{"reason":"token_bad"}`, push.TokenBad, "HTTP 400", ""},
		{400, `{"reason":"throttled"}`, push.Throttled, "HTTP 400", ""},
		{400, `{"reason":"credential"}`, push.Credential, "HTTP 400", ""},
		{400, `{"reason":"unavailable"}`, push.Unavailable, "HTTP 400", ""},
		{400, `{"reason":"no_app"}`, push.BadRequest, "HTTP 400", ""},
	}
	for reason, statuses := range map[push.Reason][]int{
		push.Accepted:    {201, 202, 204, 299},
		push.TokenDead:   {410},
		push.BadRequest:  {400, 402, 406, 409, 411, 413, 414, 415, 422, 451},
		push.Credential:  {401, 403, 407},
		push.Throttled:   {429},
		push.Unavailable: {300, 301, 302, 303, 304, 307, 308, 404, 405, 408, 425, 500, 501, 502, 503, 504, 599},
	} {
		for _, status := range statuses {
			r := row{status, "", reason, "HTTP " + strconv.Itoa(status), ""}
			if reason == push.Accepted {
				r.detail = ""
			}
			all = append(all, r)
		}
	}
	return all
}

// One request is made for each push, whatever the answer.
func TestAnswers(t *testing.T) {
	s, c := start(t)
	p := client(t, c)
	for i, row := range rows() {
		s.answers(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Location", s.URL+"/push?x=1") // and it is not followed
			w.WriteHeader(row.status)
			_, _ = io.WriteString(w, row.body)
		})
		r := p.Push(within(t, 10*time.Second), call())
		wait := time.Duration(0)
		if row.want == push.Throttled || row.want == push.Unavailable {
			wait = 7 * time.Second
		}
		if r.Reason != row.want || r.Detail != row.detail || r.ID != row.id || r.RetryAfter != wait {
			t.Errorf("%+v: %+v", row, r)
		}
		if n := len(s.posts()); n != i+1 {
			t.Fatalf("%+v: %d requests", row, n)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	s, c := start(t)
	p := client(t, c)
	silence := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	f := func(ctx context.Context, answer func(http.ResponseWriter, *http.Request), want push.Reason, detail string) {
		t.Helper()
		s.answers(answer)
		r := p.Push(ctx, call())
		if r.Reason != want || r.Detail != detail || strings.Contains(fmt.Sprintf("%+v", r), "127.0.0.1") {
			t.Errorf("%+v", r)
		}
	}
	fine := func(http.ResponseWriter, *http.Request) {}
	f(within(t, 10*time.Second), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, push.Unavailable, "the connection was lost")
	f(within(t, 10*time.Second), fine, push.Accepted, "")
	f(within(t, 100*time.Millisecond), silence, push.Timeout, "no answer in time")
	f(within(t, 10*time.Second), fine, push.Accepted, "")
	ctx, cancel := context.WithCancel(t.Context())
	f(ctx, func(w http.ResponseWriter, r *http.Request) { cancel(); silence(w, r) }, push.Dropped, "cancelled")
	f(within(t, 10*time.Second), func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 16<<10); ; { // an answer without an end
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}, push.Accepted, "")
	s.Close()
	f(within(t, 10*time.Second), fine, push.Unavailable, "connection refused")

	_, c = start(t)
	c.CAFile = ""
	p = client(t, c)
	f(within(t, 10*time.Second), fine, push.Unavailable, "the certificate of url is not valid")
	c.URL = "https://no-such-host.invalid/push"
	p = client(t, c)
	f(within(t, 20*time.Second), fine, push.Unavailable, "the name in url cannot be resolved")
}

// A service that closed the idle connection has not got the push: it goes out
// again, with the same id.
func TestIdleConnectionClosed(t *testing.T) {
	s, c := start(t)
	p := client(t, c)
	first := true
	s.answers(func(w http.ResponseWriter, _ *http.Request) {
		if len(s.posts()) == 2 && first {
			first = false
			panic(http.ErrAbortHandler)
		}
	})
	for range 2 {
		if r := p.Push(within(t, 10*time.Second), call()); r.Reason != push.Accepted {
			t.Errorf("%+v", r)
		}
	}
	if got := s.posts(); len(got) != 3 || got[1].ID != got[2].ID {
		t.Errorf("%+v", got)
	}
}

func TestBadNotification(t *testing.T) {
	s, c := start(t)
	p := client(t, c)
	n := call()
	n.Token = secret.Token{}
	if r := p.Push(within(t, 10*time.Second), n); r.Reason != push.NoToken {
		t.Errorf("%+v", r)
	}
	n = call()
	n.Payload = []byte(`{"from":` + token)
	if r := p.Push(within(t, 10*time.Second), n); r.Reason != push.BadRequest || strings.Contains(r.Detail, token[:4]) {
		t.Errorf("%+v", r)
	}
	if len(s.posts()) != 0 {
		t.Error("it was posted")
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if text := fmt.Sprintf(verb, p); strings.Contains(text, key) {
			t.Error(text)
		}
	}
}

func TestPlainHTTPOnLoopback(t *testing.T) {
	s, c := start(t)
	plain := httptest.NewServer(s)
	defer plain.Close()
	_, port, _ := net.SplitHostPort(plain.Listener.Addr().String())
	c.URL = "http://localhost:" + port + "/push?x=1"
	if r := client(t, c).Push(within(t, 10*time.Second), call()); r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
}
