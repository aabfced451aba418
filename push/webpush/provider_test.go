package webpush_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/webpushsim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/webpush"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// makeKey writes a new VAPID key.
func makeKey(t testing.TB, dir string) (file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "vapid.pem")
	if err := os.WriteFile(file, pkcs8(t, key), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// start runs a simulator and returns the configuration of an app for it.
func start(t testing.TB, o webpushsim.Options) (*webpushsim.Server, *webpush.Config) {
	t.Helper()
	sim, err := webpushsim.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	dir := t.TempDir()
	ca, err := sim.WriteCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return sim, &webpush.Config{
		VAPIDKeyFile: makeKey(t, dir), Subject: "mailto:admin@example.com", CAFile: ca,
		Hosts: []string{sim.Host()}, AllowPrivate: true,
	}
}

// build makes the configuration's app.
func build(t testing.TB, c *webpush.Config) push.App {
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

func client(t testing.TB, c *webpush.Config) *webpush.Provider {
	t.Helper()
	return build(t, c).Client.(*webpush.Provider)
}

// subscribe subscribes a browser with the configuration's key.
func subscribe(t testing.TB, sim *webpushsim.Server, c *webpush.Config) webpushsim.Subscription {
	t.Helper()
	public, err := c.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := sim.MakeSubscription(public)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func call(uri string) *push.Notification {
	return &push.Notification{
		Kind: push.Call, Token: secret.NewToken(uri), Payload: []byte(`{"ntype":"0"}`),
		Deadline: time.Now().Add(20 * time.Second),
	}
}

func TestHeaders(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	sub := subscribe(t, sim, c)
	f := func(kind push.Kind, left time.Duration, collapse, urgency, topic string, ttl ...int) {
		t.Helper()
		n := call(sub.URL)
		n.Kind, n.Deadline, n.CollapseID = kind, time.Now().Add(left), collapse
		if r := p.Push(within(t, 10*time.Second), n); r != (push.Reply{Reason: push.Accepted}) {
			t.Fatalf("%s: %+v", kind, r)
		}
		all := sim.Pushes()
		got := all[len(all)-1]
		m := got.Message
		if got.Protocol != "HTTP/2.0" || m.Urgency != urgency || m.Topic != topic || m.Payload != nil ||
			m.Subject != "mailto:admin@example.com" || !strings.Contains(fmt.Sprint(ttl), fmt.Sprint(m.TTL)) {
			t.Errorf("%s: %s %+v", kind, got.Protocol, m)
		}
		for _, h := range []string{"Content-Encoding", "Content-Type", "Cookie", "Referer"} {
			if v := got.Header.Get(h); v != "" {
				t.Errorf("%s: %s: %s", kind, h, v)
			}
		}
	}
	f(push.Call, 20*time.Second, "", "high", "", 0)
	f(push.Cancel, time.Minute, "5bd1-x_Y", "high", "5bd1-x_Y", 59, 60)
	f(push.Chat, time.Minute, "", "normal", "", 59, 60)
	f(push.Custom, 1000*time.Hour, "", "normal", "", 2419200)
	// A Topic is base64url; Apple refuses one of a length that no base64 has.
	f(push.Cancel, time.Minute, "5bd1", "high", "5bd1", 59, 60)
	n := call(sub.URL)
	n.CollapseID = "5bd1-"
	if r := p.Push(within(t, 10*time.Second), n); r.Reason != push.Accepted || sim.Pushes()[len(sim.Pushes())-1].Message.Topic == n.CollapseID {
		t.Errorf("a topic of 5 characters: %+v", r)
	}
	f(push.Refresh, -time.Hour, "a b", "normal", topicOf(t, sim, p, sub), 0)
}

// topicOf is what becomes of an id that does not fit.
func topicOf(t *testing.T, sim *webpushsim.Server, p *webpush.Provider, sub webpushsim.Subscription) string {
	t.Helper()
	n := call(sub.URL)
	n.CollapseID = "a b"
	if r := p.Push(within(t, 10*time.Second), n); r.Reason != push.Accepted {
		t.Fatalf("%+v", r)
	}
	all := sim.Pushes()
	topic := all[len(all)-1].Message.Topic
	if len(topic) != 32 {
		t.Errorf("topic %q", topic)
	}
	return topic
}

func TestEncryptedPayload(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	sub := subscribe(t, sim, c)
	keys := &pnparam.WebPushKeys{P256dh: secret.NewToken(sub.P256dh), Auth: secret.NewToken(sub.Auth)}
	got := make(chan *webpushsim.Message, 1)
	sim.OnDeliver(sub.URL, func(m *webpushsim.Message) { got <- m })
	f := func(payload string) {
		t.Helper()
		n := call(sub.URL)
		n.Payload = []byte(payload)
		if r := p.PushEncrypted(within(t, 10*time.Second), n, keys); r.Reason != push.Accepted {
			t.Fatalf("%+v", r)
		}
		if m := <-got; string(m.Payload) != payload {
			t.Errorf("got %d bytes, want %d", len(m.Payload), len(payload))
		}
	}
	f(`{"nfrom":"<sip:a&b@example.org>"}`)
	f(strings.Repeat("x", webpush.MaxPayload))
	f("") // no payload to encrypt

	n := call(sub.URL)
	n.Payload = make([]byte, webpush.MaxPayload+1)
	if r := p.PushEncrypted(within(t, 10*time.Second), n, keys); r.Reason != push.BadRequest {
		t.Errorf("too long: %+v", r)
	}
	for _, bad := range []*pnparam.WebPushKeys{{}, {P256dh: keys.P256dh}, {P256dh: keys.Auth, Auth: keys.Auth}} {
		if r := p.PushEncrypted(within(t, 10*time.Second), call(sub.URL), bad); r.Reason != push.TokenBad {
			t.Errorf("bad keys: %+v", r)
		}
	}
	if n := sim.Requests(); n != 3 {
		t.Errorf("%d requests", n)
	}
}

type row struct {
	answer webpushsim.Behaviour
	want   push.Reason
	detail string
	wait   time.Duration
}

// rows are the answers of push services and what follows from each.
func rows() []row {
	b := func(status int, reason string) webpushsim.Behaviour {
		return webpushsim.Behaviour{Status: status, Reason: reason}
	}
	late := func(b webpushsim.Behaviour) webpushsim.Behaviour { b.RetryAfter = "7"; return b }
	return []row{
		{b(200, ""), push.Accepted, "", 0},
		{b(201, "x"), push.Accepted, "", 0},
		{b(202, ""), push.Accepted, "", 0},
		{b(204, ""), push.Accepted, "", 0},
		{b(203, ""), push.BadRequest, "HTTP 203", 0},
		{b(301, ""), push.BadRequest, "HTTP 301", 0},
		{b(307, ""), push.BadRequest, "HTTP 307", 0},
		{b(400, ""), push.BadRequest, "HTTP 400", 0},
		{b(400, "VapidPkHashMismatch"), push.TokenBad, "HTTP 400 VapidPkHashMismatch", 0},
		{b(401, ""), push.Credential, "HTTP 401", 0},
		{webpushsim.Behaviour{Status: 401, Body: `{"code":401,"errno":109,"error":"Unauthorized"}`}, push.Credential, "HTTP 401 Unauthorized", 0},
		{webpushsim.Behaviour{Status: 400, Body: `{"error":{"code":400,"status":"X"}}`}, push.BadRequest, "HTTP 400", 0},
		{webpushsim.Behaviour{Status: 400, Body: `<html>`}, push.BadRequest, "HTTP 400", 0},
		{b(403, ""), push.TokenBad, "HTTP 403", 0}, // the 200 above was with the same signature
		{b(403, "BadJwtToken"), push.Credential, "HTTP 403 BadJwtToken", 0},
		{b(404, ""), push.TokenDead, "HTTP 404", 0},
		{b(405, ""), push.BadRequest, "HTTP 405", 0},
		{b(406, ""), push.Throttled, "HTTP 406", 0},
		{b(407, ""), push.Credential, "HTTP 407", 0},
		{b(408, ""), push.Unavailable, "HTTP 408", 0},
		{b(410, ""), push.TokenDead, "HTTP 410", 0},
		{late(b(410, "Unregistered")), push.TokenDead, "HTTP 410 Unregistered", 0},
		{b(413, "PayloadTooLarge"), push.BadRequest, "HTTP 413 PayloadTooLarge", 0},
		{b(425, ""), push.Unavailable, "HTTP 425", 0},
		{b(429, ""), push.Throttled, "HTTP 429", 0},
		{late(b(429, "TooManyRequests")), push.Throttled, "HTTP 429 TooManyRequests", 7 * time.Second},
		{b(500, ""), push.Unavailable, "HTTP 500", 0},
		{late(b(503, "")), push.Unavailable, "HTTP 503", 7 * time.Second},
		{b(599, ""), push.Unavailable, "HTTP 599", 0},
	}
}

// One request leaves for each push, whatever the answer.
func TestAnswers(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	for _, row := range rows() {
		sub := subscribe(t, sim, c)
		sim.Behave(sub.URL, row.answer)
		before := sim.Requests()
		r := p.Push(within(t, 10*time.Second), call(sub.URL))
		if r.Reason != row.want || r.Detail != row.detail || r.RetryAfter != row.wait || r.ID != "" {
			t.Errorf("%+v: %+v", row.answer, r)
		}
		if after := sim.Requests(); after != before+1 {
			t.Errorf("%+v: %d requests", row.answer, after-before)
		}
	}
}

// A refused signature is our fault until the service has taken a push with it;
// after that it is the subscription's, which was made with another key.
func TestForbidden(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	mine := subscribe(t, sim, c)
	other, err := sim.MakeSubscription("BOtherKey")
	if err != nil {
		t.Fatal(err)
	}
	f := func(sub webpushsim.Subscription, want push.Reason) {
		t.Helper()
		if r := p.Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != want {
			t.Errorf("%+v", r)
		}
	}
	f(other, push.Credential)
	f(mine, push.Accepted)
	f(other, push.TokenBad)
}

func TestRedirectIsNotFollowed(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	sub, target := subscribe(t, sim, c), subscribe(t, sim, c)
	sim.OnDeliver(target.URL, func(*webpushsim.Message) { t.Error("the redirect was followed") })
	n := uint64(0)
	for _, to := range []string{target.URL, "https://169.254.169.254/latest/meta-data/", "http://127.0.0.1/", "//[::1]/"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			sim.Behave(sub.URL, webpushsim.Behaviour{Status: status, Location: to})
			if r := p.Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.BadRequest || r.Detail != fmt.Sprintf("HTTP %d", status) {
				t.Errorf("%d to %s: %+v", status, to, r)
			}
			n++
		}
	}
	if got := sim.Requests(); got != n {
		t.Errorf("%d requests", got)
	}
}

// The name is one that is allowed, but it leads to this machine.
func TestNameThatLeadsInside(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	_, port, _ := strings.Cut(sim.Host(), ":")
	sub, err := sim.MakeSubscriptionAt("localhost:"+port, "")
	if err != nil {
		t.Fatal(err)
	}
	c.Hosts, c.AllowPrivate = []string{"localhost:" + port}, false
	r := client(t, c).Push(within(t, 10*time.Second), call(sub.URL))
	if r.Reason != push.Unavailable || r.Detail != "the push service's name leads to an address that is not a public one" {
		t.Errorf("%+v", r)
	}
	if open, ever := sim.Connections(); open != 0 || ever != 0 || sim.Requests() != 0 {
		t.Errorf("%d connections", ever)
	}
	c.AllowPrivate = true
	if r := client(t, c).Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.Accepted {
		t.Errorf("allowed: %+v", r)
	}
}

// No proxy from the environment sees the push, or resolves the name.
func TestNoProxy(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("NO_PROXY", "")
	sub := subscribe(t, sim, c)
	if r := client(t, c).Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
}

// TestNothingLeaks runs every failure and looks for the URL and the signature in
// all that comes out.
func TestNothingLeaks(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	check := func(what any, uri string, timeout time.Duration) {
		t.Helper()
		n := call(uri)
		r := p.Push(within(t, timeout), n)
		text := fmt.Sprintf("%+v %#v %v", r, r, n)
		hidden := []string{uri, "vapid", "eyJ", sim.Host(), "BEGIN"}
		if u, err := url.Parse(uri); err == nil && len(u.Path) > 8 {
			hidden = append(hidden, u.Path[8:], u.Hostname())
		}
		for _, h := range hidden {
			if strings.Contains(text, h) {
				t.Errorf("%+v: %s", what, text)
			}
		}
		if len(r.Detail) > 200 {
			t.Errorf("%+v: detail of %d bytes", what, len(r.Detail))
		}
	}
	f := func(b func(uri string) webpushsim.Behaviour) {
		t.Helper()
		sub := subscribe(t, sim, c)
		sim.Behave(sub.URL, b(sub.URL))
		check(b(sub.URL), sub.URL, 300*time.Millisecond)
	}
	for _, row := range rows() {
		f(func(string) webpushsim.Behaviour { return row.answer })
	}
	for _, fault := range []webpushsim.Fault{webpushsim.Silence, webpushsim.Reset, webpushsim.Drop, webpushsim.Flood} {
		f(func(string) webpushsim.Behaviour { return webpushsim.Behaviour{Fault: fault} })
	}
	f(func(uri string) webpushsim.Behaviour { return webpushsim.Behaviour{Status: 400, Reason: uri} })
	f(func(uri string) webpushsim.Behaviour {
		return webpushsim.Behaviour{Status: 201, Reason: uri, Location: uri}
	})
	f(func(uri string) webpushsim.Behaviour {
		return webpushsim.Behaviour{Status: 500, Body: uri, RetryAfter: uri}
	})
	check("another host", "https://user:secret@evil.example/wpush/gAAAAABhQzE5", time.Second)
	check("no URL", "not\nquite a URL with a token", time.Second)
	sub := subscribe(t, sim, c)
	sim.Close()
	check("away", sub.URL, 10*time.Second)
	c.CAFile = ""
	other, _ := start(t, webpushsim.Options{})
	c.Hosts = []string{other.Host()}
	p = client(t, c)
	sub = subscribe(t, other, c)
	check("certificate", sub.URL, 10*time.Second)
	if r := p.Push(within(t, 10*time.Second), call(sub.URL)); r.Detail != "the push service's certificate is not valid" {
		t.Errorf("%+v", r)
	}
	c.Hosts = []string{"no-such-host.invalid"}
	p = client(t, c)
	check("name", "https://no-such-host.invalid/wpush/gAAAAABhQzE5", 10*time.Second)
}
