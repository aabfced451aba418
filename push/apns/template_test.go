package apns_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
)

func withTemplate(t *testing.T, c *apns.Config, name, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Templates = map[string]string{name: file}
	c.SetDefaults()
}

// The headers that a template names are sent as such, and are no part of the payload.
func TestTemplateSetsHeaders(t *testing.T) {
	f := func(name, headers, wantHeaders string, ttl time.Duration) {
		t.Helper()
		sim, c := start(t, apnssim.Options{})
		withTemplate(t, c, name, `{"headers":`+headers+`,"aps":{},"k":"{TYPE}","{DATA}":null}`)
		_, send := dispatch(t, c)
		kind, service, _ := strings.Cut(name, "_")
		before := time.Now()
		if o := send(request(push.Kind(kind), pnparam.Service(service))); o.Reason != push.Accepted {
			t.Fatalf("%s %s: %+v", name, headers, o)
		}
		p := lastPush(t, sim)
		var payload map[string]json.RawMessage
		if err := json.Unmarshal(p.Payload, &payload); err != nil || payload["headers"] != nil || len(payload) != 2 {
			t.Errorf("%s: payload %s, %v", headers, p.Payload, err)
		}
		if got := p.Topic + " " + p.PushType + " " + p.Priority; got != wantHeaders {
			t.Errorf("%s %s: sent with %s, want %s", name, headers, got, wantHeaders)
		}
		if ttl == 0 != (p.Expiration == "0") || ttl > 0 && !expiresIn(t, p.Expiration, before, ttl) {
			t.Errorf("%s %s: expires %s, want in %s", name, headers, p.Expiration, ttl)
		}
	}
	const theirs = `{"apns-priority":"{APRIORITY}","apns-push-type":"{PUSHTYPE}","apns-topic":"{PACKAGE}.voip","apns-expiration":"{TTLNUM}"}`
	f("call_voip", theirs, bundle+".voip voip 10", time.Minute)
	f("call_voip", `{"apns-push-type":"voip","apns-priority":"5","Apns-Expiration":30}`, bundle+".voip voip 5", 30*time.Second)
	f("call_remote", theirs, bundle+" alert 10", time.Minute)
	f("call_remote", `{"apns-expiration":"0"}`, bundle+" alert 10", 0)
	f("chat_remote", `{"apns-priority":5,"apns-expiration":"0"}`, bundle+" alert 5", 0)
	f("custom_remote", `{"apns-push-type":"background"}`, bundle+" background 5", time.Minute)
	f("cancel_remote", `{"apns-push-type":"alert"}`, bundle+" alert 10", time.Minute)
	f("refresh_remote", `{}`, bundle+" background 5", time.Minute)
}

func expiresIn(t *testing.T, expiration string, before time.Time, ttl time.Duration) bool {
	t.Helper()
	var at int64
	if err := json.Unmarshal([]byte(expiration), &at); err != nil {
		t.Fatal(err)
	}
	return at >= before.Add(ttl).Unix()-1 && at <= time.Now().Add(ttl).Unix()+1
}

// What a template cannot set is an error with the field's name.
func TestTemplateHeaderErrors(t *testing.T) {
	f := func(name, headers, want string) {
		t.Helper()
		_, c := start(t, apnssim.Options{})
		withTemplate(t, c, name, `{"headers":`+headers+`,"aps":{}}`)
		_, err := c.Apps(slog.New(slog.DiscardHandler))
		if err == nil || !strings.HasPrefix(err.Error(), "templates."+name+": ") || !strings.HasSuffix(err.Error(), ".json: "+want) {
			t.Errorf("%s: %v, want %q", headers, err, want)
		}
	}
	f("call", `"none"`, "headers: must be an object of APNs' headers; an app's own data needs another name")
	f("call", `{"color":"blue"}`, "headers.color: cannot be set by a template")
	f("call", `{"Authorization":"bearer x"}`, "headers.Authorization: cannot be set by a template")
	f("call", `{"apns-id":"1"}`, "headers.apns-id: cannot be set by a template")
	f("call", `{"Apns-Topic":"com.other"}`, "headers.Apns-Topic: must be {PACKAGE} or {PACKAGE}.voip; another one is set by topic of the app")
	f("call", `{"apns-priority":"1"}`, "headers.apns-priority: must be 10, 5 or {APRIORITY}")
	f("call", `{"apns-expiration":"1700000000"}`, "headers.apns-expiration: must be {TTLNUM} or seconds from 0 to 2419200")
	f("chat", `{"apns-push-type":"voip"}`, "headers.apns-push-type: voip is only for calls, and for voip tokens")
	f("call_voip", `{"apns-push-type":"alert"}`, "headers.apns-push-type: must be voip for a voip token")
	f("chat", `{"apns-push-type":"liveactivity"}`, "headers.apns-push-type: must be alert, background, voip or {PUSHTYPE}")
	f("chat", `{"apns-push-type":"background","apns-priority":"10"}`, "headers.apns-priority: must be 5, because apns-push-type is background")
}

