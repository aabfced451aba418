package push_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// everything is a template that names all that there is of a call.
const everything = `{"aps":{},"all":"{TO} {TOUSER} {FROM} {FROMURI} {FROMDISPLAYNAME} {CALLID} {MEDIA} {TITLE} {BODY} {CALLED} ` +
	`{CALLEDURI} {VERSTAT} {HEADER:X-Account} {HEADER:Call-Info}","id":"{UUID}","data":{"{DATA}":null}}`

// Whatever the template names, whatever the kind and the service, a push tells no more
// than the app's privacy lets it.
func TestPrivacy(t *testing.T) {
	v := push.SampleValues()
	secrets := []string{"bob", "example.com", "Alice Example", v.CallID, "+4420", "4711", "alice.png", "video", "TN-Validation", "News", "Lunch", "value", "alice"}
	hidden := map[push.Privacy][]string{
		push.PrivacyFull: secrets,
		// The number is alice; who is called, the Call-ID and the media are no names.
		push.PrivacyNumber: {"Alice Example", "+4420", "4711", "alice.png", "News", "Lunch", "value", "sip:alice"},
	}
	for privacy, words := range hidden {
		for _, p := range []pnparam.Provider{pnparam.APNs, pnparam.FCM, pnparam.WebPush, "hms"} {
			for _, k := range push.Kinds() {
				custom, err := push.DefaultTemplates(p).With(k, "", []byte(everything))
				if err != nil {
					t.Fatal(err)
				}
				for _, templates := range []*push.Templates{nil, custom} {
					payload := ""
					client := &service{answer: func(_ context.Context, n *push.Notification) push.Reply {
						payload = string(n.Payload)
						return push.Reply{Reason: push.Accepted}
					}}
					r := newRig(t, push.App{Provider: p, Packages: []string{theApp}, Client: client, Templates: templates,
						Policy: push.Policy{Privacy: privacy}})
					req := request(k)
					req.Provider, req.Values, req.Keys = p, v, &pnparam.WebPushKeys{}
					r.send(req)
					r.stop()
					for _, w := range words {
						if strings.Contains(payload, w) {
							t.Errorf("%s %s %s: %q is in %s", privacy, p, k, w, payload)
						}
					}
					if !json.Valid([]byte(payload)) || !strings.Contains(payload, v.UUID) {
						t.Errorf("%s %s %s: %s", privacy, p, k, payload)
					}
					if privacy == push.PrivacyNumber && !strings.Contains(payload, "alice") {
						t.Errorf("%s %s %s has no number: %s", privacy, p, k, payload)
					}
				}
			}
		}
	}
}

// An alert without a text is not shown, also when there is nothing to tell.
func TestPrivacyShowsAlert(t *testing.T) {
	for k, title := range map[push.Kind]string{push.Call: "Incoming call", push.Chat: "New message", push.Custom: "Notification"} {
		r := &push.Request{Kind: k, Provider: pnparam.APNs, Service: pnparam.Remote, Values: push.PrivacyFull.Hide(k, push.SampleValues())}
		payload, err := push.DefaultTemplates(pnparam.APNs).Payload(nil, r, 4096)
		if err != nil || !strings.Contains(string(payload), `"title":"`+title+`"`) {
			t.Errorf("%s: %s %v", k, payload, err)
		}
	}
}

func TestHeaderKeyword(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		templates, err := push.DefaultTemplates("hms").With(push.Call, "", []byte(`{"x":"`+text+`"}`))
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", text, err)
			}
			return
		}
		v := push.SampleValues()
		v.Headers["x-long"] = strings.Repeat("é", 3000)
		got, err := templates.Payload(nil, &push.Request{Kind: push.Call, Provider: "hms", Values: v}, 100)
		if string(got) != `{"x":"`+want+`"}` || err != nil {
			t.Errorf("%s: %s %v", text, got, err)
		}
	}
	f("<{HEADER:X-Account}>", "<4711>")
	f("{HEADER:x-ACCOUNT}{HEADER:X-None}", "4711")
	f("{HEADER:X Account} {header:x}", "{HEADER:X Account} {header:x}")
	f("{HEADER:X-Long}", strings.Repeat("é", 46)) // cut, not too long
	f("{CALLED} {CALLEDURI} {VERSTAT}", "+4420 sip:+4420@example.com TN-Validation-Passed")
	f("{HEADER:}", "")
	f("{HEADERS}", "")
}
