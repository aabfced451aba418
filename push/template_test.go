package push_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// filled returns the payload of r, decoded.
func filled(t *testing.T, templates *push.Templates, r push.Request, limit int) any {
	t.Helper()
	b, err := templates.Payload(nil, &r, limit)
	if err != nil {
		t.Fatalf("Payload: %v", err)
	}
	if len(b) > limit || !utf8.Valid(b) {
		t.Errorf("payload of %d bytes, limit %d, valid UTF-8 %v", len(b), limit, utf8.Valid(b))
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("payload is not JSON: %v\n%q", err, b)
	}
	return v
}

func custom(t *testing.T, text string) *push.Templates {
	t.Helper()
	templates, err := push.DefaultTemplates(pnparam.APNs).With(push.Chat, "", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return templates
}

var aCall = push.Request{
	Kind: push.Call, App: theApp, Token: secret.NewToken(theToken),
	Values: push.Values{
		AOR: "bob@example.com", From: "sip:alice@example.com", User: "alice", Display: `Alice "A" Ünal`,
		CallID: "call-1", UUID: "uuid-1", Media: "video", Title: "News", Body: "Hello", Data: map[string]string{"k": "v"},
	},
	Deadline: time.Unix(1_800_000_000, 0),
}

func TestDefaultPayloads(t *testing.T) {
	// The six keys that apps written for MPUSH read: nfrom is the number or user part.
	mpush := func(ntype string) string {
		return `"ntype":"` + ntype + `","nfromusername":"alice","nfrom":"alice","nmsg":"Hello","ncallid":"call-1","ntousr":"bob"`
	}
	data := func(ntype string) string {
		return mpush(ntype) + `,"nfromuri":"sip:alice@example.com","handle":"alice","callUUID":"uuid-1",` +
			`"display":"Alice \"A\" Ünal","media":"video","k":"v"`
	}
	ios := func(ntype string) string { return data(ntype) + `,"data":{` + mpush(ntype) + `}` }
	const alert = `{"title":"News","body":"Hello"}`
	f := func(p pnparam.Provider, kind push.Kind, service pnparam.Service, want string) {
		t.Helper()
		r := aCall
		r.Kind, r.Service = kind, service
		var w any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w, filled(t, push.DefaultTemplates(p), r, 4096)); diff != "" {
			t.Errorf("%s %s %s (-want +got):\n%s", p, kind, service, diff)
		}
	}
	f(pnparam.APNs, push.Call, pnparam.VoIP, `{"aps":{},`+ios("0")+`}`)
	f(pnparam.APNs, push.Call, pnparam.Remote,
		`{"aps":{"alert":`+alert+`,"sound":"default"},`+ios("0")+`}`)
	f(pnparam.APNs, push.Chat, pnparam.Remote,
		`{"aps":{"alert":`+alert+`,"sound":"default","mutable-content":1},`+ios("1")+`}`)
	f(pnparam.APNs, push.Cancel, pnparam.Remote, `{"aps":{"content-available":1},`+ios("2")+`}`)
	f(pnparam.APNs, push.Custom, pnparam.Remote,
		`{"aps":{"alert":`+alert+`,"sound":"default","mutable-content":1},`+ios("3")+`}`)
	f(pnparam.APNs, push.Refresh, pnparam.Remote, `{"aps":{"content-available":1},`+ios("4")+`}`)
	const (
		silent  = `"apns":{"payload":{"aps":{"content-available":1}}}`
		visible = `"android":{"priority":"high","notification":{"sound":"default"}},` +
			`"apns":{"payload":{"aps":{"sound":"default","mutable-content":1}}}`
	)
	f(pnparam.FCM, push.Call, "", `{"data":{`+data("0")+`},"android":{"priority":"high"},"apns":{`+
		`"payload":{"aps":{"alert":`+alert+`,"sound":"default"}}}}`)
	f(pnparam.FCM, push.Chat, "", `{"data":{`+data("1")+`},"notification":`+alert+`,`+visible+`}`)
	f(pnparam.FCM, push.Cancel, "", `{"data":{`+data("2")+`},"android":{"priority":"normal"},`+silent+`}`)
	f(pnparam.FCM, push.Custom, "", `{"data":{`+data("3")+`},"notification":`+alert+`,`+visible+`}`)
	f(pnparam.FCM, push.Refresh, "", `{"data":{`+data("4")+`},"android":{"priority":"normal"},`+silent+`}`)
	f("webhook", push.Call, "", `{"kind":"call","app":"com.example.phone","token":"a0b1c2d3e4f5","to":"bob@example.com",`+
		`"from":"sip:alice@example.com","user":"alice","display":"Alice \"A\" Ünal","call_id":"call-1","uuid":"uuid-1","media":"video",`+
		`"title":"News","body":"Hello","data":{"k":"v"}}`)

	for _, kind := range push.Kinds() {
		r := aCall
		r.Kind, r.Provider = kind, pnparam.WebPush
		if b, err := push.DefaultTemplates(pnparam.WebPush).Payload(nil, &r, 4096); err != nil || len(b) != 0 {
			t.Errorf("webpush %s: %q, %v", kind, b, err)
		}
	}
}

