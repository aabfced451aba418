package fcm_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/fcm"
)

// dispatch runs a dispatcher with the configuration's app. The returned function
// pushes and waits for the outcome.
func dispatch(t *testing.T, c *fcm.Config) (*push.Dispatcher, func(push.Request) push.Outcome) {
	t.Helper()
	d := push.NewDispatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := d.SetApps([]push.App{build(t, c)}); err != nil {
		t.Fatal(err)
	}
	return d, func(r push.Request) push.Outcome {
		done := make(chan push.Outcome, 1)
		d.Push(context.Background(), r, func(o push.Outcome) { done <- o })
		return <-done
	}
}

func request(kind push.Kind) push.Request {
	return push.Request{
		Kind: kind, Provider: pnparam.FCM, App: project, Token: secret.NewToken(token(1)),
		Values: push.Values{
			AOR: "bob@example.com", From: "sip:alice@example.com", User: "alice", Display: `Alice "A" Ünal`,
			CallID: "call-1", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Media: "audio", Body: "Hello",
		},
		Deadline: time.Now().Add(time.Minute),
	}
}

// delivered pushes and returns the message as FCM got it.
func delivered(t *testing.T, sim *fcmsim.Server, send func(push.Request) push.Outcome, r push.Request) *fcmsim.Message {
	t.Helper()
	if o := send(r); o.Reason != push.Accepted {
		t.Fatalf("%s: %+v", r.Kind, o)
	}
	all := sim.Pushes()
	return all[len(all)-1].Message
}

// iOS is the apns part of a message.
type iOS struct {
	Headers map[string]string `json:"headers"`
	Payload struct {
		Aps map[string]any `json:"aps"`
	} `json:"payload"`
}

func forIPhone(t *testing.T, m *fcmsim.Message) iOS {
	t.Helper()
	var part iOS
	if err := json.Unmarshal(m.APNs, &part); err != nil {
		t.Fatalf("apns part %s: %v", m.APNs, err)
	}
	return part
}

// The default payloads as FCM gets them: the data keys of every push, data only
// for calls, a notification for chat and custom.
func TestDefaultPayloads(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	c.Sounds = map[push.Kind]string{push.Call: "ring.caf"}
	_, send := dispatch(t, c)
	f := func(kind push.Kind, ntype, priority, notification string) {
		t.Helper()
		m := delivered(t, sim, send, request(kind))
		want := map[string]string{
			"ntype": ntype, "nfromusername": "alice", "nfrom": "alice", "nfromuri": "sip:alice@example.com", "nmsg": "Hello",
			"ncallid": "call-1", "ntousr": "bob", "handle": "alice", "callUUID": "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
			"display": `Alice "A" Ünal`, "media": "audio",
		}
		if diff := cmp.Diff(want, m.Data); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
		if string(m.Notification) != notification || m.Android.Priority != priority {
			t.Errorf("%s: notification %s, priority %s", kind, m.Notification, m.Android.Priority)
		}
		if visible := notification != ""; visible != (len(m.Android.Notification) > 0) {
			t.Errorf("%s: notification for Android %s", kind, m.Android.Notification)
		}
	}
	const hello = `{"title":"Alice \"A\" Ünal","body":"Hello"}`
	f(push.Call, "0", "high", "")
	f(push.Chat, "1", "high", hello)
	f(push.Cancel, "2", "normal", "")
	f(push.Custom, "3", "high", hello)
	f(push.Refresh, "4", "normal", "")
}

// An iPhone whose app uses FCM gets what it would get from us through Apple.
func TestIPhone(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	c.Sounds = map[push.Kind]string{push.Call: "ring.caf"}
	c.TTL = map[push.Kind]time.Duration{push.Chat: time.Hour}
	_, send := dispatch(t, c)
	f := func(kind push.Kind, pushType, priority string, ttl time.Duration, aps map[string]any) {
		t.Helper()
		before := time.Now()
		m := delivered(t, sim, send, request(kind))
		got := forIPhone(t, m)
		if got.Headers["apns-push-type"] != pushType || got.Headers["apns-priority"] != priority {
			t.Errorf("%s: headers %v", kind, got.Headers)
		}
		expires, err := strconv.ParseInt(got.Headers["apns-expiration"], 10, 64)
		if ttl == 0 && expires != 0 || err != nil ||
			ttl > 0 && (expires < before.Add(ttl).Unix() || expires > time.Now().Add(ttl).Unix()) {
			t.Errorf("%s: headers %v, want to expire in %v", kind, got.Headers, ttl)
		}
		if diff := cmp.Diff(aps, got.Payload.Aps); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
		seconds, err := strconv.ParseFloat(strings.TrimSuffix(m.Android.TTL, "s"), 64)
		if left := time.Duration(seconds) * time.Second; err != nil || left > ttl || left < ttl-time.Since(before)-time.Second {
			t.Errorf("%s: ttl %s, want %v", kind, m.Android.TTL, ttl)
		}
	}
	ring := map[string]any{"alert": map[string]any{"title": "Incoming call", "body": "Hello"}, "sound": "ring.caf"}
	sound := map[string]any{"sound": "default", "mutable-content": 1.0} // FCM makes the alert
	silent := map[string]any{"content-available": 1.0}
	f(push.Call, "alert", "10", time.Minute, ring)
	f(push.Chat, "alert", "10", time.Hour, sound)
	f(push.Cancel, "background", "5", time.Minute, silent)
	f(push.Custom, "alert", "10", time.Minute, sound)
	f(push.Refresh, "background", "5", time.Minute, silent)
}

