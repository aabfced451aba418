package fcm_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"firebase.google.com/go/v4/messaging"
	"github.com/google/go-cmp/cmp"
	api "google.golang.org/api/fcm/v1"
	"google.golang.org/api/googleapi"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/fcm"
)

// sample is a value with every field that t has, but those left out.
func sample(t reflect.Type, leave ...string) any {
	switch {
	case t.Kind() == reflect.Pointer:
		return sample(t.Elem())
	case t == reflect.TypeFor[googleapi.RawMessage]():
		return map[string]any{"aps": map[string]any{"alert": map[string]any{"title": "x"}, "sound": "x"}, "own": map[string]any{"a": 1.0}}
	}
	switch t.Kind() {
	case reflect.Struct:
		object := make(map[string]any)
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			name = snake(name)
			if name != "" && name != "-" && !strings.Contains(" "+strings.Join(leave, " ")+" ", " "+name+" ") {
				object[name] = valueFor(name, t.Field(i).Type)
			}
		}
		return object
	case reflect.Map:
		return map[string]any{"key": "value"}
	case reflect.Slice:
		return []any{"x"}
	case reflect.Bool:
		return true
	case reflect.String:
		return "x"
	}
	return 1.0
}

// valueFor is one that the SDK takes.
func valueFor(name string, t reflect.Type) any {
	if t.Kind() == reflect.String {
		switch {
		case name == "ttl" || strings.HasSuffix(name, "_duration"):
			return "3s"
		case name == "event_time":
			return "2026-11-28T12:00:00.000000000Z"
		case name == "image":
			return "https://example.com/x.png"
		case name == "link":
			return "https://example.com/"
		case name == "color":
			return "#112233"
		case name == "priority":
			return "high"
		case name == "notification_priority":
			return "PRIORITY_HIGH"
		case name == "visibility":
			return "PUBLIC"
		case name == "proxy":
			return "ALLOW"
		}
	}
	if name == "vibrate_timings" {
		return []any{"1.5s"}
	}
	return sample(t)
}