// The texts of pushes that nobody wrote one for: a call says who calls, in the
// words of MPUSH's documents; a message shows who wrote it.
func TestTexts(t *testing.T) {
	f := func(kind push.Kind, display, title, body string) {
		t.Helper()
		r := aCall
		r.Kind, r.Values.Display, r.Values.Title, r.Values.Body = kind, display, "", ""
		got, err := custom(t, `{"a":"{TITLE}|{BODY}|{MSG}|{MESSAGE}"}`).With(kind, "", []byte(`{"a":"{TITLE}|{BODY}|{MSG}|{MESSAGE}"}`))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := got.Payload(nil, &r, 4096)
		if want := `{"a":"` + title + strings.Repeat("|"+body, 3) + `"}`; err != nil || string(payload) != want {
			t.Errorf("%s: %s, %v; want %s", kind, payload, err, want)
		}
	}
	f(push.Call, "Alice", "Incoming call", "Incoming call from Alice")
	f(push.Call, "", "Incoming call", "Incoming call from alice")
	f(push.Chat, "Alice", "Alice", "")
	f(push.Refresh, "Alice", "Alice", "")
}

func TestTemplateKeywords(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		r := aCall
		r.Kind = push.Chat
		got, err := custom(t, text).Payload([]byte("before "), &r, 4096)
		if err != nil || string(got) != "before "+want {
			t.Errorf("%s\ngives %s, %v\nwant  before %s", text, got, err, want)
		}
	}
	f(`{"a":"{PACKAGE} {TOKEN} {TO} {TOUSER} {TYPE} {KIND}"}`, `{"a":"com.example.phone a0b1c2d3e4f5 bob@example.com bob 1 chat"}`)
	f(`{"a":"{FROM}|{FROMUSERNAME}|{FROMURI}|{FROMDISPLAYNAME}"}`, `{"a":"alice|alice|sip:alice@example.com|Alice \"A\" Ünal"}`)
	f(`{"a":"{TOUSERNAME}"}`, `{"a":"bob"}`)
	f(`{"a":"{CALLID}{UUID}{MEDIA}"}`, `{"a":"call-1uuid-1video"}`)
	f(`{"a":["{MSG}","{MESSAGE}","{BODY}","{TITLE}"]}`, `{"a":["Hello","Hello","Hello","News"]}`)
	f(`{ "a" : [ 1.50, true, false, null, {}, [], "" ] }`, `{"a":[1.50,true,false,null,{},[],""]}`)
	f(`{"a":"{\"x\": {\"y\":\"{KIND}\"}} {} {a} {FROM {{KIND}"}`, `{"a":"{\"x\": {\"y\":\"chat\"}} {} {a} {FROM {chat"}`)
	f(`{"a\"b\u0001":"c\\d\n"}`, `{"a\"b\u0001":"c\\d\u000a"}`)
	f(`{"{DATA}":null}`, `{"k":"v"}`)
	f(`{"{DATA}":null,"k":1,"l":2}`, `{"k":1,"l":2}`) // a stranger's key does not replace one of ours
	f(`{"a":1,"{DATA}":null,"b":[{"k":2,"{DATA}":null}]}`, `{"a":1,"b":[{"k":2}],"k":"v"}`)
}

func TestTemplateErrors(t *testing.T) {
	f := func(kind push.Kind, text, want string) {
		t.Helper()
		_, err := push.DefaultTemplates(pnparam.FCM).With(kind, "", []byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%s\ngives %v\nwant  %s", text, err, want)
		}
	}
	const prefix = `cannot parse template for kind "call": line 1: `
	f(push.Call, `{"aps":{"alert":["{FROM}",{"body":"Hi {NAME}"}]}}`, prefix+`aps.alert[1].body: unknown keyword {NAME}`)
	f(push.Call, `{"a":{"x{FROM}":1}}`, prefix+`a.x{FROM}: a key cannot hold the keyword {FROM}`)
	f(push.Call, `{"a":{"b":1,"b":2}}`, prefix+`a.b: the key appears twice`)
	f(push.Call, `{"a":{"{DATA}":1}}`, prefix+`a.{DATA}: must appear once in an object and have the value null`)
	f(push.Call, `{"{DATA}":null,"{DATA}":null}`, prefix+`{DATA}: must appear once in an object and have the value null`)
	f(push.Call, `{"a":"{DATA}"}`, prefix+`a: unknown keyword {DATA}`)
	f(push.Call, `["a"]`, `cannot parse template for kind "call": it must be a JSON object`)
	f(push.Call, "{\n\"a\":1,\n\"b\":{\"c\":\n\"{X}\"}}\n", `cannot parse template for kind "call": line 4: b.c: unknown keyword {X}`)
	f(push.Call, "{\n\"a\":1,\n\n\n", `cannot parse template for kind "call": line 2: it is not JSON: unexpected end of JSON input`)
	f(push.Call, "{\n\"a\":1\n\"b\":2}", `cannot parse template for kind "call": line 3: it is not JSON: invalid character '"' after object key:value pair`)
	f(push.Call, `{"a":1`, prefix+`it is not JSON: unexpected end of JSON input`)
	f(push.Call, `{"a":1} {}`, prefix+`it is not JSON: invalid character '{' after top-level value`)
	f(push.Call, `{"a" "b"}`, prefix+`it is not JSON: invalid character '"' after object key`)
	f("ring", `{}`, `cannot use template for kind "ring": there is no such kind`)
}

