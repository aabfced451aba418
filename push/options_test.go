package push_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// write makes a file in dir and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, p pnparam.Provider, o push.Options) *push.Templates {
	t.Helper()
	o.Validate(p, func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	templates, err := o.Load(p, push.TemplateRules{})
	if err != nil {
		t.Fatal(err)
	}
	return templates
}

func TestTemplateFiles(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	write(t, dir, "call.json", "\xef\xbb\xbf{\"is\": \"call\"}\r\n")
	write(t, dir, "chat.json", `{"is":"chat"}`)
	write(t, dir, "refresh.json", `{"is":"refresh, not used"}`)
	write(t, dir, "README", `not JSON`)
	write(t, dir, ".call.json", `not JSON`)
	templates := load(t, pnparam.APNs, push.Options{TemplatesDir: dir, Templates: map[string]string{
		"refresh":     write(t, other, "r.json", `{"is":"refresh"}`),
		"call_remote": write(t, other, "c.json", `{"is":"call for remote"}`),
	}})
	f := func(kind push.Kind, service pnparam.Service, want string) {
		t.Helper()
		r := aCall
		r.Kind, r.Service = kind, service
		b, err := templates.Payload(nil, &r, 4096)
		if err != nil || !strings.HasPrefix(string(b), want) {
			t.Errorf("%s %s: %s, %v", kind, service, b, err)
		}
	}
	f(push.Call, pnparam.VoIP, `{"is":"call"}`) // not the default
	f(push.Call, pnparam.Remote, `{"is":"call for remote"}`)
	f(push.Chat, pnparam.Remote, `{"is":"chat"}`)
	f(push.Refresh, pnparam.Remote, `{"is":"refresh"}`)
	f(push.Custom, pnparam.Remote, `{"aps":{"alert"`) // the default
}

func TestTemplateFileErrors(t *testing.T) {
	dir := t.TempDir()
	f := func(p pnparam.Provider, o push.Options, want ...string) {
		t.Helper()
		_, err := o.Load(p, push.TemplateRules{})
		if err == nil {
			t.Fatalf("no error, want %q", want)
		}
		got := strings.Split(strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""), "\n")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	one := func(kind, name, text string) push.Options {
		return push.Options{Templates: map[string]string{kind: write(t, dir, name, text)}}
	}
	f(pnparam.APNs, one("call", "a.json", "{\n  \"aps\": {\n    \"alert\": \"{FORM}\"\n  }\n}"),
		"templates.call: a.json: line 3: aps.alert: unknown keyword {FORM}")
	f(pnparam.FCM, one("chat", "b.json", "{\n  \"data\": {\n  }},"),
		"templates.chat: b.json: line 3: it is not JSON: invalid character ',' after top-level value")
	f(pnparam.APNs, one("chat", "c.json", `{"a":"`+strings.Repeat("x", 4096)+`"}`),
		`templates.chat: c.json: cannot fill template for kind "chat": the payload is too long for the service, even without its texts`)
	f(pnparam.APNs, push.Options{Templates: map[string]string{"call": filepath.Join(dir, "none")}},
		"templates.call: cannot read template: open none: no such file or directory")
	f(pnparam.APNs, push.Options{TemplatesDir: filepath.Join(dir, "none")},
		"templates_dir: cannot read directory: open none: no such file or directory")

	sub := filepath.Join(dir, "d")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, sub, "call.json", `[]`)
	write(t, sub, "ring.json", `{}`)
	write(t, sub, "call_voip.json", `{"x":"{X}"}`)
	f(pnparam.FCM, push.Options{TemplatesDir: sub},
		"templates_dir: d/call_voip.json: its name must be one of call, chat, cancel, custom and refresh",
		"templates_dir: d/ring.json: its name must be one of call, chat, cancel, custom and refresh",
		"templates_dir: d/call.json: it must be a JSON object")
}

