package apns_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
)

const (
	bundle = "org.example.phone"
	team   = "TEAM123456"
	keyID  = "KEY1234567"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// token returns the n-th device token.
func token(n int) string { return fmt.Sprintf("%064x", 0xfeed0000+n) }

// start runs a simulator and returns the configuration of an app for it.
func start(t testing.TB, o apnssim.Options) (*apnssim.Server, *apns.Config) {
	t.Helper()
	sim, err := apnssim.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	dir := t.TempDir()
	key, err := sim.MakeKey(dir, team, keyID, bundle)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := sim.WriteCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &apns.Config{
		BundleID: bundle, TeamID: team, KeyID: keyID, KeyFile: key, CAFile: ca,
		Endpoint: sim.URL(), SandboxEndpoint: sim.URL(),
	}
	return sim, c
}

// apps builds the configuration's apps.
func apps(t testing.TB, c *apns.Config) map[pnparam.Environment]push.App {
	t.Helper()
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	list, err := c.Apps(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[pnparam.Environment]push.App)
	for _, a := range list {
		out[a.Environment] = a
		t.Cleanup(a.Client.Close)
	}
	return out
}

func client(t testing.TB, c *apns.Config) push.Provider {
	t.Helper()
	return apps(t, c)[pnparam.Production].Client
}

// within gives a push that must be answered far more time than it needs.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func call(n int) *push.Notification {
	return notification(n, push.Call, pnparam.VoIP, time.Now().Add(20*time.Second))
}

// notification is what the dispatcher makes of a request for the n-th token.
func notification(n int, kind push.Kind, service pnparam.Service, deadline time.Time) *push.Notification {
	return &push.Notification{
		Kind: kind, Service: service, Token: secret.NewToken(token(n)),
		Payload: []byte(`{"aps":{},"from":"<sip:a&b@example.org>"}`), Deadline: deadline,
		Delivery: push.DefaultTemplates(pnparam.APNs).Delivery(&push.Request{Kind: kind, Service: service, Deadline: deadline}),
	}
}

func TestHeaders(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	deadline := time.Now().Add(time.Minute)
	later := strconv.FormatInt(deadline.Unix(), 10)
	f := func(kind push.Kind, service pnparam.Service, topic, pushType, priority, expiration string) {
		t.Helper()
		n := notification(1, kind, service, deadline)
		n.CollapseID = "one"
		r := p.Push(within(t, 10*time.Second), n)
		if r.Reason != push.Accepted || r.ID == "" || r.Detail != "" {
			t.Fatalf("%s to %s: %+v", kind, service, r)
		}
		all := sim.Pushes()
		got := all[len(all)-1]
		if got.Topic != topic || got.PushType != pushType || got.Priority != priority ||
			got.Expiration != expiration || got.CollapseID != "one" || got.Team != team {
			t.Errorf("%s to %s: %+v", kind, service, got)
		}
		if string(got.Payload) != string(n.Payload) {
			t.Errorf("payload was changed to %s", got.Payload)
		}
	}
	f(push.Call, pnparam.VoIP, bundle+".voip", "voip", "10", later)
	f(push.Call, pnparam.Remote, bundle, "alert", "10", later)
	f(push.Call, "", bundle, "alert", "10", later)
	f(push.Chat, pnparam.Remote, bundle, "alert", "10", later)
	f(push.Custom, pnparam.Remote, bundle, "alert", "10", later)
	f(push.Refresh, pnparam.Remote, bundle, "background", "5", later)
	f(push.Cancel, pnparam.Remote, bundle, "background", "5", later)
}

func TestTopicOverride(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	c.Topic = "org.example.other"
	key, err := sim.MakeKey(t.TempDir(), team, "OTHERKEY00", c.Topic)
	if err != nil {
		t.Fatal(err)
	}
	c.KeyFile, c.KeyID = key, "OTHERKEY00"
	if r := client(t, c).Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Fatalf("%+v", r)
	}
	if got := sim.Pushes()[0].Topic; got != "org.example.other.voip" {
		t.Errorf("topic %s", got)
	}
}

// Invariant 5: an iOS voip token is only ever pushed for a call.
func TestVoIPTokenIsOnlyForCalls(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	for _, kind := range push.Kinds() {
		n := call(1)
		n.Kind = kind
		r := p.Push(within(t, 10*time.Second), n)
		want := push.NoToken
		if kind == push.Call {
			want = push.Accepted
		}
		if r.Reason != want {
			t.Errorf("%s: %+v", kind, r)
		}
	}
	if accepted, refused := sim.Counts(); accepted != 1 || refused != 0 {
		t.Errorf("the server saw %d and %d pushes", accepted, refused)
	}
}