func snake(s string) string {
	var b strings.Builder
	for _, c := range s {
		if unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// paths lists the fields of v, but not what is free in them.
func paths(v any, at string, list map[string]bool) {
	object, ok := v.(map[string]any)
	if !ok {
		list[at] = true
		return
	}
	for key, item := range object {
		paths(item, strings.TrimPrefix(at+"."+key, "."), list)
	}
	if len(object) == 0 {
		list[at] = true
	}
}

var targets = []string{"token", "fid", "topic", "condition", "name"}

// withTemplate has the call's template be the message.
func withTemplate(t *testing.T, c fcm.Config, message any) *fcm.Config {
	t.Helper()
	text, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "call.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Templates = map[string]string{"call": file}
	c.Notification = fcm.NotificationKeep
	return &c
}

// Every field that Google describes can be in a template, and reaches Google.
func TestEveryFieldReachesGoogle(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	for _, other := range []string{"android_v2", "android"} {
		message := sample(reflect.TypeFor[api.Message](), append(targets, other)...)
		_, send := dispatch(t, withTemplate(t, *c, message))
		delivered(t, sim, send, request(push.Call))
		all := sim.Pushes()
		var sent struct{ Message map[string]any }
		if err := json.Unmarshal(all[len(all)-1].Body, &sent); err != nil {
			t.Fatal(err)
		}
		want, got := make(map[string]bool), make(map[string]bool)
		paths(message, "", want)
		paths(sent.Message, "", got)
		if len(want) < 50 {
			t.Errorf("the sample has %d fields only", len(want))
		}
		for path := range want {
			if !got[path] {
				t.Errorf("without %s: %s does not reach Google", other, path)
			}
		}
	}
}

// The fields that are written below the SDK are those that it does not know. Should
// one fail, the SDK has learned it: take it off the list, and for fid use its field.
func TestSDKStillLacks(t *testing.T) {
	for _, path := range append(fcm.Unsaid(), []string{"fid"}) {
		value := any(map[string]any{"key": map[string]any{}})
		if strings.HasSuffix(path[len(path)-1], "_ok") || strings.HasPrefix(path[len(path)-1], "bypass") {
			value = true
		} else if len(path) > 1 || path[0] == "fid" {
			value = "x"
		}
		for i := len(path) - 1; i >= 0; i-- {
			value = map[string]any{path[i]: value}
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var m messaging.Message
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		if last := path[len(path)-1]; strings.Contains(string(again), last) {
			t.Errorf("the SDK knows %v now", path)
		}
	}
}

// What is not a field of the API, or would be lost in the SDK, is an error.
func TestFieldsThatAreRefused(t *testing.T) {
	_, c := start(t, fcmsim.Options{})
	f := func(text, want string) {
		t.Helper()
		c := withTemplate(t, *c, json.RawMessage(text))
		c.SetDefaults()
		_, err := c.Apps(slog.New(slog.DiscardHandler))
		want = fmt.Sprintf("templates.call: %s: it is not a Message of the FCM v1 API: %s", c.Templates["call"], want)
		if err == nil || err.Error() != want {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
	f(`{"android":{"wake":true}}`, `unknown field "android.wake"`)
	f(`{"android":{"collapseKey":"x"}}`, `unknown field "android.collapseKey"`)
	f(`{"android_v2":{"priority":"high"}}`, `unknown field "android_v2.priority"`)
	f(`{"android_v2":{"remote_notification":{"notification":{"colour":"x"}}}}`, `unknown field "android_v2.remote_notification.notification.colour"`)
	f(`{"android_v2":{"ttl":3}}`, `android_v2.ttl must be a string`)
	f(`{"android":{"restricted_satellite_ok":"yes"}}`, `android.restricted_satellite_ok must be a boolean`)
	f(`{"android":{},"android_v2":{"background_sync":{}}}`, `android and android_v2 exclude each other`)
	f(`{"webpush":{"data":[]}}`, `webpush.data must be a JSON object`)
	f(`{"apns":{"payload":{"aps":{"alert":{"title":"x","haptic":"x"}}}}}`, `apns.payload.aps.alert.haptic would not reach Google`)
	f(`{"fid":"x"}`, `unknown field "fid"`)
}

// A template of the second kind for Android gets what only the provider knows, and
// nothing of the first kind.
func TestAndroidV2(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	n := call(1)
	n.Payload = []byte(`{"data":{"a":"b"},"android_v2":{"remote_notification":{"use_as_v1_data_message":true}}}`)
	n.CollapseID, n.Expires = "one", time.Now().Add(10*time.Second)
	if r := client(t, c).Push(within(t, 10*time.Second), n); r.Reason != push.Accepted {
		t.Fatalf("%+v", r)
	}
	m := sim.Pushes()[0].Message
	var got map[string]any
	if err := json.Unmarshal(m.AndroidV2, &got); err != nil {
		t.Fatal(err)
	}
	if ttl := got["ttl"]; ttl != "10s" && ttl != "9s" {
		t.Errorf("ttl %v", ttl)
	}
	delete(got, "ttl")
	want := map[string]any{"collapse_key": "one", "remote_notification": map[string]any{"use_as_v1_data_message": true}}
	if diff := cmp.Diff(want, got); diff != "" || m.Android != nil || m.Data["a"] != "b" {
		t.Errorf("%s, android %+v, data %v", diff, m.Android, m.Data)
	}
}

const installation = "cF2g7hJ_kLm-nOpQrStUvW" // 22 characters

// An installation ID goes where Google wants it, and a registration token where it
// always went.
func TestInstallationID(t *testing.T) {
	sim, c := start(t, fcmsim.Options{KnownTokens: true})
	p := client(t, c)
	legacy := installation + ":APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"
	sim.AddToken(installation)
	sim.AddToken(legacy)
	f := func(token, fid string, want push.Reason, requests int) {
		t.Helper()
		before := len(sim.Pushes())
		n := call(1)
		n.Token = secret.NewToken(token)
		if r := p.Push(within(t, 10*time.Second), n); r.Reason != want {
			t.Errorf("%+v, want %s", r, want)
		}
		all := sim.Pushes()[before:]
		if len(all) != requests || all[0].Message.FID != fid || all[len(all)-1].Token != n.Token {
			t.Errorf("%d requests, want %d; the first %+v", len(all), requests, all[0].Message)
		}
	}
	f(installation, installation, push.Accepted, 1)
	f(legacy, "", push.Accepted, 1)
	f("cDeadDeadDeadDeadDead0", "cDeadDeadDeadDeadDead0", push.TokenDead, 2)
	// A token that only looks like an installation ID has a second chance.
	sim.Behave("shortToken-1", fcmsim.Unregistered(), fcmsim.Behaviour{})
	f("shortToken-1", "shortToken-1", push.Accepted, 2)
}

// High priority is not spent on what shows nothing: Android would take it from calls.
func TestPriorityIsForWhatIsSeen(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	c.Priority = map[push.Kind]push.Priority{push.Cancel: push.High, push.Refresh: push.High}
	f := func(mode fcm.Notification, want string) {
		t.Helper()
		c := *c
		c.Notification = mode
		_, send := dispatch(t, &c)
		for _, kind := range []push.Kind{push.Cancel, push.Refresh} {
			if m := delivered(t, sim, send, request(kind)); m.Android.Priority != want {
				t.Errorf("%q: %s has priority %s", mode, kind, m.Android.Priority)
			}
		}
		if m := delivered(t, sim, send, request(push.Call)); m.Android.Priority != "high" {
			t.Errorf("%q: call has priority %s", mode, m.Android.Priority)
		}
		var doubts []string
		if want == "normal" {
			doubts = []string{
				"cancel pushes have high priority and show nothing, for which Android lowers the priority of calls: they go with normal",
				"refresh pushes have high priority and show nothing, for which Android lowers the priority of calls: they go with normal",
			}
		}
		if diff := cmp.Diff(doubts, build(t, &c).Doubts); diff != "" {
			t.Errorf("%q: %s", mode, diff)
		}
	}
	f(fcm.NotificationAuto, "normal")
	f(fcm.NotificationAlways, "high")
}