// The one file of MPUSH is what every kind is sent with: calls as it stands, the other
// kinds to the other token with its data.
func TestMessageFile(t *testing.T) {
	const silent = `{"content-available":1}`
	f := func(file string, kind push.Kind, service pnparam.Service, wantHeaders, want string) {
		t.Helper()
		sim, c := start(t, apnssim.Options{})
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "pushkitmessage.txt"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		c.TemplatesDir = dir
		_, send := dispatch(t, c)
		r := request(kind, service)
		if kind == push.Call {
			r.Values.Body = ""
		}
		if o := send(r); o.Reason != push.Accepted {
			t.Fatalf("%s: %+v", kind, o)
		}
		p := lastPush(t, sim)
		var got, w any
		if err := json.Unmarshal(p.Payload, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", kind, service, diff)
		}
		if got := p.PushType + " " + p.Priority; got != wantHeaders {
			t.Errorf("%s %s: sent as %s, want %s", kind, service, got, wantHeaders)
		}
	}
	const headers = `"headers":{"apns-priority":"APRIORITY","apns-push-type":"PUSHTYPE","apns-topic":"PACKAGE.voip","apns-expiration":"TTLNUM"},`
	const bare = "{\r\n" + headers + `"aps":{"alert":{"title":"TITLE","body":"BODY"},"sound":"SOUND"},` +
		`"data":{"ntype":TYPE,"nfrom":"FROM","nmsg":"MSG: TOPMSG MSG_ID","ncallid":"CALLID","ntousr":"TOUSERNAME"}}`
	data := func(n, msg string) string {
		return `"data":{"ntype":"` + n + `","nfrom":"alice","nmsg":"` + msg + `: TOPMSG MSG_ID","ncallid":"call-1","ntousr":"bob"}}`
	}
	const who = `Alice \"A\" Ünal`
	f(bare, push.Call, pnparam.VoIP, "voip 10",
		`{"aps":{"alert":{"title":"Incoming call","body":"Incoming call from `+who+`"},"sound":"default"},`+data("0", "Incoming call from "+who))
	f(bare, push.Call, pnparam.Remote, "alert 10",
		`{"aps":{"alert":{"title":"Incoming call","body":"Incoming call from `+who+`"},"sound":"default"},`+data("0", "Incoming call from "+who))
	f(bare, push.Chat, pnparam.Remote, "alert 10",
		`{"aps":{"alert":{"title":"`+who+`","body":"Hello"},"sound":"default"},`+data("1", "Hello"))
	f(bare, push.Cancel, pnparam.Remote, "background 5", `{"aps":`+silent+`,`+data("2", "Hello"))
	f(bare, push.Refresh, pnparam.Remote, "background 5", `{"aps":`+silent+`,`+data("4", "Hello"))

	// Braces do as well; without an alert, what is to be shown is.
	const voip = `{"headers":{"apns-push-type":"voip","apns-priority":"10","apns-expiration":"0"},"aps":{},"data":{"ntype":"{TYPE}"}}`
	f(voip, push.Call, pnparam.VoIP, "voip 10", `{"aps":{},"data":{"ntype":"0"}}`)
	f(voip, push.Custom, pnparam.Remote, "alert 10",
		`{"aps":{"alert":{"title":"`+who+`","body":"Hello"},"sound":"default","mutable-content":1},"data":{"ntype":"3"}}`)
	f(voip, push.Cancel, pnparam.Remote, "background 5", `{"aps":`+silent+`,"data":{"ntype":"2"}}`)
}

// What is wrong with that file is said once, with its name.
func TestMessageFileErrors(t *testing.T) {
	_, c := start(t, apnssim.Options{})
	dir := t.TempDir()
	file := filepath.Join(dir, "pushkitmessage.txt")
	if err := os.WriteFile(file, []byte("{\"aps\":{},\n\"headers\":{\"apns-topic\":\"com.other\"}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.TemplatesDir = dir
	c.SetDefaults()
	_, err := c.Apps(slog.New(slog.DiscardHandler))
	want := "templates_dir: " + file + ": headers.apns-topic: must be {PACKAGE} or {PACKAGE}.voip; another one is set by topic of the app"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