func TestWithLeavesTheOldTemplates(t *testing.T) {
	old := push.DefaultTemplates(pnparam.APNs)
	next, err := old.With(push.Call, pnparam.VoIP, []byte(`{"only":"{KIND}"}`))
	if err != nil {
		t.Fatal(err)
	}
	r := aCall
	r.Service = pnparam.VoIP
	if got := filled(t, next, r, 5120); !reflect.DeepEqual(got, map[string]any{"only": "call"}) {
		t.Errorf("new template gives %v", got)
	}
	if got := filled(t, old, r, 5120).(map[string]any); got["ncallid"] != "call-1" {
		t.Errorf("old template gives %v", got)
	}
}

// Names of callers stay names.
func TestHostileValues(t *testing.T) {
	for _, name := range []string{
		`","aps":{"alert":"owned"},"x":"`, "\x00\x01\n\r\t\x7f", "\xff\xfe\xf0\x90", `\`, `\u0022`, "{TOKEN}{FROM}", "\u2028\u2029",
		"😀\xf0\x9f", "]}", strings.Repeat(`"`, 6000),
	} {
		r := aCall
		r.Kind, r.Service = push.Chat, pnparam.Remote
		r.Values.Display, r.Values.User, r.Values.Title = name, "u", ""
		got := filled(t, push.DefaultTemplates(pnparam.APNs), r, 4096).(map[string]any)
		alert := got["aps"].(map[string]any)["alert"].(map[string]any)
		if want := strings.ToValidUTF8(name, "\uFFFD"); !strings.HasPrefix(replaceEach(name), alert["title"].(string)) {
			t.Errorf("the name %q became %q", want, alert["title"])
		}
	}
}

// replaceEach replaces every byte that is not UTF-8, as encoding/json does.
func replaceEach(s string) string { return string([]rune(s)) }

func TestLongTextsAreCut(t *testing.T) {
	r := aCall
	r.Kind, r.Service = push.Chat, pnparam.Remote
	r.Values.Title, r.Values.Body = "", strings.Repeat("öß€😀", 2000)
	b, err := push.DefaultTemplates(pnparam.APNs).Payload(nil, &r, 4096)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Aps struct {
			Alert struct{ Title, Body string }
		}
		Nmsg, Nfromuri string
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(b) > 4096 || len(b) < 4096-3*utf8.UTFMax {
		t.Errorf("payload has %d bytes", len(b))
	}
	if !strings.HasPrefix(r.Values.Body, got.Nmsg) || got.Nmsg != got.Aps.Alert.Body || got.Nmsg == "" {
		t.Errorf("the text was cut to %q and %q", got.Nmsg, got.Aps.Alert.Body)
	}
	if got.Aps.Alert.Title != r.Values.Display || got.Nfromuri != r.Values.From {
		t.Errorf("a short text was cut: %+v", got)
	}

	r.Values.From = strings.Repeat("x", 4096) // an address is whole or useless
	dst, err := push.DefaultTemplates(pnparam.APNs).Payload([]byte("before"), &r, 4096)
	if err == nil || string(dst) != "before" {
		t.Errorf("payload with a caller's address of 4096 bytes: %q, %v", dst, err)
	}
}

