package tests

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Headers of an INVITE that the administrator has named reach the payload of the push,
// within limits, and as far as the caller and the app's privacy allow.
func TestCallDataReachesPush(t *testing.T) {
	t.Parallel()
	const template = `{"aps":{},"account":"{HEADER:X-Account}","info":"{HEADER:Call-Info}","pai":"{HEADER:P-Asserted-Identity}",` +
		`"diversion":"{HEADER:Diversion}","foreign":"{HEADER:X-Foreign}","verstat":"{VERSTAT}","called":"{CALLED}",` +
		`"from":"{FROM}","name":"{FROMDISPLAYNAME}","sent":"{SENT}","expires":"{EXPIRES}","call":"{CALLID}","uuid":"{UUID}"}`
	at := func(privacy string, scenarios scenarios) table {
		apns := "    templates: {call: " + writeTemp(t, template) + ", call_voip: " + writeTemp(t, template) + "}\n    policy: {privacy: " + privacy + "}"
		return table{name: "privacy " + privacy, sipwake: rigOptions{apnsConfig: apns},
			proxy: proxyConfig{Hold: 30 * time.Second, Hostile: privacy == "none",
				Headers: "X-Account Call-Info P-Asserted-Identity Diversion X-None"},
			scenarios: scenarios}
	}
	onEveryProxy(t,
		at("none", scenarios{"chosen headers": chosenHeaders, "privacy asked": privacyAsked, "too long": longHeaders, "hostile": hostileHeaders}),
		at("number", scenarios{"number": numberOnly}),
		at("full", scenarios{"full": nothingOfTheCall}))
}

// shown calls a sleeping phone and returns the data in its push.
func shown(s *scenario, headers map[string]string) map[string]string {
	s.t.Helper()
	s.nextUser()
	d := s.iphone(stubborn)
	s.asleep(d)
	call := s.callsFrom(s.caller(), phone.InviteOptions{Display: []byte(`"Alice"`), Headers: headers})
	payload := s.pushed(d)
	var got map[string]any
	if err := json.Unmarshal(payload, &got); err != nil || !utf8.Valid(payload) {
		s.t.Fatalf("%q: %v", payload, err)
	}
	call.cancels()
	call.over("cancelled")
	texts := make(map[string]string)
	for key, value := range got {
		if text, ok := value.(string); ok {
			texts[key] = text
			if strings.ContainsFunc(text, unicode.IsControl) {
				s.t.Errorf("%s has a control character: %q", key, text)
			}
		}
	}
	return texts
}

func wantShown(s *scenario, got, want map[string]string) {
	s.t.Helper()
	for key, text := range want {
		if got[key] != text {
			s.t.Errorf("%s is %q, want %q", key, got[key], text)
		}
	}
}

const asserted = "<sip:+15551234;verstat=TN-Validation-Passed@example.com;user=phone>"

func chosenHeaders(s *scenario) {
	got := shown(s, map[string]string{
		"X-Account": "4711", "Call-Info": "<https://example.com/alice.png>;purpose=icon", "P-Asserted-Identity": asserted,
		"Diversion": "<sip:carol@example.com>;reason=no-answer", "X-Foreign": "not chosen",
	})
	wantShown(s, got, map[string]string{
		"account": "4711", "info": "<https://example.com/alice.png>;purpose=icon", "pai": asserted, "name": "Alice",
		"diversion": "<sip:carol@example.com>;reason=no-answer", "verstat": "TN-Validation-Passed", "foreign": "",
	})
	if got["called"] == "" || got["called"] != s.user {
		s.t.Errorf("called is %q, not %q", got["called"], s.user)
	}
	if len(got["sent"]) != 10 || got["expires"] <= got["sent"] {
		s.t.Errorf("sent %q, expires %q", got["sent"], got["expires"])
	}
}

func privacyAsked(s *scenario) {
	got := shown(s, map[string]string{"Privacy": "id;history", "P-Asserted-Identity": asserted, "X-Account": "4711", "Diversion": "<sip:carol@example.com>"})
	wantShown(s, got, map[string]string{"pai": "", "diversion": "", "account": "4711", "verstat": "TN-Validation-Passed"})
}

// longHeaders: a header of 8 KB is cut, and the call continues.
func longHeaders(s *scenario) {
	got := shown(s, map[string]string{"X-Account": strings.Repeat("žx", 2800), "Call-Info": "<x>"})
	if text := got["account"]; len(text) < 900 || len(text) > 1024 || !strings.HasPrefix(text, "žx") || strings.Contains(text, "\uFFFD") {
		s.t.Errorf("%d bytes: %.20q ... %.20q", len(text), text, text[max(0, len(text)-10):])
	}
	wantShown(s, got, map[string]string{"info": "<x>"})
}

func hostileHeaders(s *scenario) {
	for _, value := range []string{
		`"}],"aps":{"alert":"owned"},"x":"`, "a\r\n\tfolded", "tab\tbell\x07\x1b[2J", "\xff\xfe", `$rU $(ci) {TOKEN} %s`, `\`, `a.b[0]`,
	} {
		got := shown(s, map[string]string{"X-Account": value, "Call-Info": value})
		if len(got) < 10 {
			s.t.Errorf("%q makes %q", value, got)
		}
	}
	wantShown(s, shown(s, map[string]string{"X-Account": "a\r\n\tfolded"}), map[string]string{"account": "a folded"})
}

func numberOnly(s *scenario) {
	got := shown(s, map[string]string{"X-Account": "4711", "P-Asserted-Identity": asserted})
	wantShown(s, got, map[string]string{"account": "", "pai": "", "name": got["from"], "called": "", "verstat": "TN-Validation-Passed"})
	if got["from"] == "" || got["call"] == "" {
		s.t.Errorf("%q", got)
	}
}

func nothingOfTheCall(s *scenario) {
	got := shown(s, map[string]string{"X-Account": "4711", "P-Asserted-Identity": asserted})
	for key, text := range got {
		if told := key == "uuid" || key == "sent" || key == "expires"; told != (text != "") {
			s.t.Errorf("%s is %q", key, text)
		}
	}
}