// What a template says itself stays as it is.
func TestTemplateWins(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	dir := t.TempDir()
	text := `{"data":{"t":"{TTLNUM} {PRIORITY}"},"android":{"priority":"normal","ttl":"7s"},
		"apns":{"headers":{"apns-priority":"5","apns-collapse-id":"{CALLID}"}}}`
	if err := os.WriteFile(filepath.Join(dir, "call.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.TemplatesDir = dir
	c.TTL = map[push.Kind]time.Duration{push.Call: 0} // now or never
	_, send := dispatch(t, c)
	m := delivered(t, sim, send, request(push.Call))
	if m.Android.Priority != "normal" || m.Android.TTL != "7s" || m.Data["t"] != "0 high" {
		t.Errorf("%+v %+v", m, m.Android)
	}
	want := map[string]string{"apns-priority": "5", "apns-collapse-id": "call-1", "apns-push-type": "alert", "apns-expiration": "0"}
	if diff := cmp.Diff(want, forIPhone(t, m).Headers); diff != "" {
		t.Error(diff)
	}
}

// Each mode, with the default templates, and with ones that have it the other way
// round.
func TestNotificationModes(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	dir := t.TempDir()
	for kind, text := range map[push.Kind]string{
		push.Call:   `{"notification":{"title":"own"},"android":{"notification":{"sound":"own"},"priority":"high"},"data":{"{DATA}":null,"a":"<b>"}}`,
		push.Chat:   `{"data":{"a":"<b>"}}`,
		push.Custom: `{"data":{"a":"<b>"},"android":null}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, string(kind)+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := func(mode fcm.Notification, templates string, want ...push.Kind) {
		t.Helper()
		c := *c
		c.Notification, c.TemplatesDir = mode, templates
		_, send := dispatch(t, &c)
		var got []push.Kind
		for _, kind := range push.Kinds() {
			m := delivered(t, sim, send, request(kind))
			if len(m.Notification) > 0 {
				got = append(got, kind)
			} else if len(m.Android.Notification) > 0 {
				t.Errorf("%s: %s has one for Android alone", mode, kind)
			}
			if templates != "" && m.Data["a"] != "<b>" && m.Data["ntype"] == "" {
				t.Errorf("%s: %s has lost its data: %v", mode, kind, m.Data)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", mode, templates, diff)
		}
	}
	f("", "", push.Chat, push.Custom)
	f(fcm.NotificationAuto, "", push.Chat, push.Custom)
	f(fcm.NotificationKeep, "", push.Chat, push.Custom)
	f(fcm.NotificationCalls, "", push.Call, push.Chat, push.Custom)
	f(fcm.NotificationAlways, "", push.Kinds()...)
	f(fcm.NotificationNever, "")
	f(fcm.NotificationNever, dir)
	f(fcm.NotificationAuto, dir)
	f(fcm.NotificationKeep, dir, push.Call)
	f(fcm.NotificationCalls, dir, push.Call)
	f(fcm.NotificationAlways, dir, push.Kinds()...)
}

func TestTemplateProblems(t *testing.T) {
	_, c := start(t, fcmsim.Options{})
	file := filepath.Join(t.TempDir(), "x.json")
	c.Templates = map[string]string{"chat": file}
	f := func(text, want string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.SetDefaults()
		_, err := c.Apps(slog.New(slog.DiscardHandler))
		if want = "templates.chat: " + file + ": " + want; err == nil || err.Error() != want {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
	f("{\n\n\"data\":{\"x\":\"{BODY}\",\"z\":\"{NOBODY}\"}}", "line 3: data.z: unknown keyword {NOBODY}")
	f(`{"notfication":{}}`, `it is not a Message of the FCM v1 API: unknown field "notfication"`)
	f(`{"data":{"n":1}}`, `it is not a Message of the FCM v1 API: data must be a string`)
	f(`{"token":"{TOKEN}"}`, `it is not a Message of the FCM v1 API: unknown field "token"`)
	f(`{"android":1}`, `it is not a Message of the FCM v1 API: android must be a JSON object`)
	f(`{"android":{"ttl":"soon"}}`, `it is not a Message of the FCM v1 API: failed to parse soon: strconv.ParseInt: parsing "soon": invalid syntax`)
	f(`{"notification":{"title":"x","text":"y"}}`, `it is not a Message of the FCM v1 API: unknown field "notification.text"`)
}

// A text of any length arrives, cut to FCM's limit.
func TestLongTextFitsTheLimit(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	_, send := dispatch(t, c)
	r := request(push.Chat)
	r.Values.Body = strings.Repeat("öß€😀\"", 2000)
	text := delivered(t, sim, send, r).Data["nmsg"]
	if len(text) < 1000 || !utf8.ValidString(text) || !strings.HasPrefix(r.Values.Body, text) {
		t.Errorf("the text was cut to %d bytes: %q", len(text), text)
	}
}

// A project that keeps failing is switched off, and on again at the first
// success.
func TestBreaker(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	c.Tries, c.BreakerFailures, c.BreakerPause = 1, 2, time.Second
	d, send := dispatch(t, c)
	f := func(want push.Reason, state string, reached uint64) {
		t.Helper()
		before, _ := sim.Requests()
		if o := send(request(push.Custom)); o.Reason != want {
			t.Errorf("%+v, want %s", o, want)
		}
		if after, _ := sim.Requests(); after-before != reached || d.Apps()[0].Breaker != state {
			t.Errorf("%d requests, want %d; breaker is %s, want %s", after-before, reached, d.Apps()[0].Breaker, state)
		}
	}
	sim.Behave(token(1), fcmsim.Behaviour{Status: 500, Code: "INTERNAL"})
	f(push.Unavailable, "closed", 1)
	f(push.Unavailable, "open", 1)
	f(push.BreakerOpen, "open", 0)
	for end := time.Now().Add(20 * time.Second); d.Apps()[0].Breaker != "half-open"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the breaker stays open")
		}
	}
	sim.Behave(token(1))
	f(push.Accepted, "closed", 1)
}

// The one file of MPUSH is what every kind is sent with, without its target. What may
// show a notification is decided by kind as ever.
func TestMessageFile(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	c.TemplatesDir = t.TempDir()
	const file = `{"message":{"token":"TOKEN",` +
		`"notification":{"title":"TITLE","body":"BODY"},` +
		`"data":{"ntype":"TYPE","nfrom":"FROM","nmsg":"MSG","ncallid":"CALLID","ntousr":"TOUSERNAME"},` +
		`"android":{"priority":"PRIORITY","ttl":"TTLNUMs","notification":{"sound":"SOUND","notification_priority":"NPRIORITY"}},` +
		`"apns":{"headers":{"apns-priority":"APRIORITY","apns-push-type":"PUSHTYPE","apns-expiration":"TTLNUM"},` +
		`"payload":{"aps":{"sound":"SOUND"}}}}}`
	if err := os.WriteFile(filepath.Join(c.TemplatesDir, "fcmmessage.txt"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	c.TTL = map[push.Kind]time.Duration{push.Call: 20 * time.Second}
	_, send := dispatch(t, c)
	f := func(kind push.Kind, ntype, nmsg, notification string, most time.Duration) {
		t.Helper()
		r := request(kind)
		if kind == push.Call {
			r.Values.Body = ""
		}
		before := time.Now().Unix()
		m := delivered(t, sim, send, r)
		want := map[string]string{"ntype": ntype, "nfrom": "alice", "nmsg": nmsg, "ncallid": "call-1", "ntousr": "bob"}
		if diff := cmp.Diff(want, m.Data); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
		if string(m.Notification) != notification || (notification != "") != strings.Contains(string(m.Android.Notification), "PRIORITY_HIGH") {
			t.Errorf("%s: notification %s, android %s", kind, m.Notification, m.Android.Notification)
		}
		headers := forIPhone(t, m).Headers
		expires, err := strconv.ParseInt(headers["apns-expiration"], 10, 64)
		ttl, ttlErr := time.ParseDuration(m.Android.TTL)
		if ttlErr != nil || ttl > most || ttl < most/2 || err != nil || expires < before+int64(most.Seconds()/2) || expires > time.Now().Unix()+int64(most.Seconds()) {
			t.Errorf("%s: ttl %s, headers %v", kind, m.Android.TTL, headers)
		}
	}
	const who = `Alice "A" Ünal`
	f(push.Call, "0", "Incoming call from "+who, "", 20*time.Second)
	f(push.Chat, "1", "Hello", `{"title":"Alice \"A\" Ünal","body":"Hello"}`, time.Minute)
	f(push.Cancel, "2", "Hello", "", time.Minute)
	f(push.Custom, "3", "Hello", `{"title":"Alice \"A\" Ünal","body":"Hello"}`, time.Minute)
}