// Whatever the values hold, the payload is JSON within the limit, with the keys
// and the structure of the template.
func FuzzTemplate(f *testing.F) {
	f.Add("Alice", "sip:alice@example.com", "alice", "Hello", "News", "k", "v", 4096)
	f.Add(`"},"aps":{`, "\xff\xfe", "\x00", "😀😀😀", `\`, "aps", `"`, 400)
	f.Add("{TOKEN}", "{FROM}", "}", "\u2028", "\U0010ffff", "{DATA}", "", 512)
	f.Add("a", "b", "c", "d", "e", "f", "g", -1)
	f.Add("", "", "", strings.Repeat("é", 5000), strings.Repeat("\x01", 900), "\xff", "\xfe", 1000)
	const text = `{"aps":{"alert":{"title":"{FROMDISPLAYNAME}: {TITLE}","body":["{BODY}",{"{DATA}":null}]},"n":1},` +
		`"from":"{FROMURI} {FROMUSERNAME}","more":{"a":"{MSG}","{DATA}":null}}`
	templates, err := push.DefaultTemplates(pnparam.APNs).With(push.Chat, "", []byte(text))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, display, from, user, body, title, key, value string, limit int) {
		r := push.Request{Kind: push.Chat, Values: push.Values{
			Display: display, From: from, User: user, Body: body, Title: title, Data: map[string]string{key: value, "fixed": "1"},
		}}
		b, err := templates.Payload(nil, &r, limit)
		if err != nil {
			r.Values.Display, r.Values.Body, r.Values.Title = "", "", ""
			if r.Values.Data[key] == value && len(from)+len(user)+len(key)+len(value) == 0 && limit >= 300 {
				t.Fatalf("nothing but long texts, and they were not cut: %v", err)
			}
			return
		}
		if len(b) > max(limit, 0) || !utf8.Valid(b) {
			t.Fatalf("%d bytes with limit %d, valid UTF-8 %v", len(b), limit, utf8.Valid(b))
		}
		var got any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("not JSON: %v\n%q", err, b)
		}
		m := got.(map[string]any)
		aps := m["aps"].(map[string]any)
		alert := aps["alert"].(map[string]any)
		bodies := alert["body"].([]any)
		more := m["more"].(map[string]any)
		wantKeys(t, m, "aps", "from", "more")
		wantKeys(t, aps, "alert", "n")
		wantKeys(t, alert, "title", "body")
		wantKeys(t, bodies[1].(map[string]any), "fixed", strings.ToValidUTF8(key, "\uFFFD"))
		wantKeys(t, more, "a", "fixed", strings.ToValidUTF8(key, "\uFFFD"))
		if want := replaceEach(from) + " " + replaceEach(user); m["from"] != want {
			t.Fatalf("from is %q, want %q", m["from"], want)
		}
		if len(bodies) != 2 || bodies[0] != more["a"] || !strings.HasPrefix(replaceEach(body), validPrefix(bodies[0].(string))) {
			t.Fatalf("body %q became %q and %q", body, bodies[0], more["a"])
		}
	})
}

// validPrefix is s without what a cut through bytes that are no UTF-8 leaves.
func validPrefix(s string) string { return strings.TrimRight(s, "\uFFFD") }

// wantKeys checks that m has these keys, of which some may be the same, and no other.
func wantKeys(t *testing.T, m map[string]any, keys ...string) {
	t.Helper()
	want := make(map[string]bool)
	for _, k := range keys {
		want[k] = true
		if _, ok := m[k]; !ok {
			t.Fatalf("key %q is missing in %v", k, m)
		}
	}
	if len(want) != len(m) {
		t.Fatalf("keys of %v, want %v", m, fmt.Sprint(keys))
	}
}

// The files of MPUSH have keywords without braces; keys and other words stay.
func TestBareKeywords(t *testing.T) {
	f := func(message, want string) {
		t.Helper()
		templates, err := (&push.Options{Message: write(t, t.TempDir(), "message.txt", message)}).Load(pnparam.APNs, push.TemplateRules{
			FromMessage: func(_ push.Kind, message, _ []byte) ([]byte, error) { return message, nil },
		})
		if err != nil {
			t.Errorf("%s: %v", message, err)
			return
		}
		r := aCall
		if got, err := templates.Payload(nil, &r, 4096); err != nil || string(got) != want {
			t.Errorf("%s\ngives %s, %v\nwant  %s", message, got, err, want)
		}
	}
	f(`{"a":"FROM","b":"{FROM}","c": "from FROM to TOUSERNAME."}`, `{"a":"alice","b":"alice","c":"from alice to bob."}`)
	f(`{"a":TYPE,"b":[ TYPE, true]}`, `{"a":"0","b":["0",true]}`)
	f(`{"TITLE":"TITLE", "BODY" :"x"}`, `{"TITLE":"News","BODY":"x"}`)
	f(`{"a":"MSG_ID IM_MSG TOP XTO TO2 MSGs PACKAGE.voip"}`, `{"a":"MSG_ID IM_MSG TOP XTO TO2 Hellos com.example.phone.voip"}`)
	f(`{"a":"say \"FROM\" \\","b":"FROM"}`, `{"a":"say \"alice\" \\","b":"alice"}`)
}