func TestValidateOptions(t *testing.T) {
	f := func(p pnparam.Provider, o push.Options, want ...string) {
		t.Helper()
		var got []string
		o.Validate(p, func(field, problem string) { got = append(got, field+": "+problem) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	f(pnparam.APNs, push.Options{})
	f(pnparam.APNs, push.Options{
		Templates: map[string]string{"call_voip": "x", "chat_remote": "x", "custom": "x"}, Sounds: map[push.Kind]string{"call": "ring.caf"},
		TTL: map[push.Kind]time.Duration{"call": 0, "chat": time.Hour}, Priority: map[push.Kind]push.Priority{"chat": "normal"},
		PushType: map[push.Kind]push.Type{"cancel": "alert"},
	})
	f(pnparam.APNs, push.Options{Templates: map[string]string{"chat_voip": "x", "call": ""}},
		"templates.call: must be the name of a file",
		"templates.chat_voip: must be one of call, call_voip, call_remote, chat, chat_remote, cancel, cancel_remote, custom, "+
			"custom_remote, refresh and refresh_remote")
	f(pnparam.FCM, push.Options{Templates: map[string]string{"call_voip": "x"}},
		"templates.call_voip: must be one of call, chat, cancel, custom and refresh")
	f(pnparam.FCM, push.Options{Sounds: map[push.Kind]string{"ring": "x", "call": ""}},
		"sounds.call: must be the name of a sound", "sounds.ring: must be one of call, chat, cancel, custom and refresh")
	f(pnparam.FCM, push.Options{TTL: map[push.Kind]time.Duration{"chat": 1000 * time.Hour, "call": -1}},
		"ttl.call: must be between 0s and 672h0m0s, is -1ns", "ttl.chat: must be between 0s and 672h0m0s, is 1000h0m0s")
	f(pnparam.APNs, push.Options{Priority: map[push.Kind]push.Priority{"chat": "10", "cancel": "high"}},
		"priority.cancel: must be normal, because push_type is background", "priority.chat: must be high or normal")
	f(pnparam.FCM, push.Options{Priority: map[push.Kind]push.Priority{"cancel": "high"}})
	f(pnparam.APNs, push.Options{PushType: map[push.Kind]push.Type{"call": "voip"}},
		"push_type.call: must be alert or background; a voip token has its own")
	f("webhook", push.Options{PushType: map[push.Kind]push.Type{"call": "alert"}}, "push_type: is only for apns and fcm")
}

// What is set for the app reaches the provider and the keywords.
func TestDelivery(t *testing.T) {
	o := push.Options{
		Sounds: map[push.Kind]string{push.Call: "ring.caf"},
		TTL: map[push.Kind]time.Duration{
			push.Call: 5 * time.Second, push.Chat: time.Hour, push.Refresh: 0,
		},
		Priority: map[push.Kind]push.Priority{push.Chat: push.Normal},
		PushType: map[push.Kind]push.Type{push.Cancel: push.TypeAlert},
		Templates: map[string]string{
			"call":   write(t, t.TempDir(), "x", `{"x":"{PRIORITY} {APRIORITY} {NPRIORITY} {PUSHTYPE} {SOUND}","ttl":"{TTLNUM}"}`),
			"chat":   write(t, t.TempDir(), "x", `{"x":"{PRIORITY} {APRIORITY} {NPRIORITY} {PUSHTYPE} {SOUND}","ttl":"{TTLNUM}"}`),
			"custom": write(t, t.TempDir(), "x", `{"x":"{PRIORITY} {APRIORITY} {NPRIORITY} {PUSHTYPE} {SOUND}","ttl":"{TTLNUM}"}`),
		},
	}
	sent := make(chan *push.Notification, 1)
	client := &service{answer: func(_ context.Context, n *push.Notification) push.Reply {
		sent <- n
		return push.Reply{Reason: push.Accepted}
	}}
	app := apnsApp("", client, theApp)
	app.Templates = load(t, pnparam.APNs, o)
	r := newRig(t, app)
	defer r.stop()

	f := func(kind push.Kind, service pnparam.Service, left time.Duration, ttl time.Duration, want push.Delivery, keywords string) {
		t.Helper()
		before := time.Now()
		req := request(kind)
		req.Provider, req.Service, req.Deadline = pnparam.APNs, service, time.Now().Add(left)
		if o := r.send(req); o.Reason != push.Accepted {
			t.Fatalf("%s: %+v", kind, o)
		}
		n := <-sent
		got := n.Delivery
		if ttl == 0 != got.Expires.IsZero() || ttl > 0 && (got.Expires.Before(before.Add(ttl)) || got.Expires.After(time.Now().Add(ttl))) {
			t.Errorf("%s: expires %v, want in %v", kind, got.Expires, ttl)
		}
		got.Expires = time.Time{}
		if got != want {
			t.Errorf("%s: %+v, want %+v", kind, got, want)
		}
		if keywords == "" {
			return
		}
		var payload struct {
			X   string
			TTL int64 `json:",string"`
		}
		if err := json.Unmarshal(n.Payload, &payload); err != nil {
			t.Fatal(err)
		}
		seconds := time.Duration(payload.TTL) * time.Second
		if payload.X != keywords || seconds > ttl || seconds < ttl-time.Since(before)-time.Second {
			t.Errorf("%s: payload %+v, want %s and %s", kind, payload, keywords, ttl)
		}
	}
	f(push.Call, pnparam.VoIP, 20*time.Second, 5*time.Second, push.Delivery{Priority: push.High, PushType: "voip", Sound: "ring.caf"},
		"high 10 PRIORITY_HIGH voip ring.caf")
	f(push.Call, pnparam.Remote, 20*time.Second, 5*time.Second, push.Delivery{Priority: push.High, PushType: "alert", Sound: "ring.caf"},
		"high 10 PRIORITY_HIGH alert ring.caf")
	f(push.Chat, pnparam.Remote, time.Minute, time.Hour, push.Delivery{Priority: push.Normal, PushType: "alert", Sound: "default"},
		"normal 5 PRIORITY_DEFAULT alert default")
	f(push.Custom, pnparam.Remote, time.Minute, time.Minute, push.Delivery{Priority: push.High, PushType: "alert", Sound: "default"},
		"high 10 PRIORITY_HIGH alert default")
	f(push.Cancel, pnparam.Remote, time.Minute, time.Minute, push.Delivery{Priority: push.High, PushType: "alert", Sound: "default"}, "")
	f(push.Refresh, pnparam.Remote, time.Minute, 0, push.Delivery{Priority: push.Normal, PushType: "background", Sound: "default"}, "")
}

// A reload takes templates, options and policy of an app whose client stays.
func TestReloadTakesTemplatesAndPolicy(t *testing.T) {
	payloads := make(chan string, 1)
	client := &service{answer: func(_ context.Context, n *push.Notification) push.Reply {
		payloads <- string(n.Payload) + " " + string(n.Priority)
		return push.Reply{Reason: push.Accepted}
	}}
	file := write(t, t.TempDir(), "chat.json", `{"v":"1"}`)
	o := push.Options{Templates: map[string]string{"chat": file}}
	app := fcmApp(client, func(a *push.App) {
		a.Fingerprint, a.Templates, a.Policy = "same", load(t, pnparam.FCM, o), push.Policy{MissedCall: true}
	})
	r := newRig(t, app)
	defer r.stop()
	f := func(payload string, missed bool) {
		t.Helper()
		r.send(request(push.Chat))
		if got := <-payloads; got != payload {
			t.Errorf("payload %s, want %s", got, payload)
		}
		if got := r.Policy(pnparam.FCM, theApp, ""); got.MissedCall != missed {
			t.Errorf("policy %+v", got)
		}
	}
	f(`{"v":"1"} high`, true)

	write(t, filepath.Dir(file), "chat.json", `{"v":"2 {SOUND}"}`)
	o.Priority = map[push.Kind]push.Priority{push.Chat: push.Normal}
	app.Templates, app.Policy.MissedCall = load(t, pnparam.FCM, o), false
	if err := r.SetApps([]push.App{app}); err != nil {
		t.Fatal(err)
	}
	f(`{"v":"2 default"} normal`, false)
	if client.closed.Load() != 0 {
		t.Error("the client was replaced")
	}
}

func TestRender(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "chat.json", `{"who":"{FROMDISPLAYNAME}","app":"{PACKAGE}"}`)
	for _, p := range []pnparam.Provider{pnparam.APNs, pnparam.FCM, "webhook", pnparam.WebPush} {
		templates := load(t, p, push.Options{TemplatesDir: dir})
		for _, v := range []push.Values{push.SampleValues(), push.HostileValues()} {
			list, err := templates.Render("com.a", push.PrivacyNone, v)
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			var kinds []string
			for _, r := range list {
				kinds = append(kinds, strings.TrimSpace(string(r.Kind)+" "+string(r.Service)))
				if len(r.Payload) > 0 && !json.Valid(r.Payload) {
					t.Errorf("%s %s: %s", p, r.Kind, r.Payload)
				}
				if (r.Source == path) != (r.Kind == push.Chat) {
					t.Errorf("%s %s comes from %q", p, r.Kind, r.Source)
				}
			}
			want := "call,chat,cancel,custom,refresh"
			if p == pnparam.APNs {
				want = "call,call voip,chat,cancel,custom,refresh"
			}
			if got := strings.Join(kinds, ","); got != want {
				t.Errorf("%s: rendered %s", p, got)
			}
		}
	}
	templates := load(t, pnparam.APNs, push.Options{TemplatesDir: dir})
	list, err := templates.Render("com.a", push.PrivacyNone, push.SampleValues())
	if err != nil || string(list[2].Payload) != `{"who":"Alice Example","app":"com.a"}` {
		t.Errorf("%+v, %v", list, err)
	}
}