func TestTokenThatIsNone(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	for _, bad := range []string{"", "abc", "../../3/device/" + token(1), token(1) + "?x", token(1) + "%2f", strings.Repeat("a", 300), token(1) + "\n"} {
		n := call(1)
		n.Token = secret.NewToken(bad)
		r := p.Push(within(t, 10*time.Second), n)
		if r.Reason != push.TokenBad && r.Reason != push.NoToken {
			t.Errorf("%q: %+v", bad, r)
		}
	}
	if _, ever := sim.Connections(); ever != 0 {
		t.Errorf("%d connections for tokens that are none", ever)
	}
}

type row struct {
	status int
	reason string
	want   push.Reason
}

// rows are the answers of APNs and what follows from each.
var rows = []row{
	{200, "", push.Accepted},
	{400, "BadDeviceToken", push.TokenBad},
	{400, "DeviceTokenNotForTopic", push.TokenBad},
	{400, "BadCollapseId", push.BadRequest},
	{400, "BadExpirationDate", push.BadRequest},
	{400, "BadMessageId", push.BadRequest},
	{400, "BadPriority", push.BadRequest},
	{400, "BadTopic", push.BadRequest},
	{400, "DuplicateHeaders", push.BadRequest},
	{400, "IdleTimeout", push.Unavailable},
	{400, "InvalidPushType", push.BadRequest},
	{400, "MissingDeviceToken", push.BadRequest},
	{400, "MissingTopic", push.BadRequest},
	{400, "PayloadEmpty", push.BadRequest},
	{400, "TopicDisallowed", push.BadRequest},
	{403, "BadCertificate", push.Credential},
	{403, "BadCertificateEnvironment", push.Credential},
	{403, "ExpiredProviderToken", push.Credential},
	{403, "Forbidden", push.Credential},
	{403, "InvalidProviderToken", push.Credential},
	{403, "MissingProviderToken", push.Credential},
	{403, "BadEnvironmentKeyIdInToken", push.Credential},
	{403, "BadEnvironmentKeyInToken", push.Credential},
	{403, "UnrelatedKeyIdInToken", push.Unavailable},
	{403, "ReasonOfTheFuture", push.Credential},
	{404, "BadPath", push.BadRequest},
	{405, "MethodNotAllowed", push.BadRequest},
	{410, "ExpiredToken", push.TokenDead},
	{410, "Unregistered", push.TokenDead},
	{413, "PayloadTooLarge", push.BadRequest},
	{429, "TooManyProviderTokenUpdates", push.Throttled},
	{429, "TooManyRequests", push.Throttled},
	{500, "InternalServerError", push.Unavailable},
	{503, "ServiceUnavailable", push.Unavailable},
	{503, "Shutdown", push.Unavailable},
}

func TestAnswers(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	died := time.UnixMilli(1_700_000_000_123)
	for i, row := range rows {
		sim.Behave(token(i), apnssim.Behaviour{Status: row.status, Reason: row.reason, Timestamp: died, RetryAfter: "7"})
		r := p.Push(within(t, 10*time.Second), call(i))
		detail := row.reason
		if strings.HasPrefix(detail, "BadEnvironment") {
			detail += ": the key is not for production"
		}
		if r.Reason != row.want || r.Detail != detail {
			t.Errorf("%d %s: %+v", row.status, row.reason, r)
		}
		if want := row.want == push.TokenDead; !r.DeadSince.IsZero() != want || want && !r.DeadSince.Equal(died) {
			t.Errorf("%d %s: dead since %v", row.status, row.reason, r.DeadSince)
		}
		if want := row.want == push.Throttled || row.want == push.Unavailable; (r.RetryAfter == 7*time.Second) != want {
			t.Errorf("%d %s: retry after %v", row.status, row.reason, r.RetryAfter)
		}
	}
}

// Something on the way answers in HTML: the status counts, and is no evidence
// against a token.
func TestAnswersWithoutJSON(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	for i, row := range []row{
		{400, "HTTP 400", push.BadRequest},
		{403, "HTTP 403", push.Credential},
		{407, "HTTP 407", push.Credential},
		{410, "HTTP 410", push.TokenBad},
		{429, "HTTP 429", push.Throttled},
		{502, "HTTP 502", push.Unavailable},
		{503, "HTTP 503", push.Unavailable},
		{302, "HTTP 302", push.BadRequest},
	} {
		sim.Behave(token(i), apnssim.Behaviour{Status: row.status, Body: "<html>" + token(i) + "</html>"})
		r := p.Push(within(t, 10*time.Second), call(i))
		if r.Reason != row.want || r.Detail != row.reason {
			t.Errorf("%d: %+v", row.status, r)
		}
	}
}

func TestPayloadThatIsNotJSON(t *testing.T) {
	_, c := start(t, apnssim.Options{})
	n := call(1)
	n.Payload = []byte(`{"aps":`)
	if r := client(t, c).Push(within(t, 10*time.Second), n); r.Reason != push.BadRequest {
		t.Errorf("%+v", r)
	}
}

