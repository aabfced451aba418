package apns_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
)

// dispatch runs a dispatcher with the configuration's apps. The returned function
// pushes and waits for the outcome.
func dispatch(t *testing.T, c *apns.Config) (*push.Dispatcher, func(push.Request) push.Outcome) {
	t.Helper()
	d := push.NewDispatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	reload(t, d, c)
	return d, func(r push.Request) push.Outcome {
		done := make(chan push.Outcome, 1)
		d.Push(context.Background(), r, func(o push.Outcome) { done <- o })
		return <-done
	}
}

func reload(t *testing.T, d *push.Dispatcher, c *apns.Config) {
	t.Helper()
	c.SetDefaults()
	c.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	list, err := c.Apps(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetApps(list); err != nil {
		t.Fatal(err)
	}
}

func request(kind push.Kind, service pnparam.Service) push.Request {
	return push.Request{
		Kind: kind, Provider: pnparam.APNs, App: bundle, Service: service, Token: secret.NewToken(token(1)),
		Values: push.Values{
			AOR: "bob@example.com", From: "sip:alice@example.com", User: "alice", Display: `Alice "A" Ünal`,
			CallID: "call-1", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Media: "audio", Body: "Hello",
		},
		Deadline: time.Now().Add(time.Minute),
	}
}

func lastPush(t *testing.T, sim *apnssim.Server) apnssim.Push {
	t.Helper()
	all := sim.Pushes()
	if len(all) == 0 {
		t.Fatal("nothing was pushed")
	}
	return all[len(all)-1]
}

// The default payloads as Apple gets them: the data keys of every push, handle
// and callUUID for CallKit.
func TestDefaultPayloads(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	c.Sounds = map[push.Kind]string{push.Call: "ring.caf"}
	_, send := dispatch(t, c)
	f := func(kind push.Kind, service pnparam.Service, ntype string, aps map[string]any) {
		t.Helper()
		if o := send(request(kind, service)); o.Reason != push.Accepted {
			t.Fatalf("%s: %+v", kind, o)
		}
		var got map[string]any
		if err := json.Unmarshal(lastPush(t, sim).Payload, &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"ntype": ntype, "nfromusername": "alice", "nfrom": "alice", "nmsg": "Hello", "ncallid": "call-1", "ntousr": "bob",
		}
		want["data"] = maps.Clone(want) // where apps written for MPUSH look
		maps.Copy(want, map[string]any{
			"aps": aps, "nfromuri": "sip:alice@example.com", "handle": "alice", "callUUID": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
			"display": `Alice "A" Ünal`, "media": "audio",
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
	alert := func(title, body, sound string) map[string]any {
		return map[string]any{"alert": map[string]any{"title": title, "body": body}, "sound": sound, "mutable-content": 1.0}
	}
	ring := alert("Incoming call", "Hello", "ring.caf")
	delete(ring, "mutable-content")
	silent := map[string]any{"content-available": 1.0}
	f(push.Call, pnparam.VoIP, "0", map[string]any{})
	f(push.Call, pnparam.Remote, "0", ring)
	f(push.Chat, pnparam.Remote, "1", alert(`Alice "A" Ünal`, "Hello", "default"))
	f(push.Cancel, pnparam.Remote, "2", silent)
	f(push.Custom, pnparam.Remote, "3", alert(`Alice "A" Ünal`, "Hello", "default"))
	f(push.Refresh, pnparam.Remote, "4", silent)
}

// A text of any length arrives cut to Apple's limit, which is higher for voip.
func TestLongTextFitsTheLimit(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	_, send := dispatch(t, c)
	f := func(kind push.Kind, service pnparam.Service, limit int) {
		t.Helper()
		r := request(kind, service)
		r.Values.Body = strings.Repeat("öß€😀\"", 2000)
		if o := send(r); o.Reason != push.Accepted {
			t.Fatalf("%s: %+v", kind, o)
		}
		payload := lastPush(t, sim).Payload
		var got struct{ Nmsg string }
		if err := json.Unmarshal(payload, &got); err != nil {
			t.Fatal(err)
		}
		if len(payload) > limit || len(payload) < limit-16 || !utf8.Valid(payload) || !strings.HasPrefix(r.Values.Body, got.Nmsg) {
			t.Errorf("%s: payload of %d bytes, limit %d: %s", kind, len(payload), limit, payload)
		}
	}
	f(push.Call, pnparam.VoIP, 5120)
	f(push.Chat, pnparam.Remote, 4096)
}

// What is set for the app and kind, in the headers as Apple gets them; and a
// reload that changes it while the connections stay.
func TestOptions(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	dir := t.TempDir()
	template := filepath.Join(dir, "chat.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(template, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"aps":{"alert":"{FROMDISPLAYNAME}: {MSG}"},"to":"{TO}","package":"{PACKAGE}","ttl":"{TTLNUM}"}`)
	c.TemplatesDir = dir
	c.TTL = map[push.Kind]time.Duration{push.Chat: time.Hour, push.Call: 7 * time.Second}
	c.Priority = map[push.Kind]push.Priority{push.Chat: push.Normal}
	c.PushType = map[push.Kind]push.Type{push.Cancel: push.TypeAlert}
	d, send := dispatch(t, c)

	f := func(kind push.Kind, service pnparam.Service, pushType, priority string, ttl time.Duration, payload string) {
		t.Helper()
		before := time.Now()
		r := request(kind, service)
		if o := send(r); o.Reason != push.Accepted {
			t.Fatalf("%s: %+v", kind, o)
		}
		p := lastPush(t, sim)
		expires, err := strconv.ParseInt(p.Expiration, 10, 64)
		if err != nil || expires < before.Add(ttl).Unix() || expires > time.Now().Add(ttl).Unix() {
			t.Errorf("%s: expiration %s, want in %v", kind, p.Expiration, ttl)
		}
		if p.PushType != pushType || p.Priority != priority || !strings.HasPrefix(string(p.Payload), payload) {
			t.Errorf("%s: %+v %s", kind, p, p.Payload)
		}
	}
	f(push.Call, pnparam.VoIP, "voip", "10", 7*time.Second, `{"aps":{}`)
	f(push.Cancel, pnparam.Remote, "alert", "10", time.Minute, `{"aps":{"content-available"`)
	f(push.Chat, pnparam.Remote, "alert", "5", time.Hour,
		`{"aps":{"alert":"Alice \"A\" Ünal: Hello"},"to":"bob@example.com","package":"`+bundle+`","ttl":"3`)

	_, before := sim.Connections()
	write(`{"aps":{"alert":"changed {TYPE}"}}`)
	c.Priority = nil
	reload(t, d, c)
	f(push.Chat, pnparam.Remote, "alert", "10", time.Hour, `{"aps":{"alert":"changed 1"}}`)
	if _, after := sim.Connections(); after != before {
		t.Errorf("the reload opened %d connections", after-before)
	}
}

func TestTemplateProblemsNameTheField(t *testing.T) {
	_, c := start(t, apnssim.Options{})
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte("{\n\"aps\": \"{CALLER}\"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Templates = map[string]string{"call_voip": bad}
	c.KeyFile = "none"
	c.SetDefaults()
	_, err := c.Apps(slog.New(slog.DiscardHandler))
	want := "key_file: cannot read file: open none: no such file or directory\n" +
		"templates.call_voip: " + bad + ": line 2: aps: unknown keyword {CALLER}"
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

// An app that keeps failing is switched off, and on again at the first success.
func TestBreaker(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	c.Tries, c.BreakerFailures, c.BreakerPause = 1, 3, time.Second
	d, send := dispatch(t, c)
	f := func(want push.Reason, state string, reached uint64) {
		t.Helper()
		accepted, refused := sim.Counts()
		if o := send(request(push.Custom, pnparam.Remote)); o.Reason != want {
			t.Errorf("%+v, want %s", o, want)
		}
		a, r := sim.Counts()
		if a+r-accepted-refused != reached {
			t.Errorf("%d pushes reached the service, want %d", a+r-accepted-refused, reached)
		}
		if got := d.Apps()[0].Breaker; got != state {
			t.Errorf("breaker is %s, want %s", got, state)
		}
	}
	halfOpen := func() {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); d.Apps()[0].Breaker != "half-open"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the breaker stays open")
			}
		}
	}
	sim.Behave(token(1), apnssim.Behaviour{Status: 503, Reason: "ServiceUnavailable"})
	f(push.Unavailable, "closed", 1)
	f(push.Unavailable, "closed", 1)
	f(push.Unavailable, "open", 1)
	f(push.BreakerOpen, "open", 0)
	halfOpen()
	f(push.Unavailable, "open", 1) // one is let through to see
	halfOpen()
	sim.Behave(token(1))
	f(push.Accepted, "closed", 1)

	sim.Behave(token(1), apnssim.Behaviour{Status: 403, Reason: "InvalidProviderToken"})
	f(push.Credential, "open", 1) // at once
	halfOpen()
	sim.Behave(token(1))
	f(push.Accepted, "closed", 1)
}