func TestCollapseIDAlwaysFits(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	for _, id := range []string{strings.Repeat("x", 65), "Ünïcode", "two words", "line\nbreak"} {
		n := call(1)
		n.CollapseID = id
		if r := p.Push(within(t, 10*time.Second), n); r.Reason != push.Accepted {
			t.Errorf("%q: %+v", id, r)
		}
	}
	for _, got := range sim.Pushes() {
		if len(got.CollapseID) != 32 {
			t.Errorf("collapse id %q", got.CollapseID)
		}
	}
}

func TestExpiredProviderTokenIsSignedAgain(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	expired := apnssim.Behaviour{Status: 403, Reason: "ExpiredProviderToken"}
	sim.Behave(token(1), expired, apnssim.Behaviour{})
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Errorf("first: %+v", r)
	}
	// Within 20 minutes there is no third token.
	sim.Behave(token(2), expired, apnssim.Behaviour{})
	if r := p.Push(within(t, 10*time.Second), call(2)); r.Reason != push.Credential {
		t.Errorf("second: %+v", r)
	}
	if accepted, refused := sim.Counts(); accepted != 1 || refused != 2 {
		t.Errorf("%d accepted, %d refused", accepted, refused)
	}
}

// Many apps and instances of one team present one provider token.
func TestTeamSharesItsProviderToken(t *testing.T) {
	sim, c := start(t, apnssim.Options{MinTokenAge: 10 * time.Minute})
	for range 5 {
		if r := client(t, c).Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
			t.Fatalf("%+v", r)
		}
	}
	// Signed again too soon, Apple refuses it, and the former token is kept.
	p := client(t, c)
	sim.Behave(token(2), apnssim.Behaviour{Status: 403, Reason: "ExpiredProviderToken"}, apnssim.Behaviour{})
	if r := p.Push(within(t, 10*time.Second), call(2)); r.Reason != push.Throttled || r.Detail != "TooManyProviderTokenUpdates" {
		t.Errorf("%+v", r)
	}
}

func TestEnvironments(t *testing.T) {
	production, c := start(t, apnssim.Options{KnownTokens: true})
	sandbox, _ := start(t, apnssim.Options{KnownTokens: true})
	both := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(both, append(production.CA(), sandbox.CA()...), 0o600); err != nil {
		t.Fatal(err)
	}
	c.CAFile, c.SandboxEndpoint = both, sandbox.URL()
	sandbox.AddKey(team, keyID, publicKey(t, c.KeyFile))
	production.AddToken(token(1))
	sandbox.AddToken(token(2))
	all := apps(t, c)
	if len(all) != 2 || !all[pnparam.Production].Default || all[pnparam.Sandbox].Default {
		t.Fatalf("apps %+v", all)
	}
	f := func(env pnparam.Environment, n int, want push.Reason) {
		t.Helper()
		if r := all[env].Client.Push(within(t, 10*time.Second), call(n)); r.Reason != want {
			t.Errorf("token %d at %s: %+v", n, env, r)
		}
	}
	f(pnparam.Production, 1, push.Accepted)
	f(pnparam.Production, 2, push.TokenBad)
	f(pnparam.Sandbox, 1, push.TokenBad)
	f(pnparam.Sandbox, 2, push.Accepted)
}

// TestNothingLeaks runs every failure and looks for the token and the provider
// token in all that comes out.
func TestNothingLeaks(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	n := 0
	f := func(b apnssim.Behaviour, change func(*push.Notification)) {
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
		for _, hidden := range []string{token(n), token(n)[40:], "eyJ"} {
			if strings.Contains(text, hidden) {
				t.Errorf("behaviour %+v: %s", b, text)
			}
		}
		if len(r.Detail) > 200 {
			t.Errorf("behaviour %+v: detail of %d bytes", b, len(r.Detail))
		}
	}
	for _, row := range rows[1:] {
		f(apnssim.Behaviour{Status: row.status, Reason: row.reason}, nil)
	}
	for _, fault := range []apnssim.Fault{apnssim.Silence, apnssim.Reset, apnssim.Drop} {
		f(apnssim.Behaviour{Fault: fault}, nil)
	}
	f(apnssim.Behaviour{Status: 400, Reason: token(n + 1)}, nil)
	f(apnssim.Behaviour{Status: 500, Body: token(n + 1)}, nil)
	f(apnssim.Behaviour{Delay: time.Minute}, nil)
	f(apnssim.Behaviour{}, func(note *push.Notification) { note.Payload = nil })
	f(apnssim.Behaviour{}, func(note *push.Notification) { note.Payload = []byte(token(n)) })
	f(apnssim.Behaviour{}, func(note *push.Notification) { note.Token = secret.NewToken(token(n) + " " + token(n)) })
	sim.Close()
	f(apnssim.Behaviour{}, nil)
}
