package wake_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/wake"
)

// saysOf returns what the push of a call with the headers may show.
func saysOf(t *testing.T, from, to string, headers map[string]string) (got map[string]string, verstat, called string) {
	t.Helper()
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a", func(p *wake.StartParams) { p.From, p.To, p.Headers = from, to, headers })
		v := r.pusher.requests[0].Values
		got, verstat, called = v.Headers, v.Verstat, v.Called
	})
	return got, verstat, called
}

func TestCallData(t *testing.T) {
	const pai = "<sip:+15551234;verstat=TN-Validation-Passed@example.com;user=phone>"
	f := func(headers, want map[string]string) {
		t.Helper()
		got, _, _ := saysOf(t, alice, "sip:+44%2D20@example.com", headers)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("want - got +\n%s", d)
		}
	}
	type h = map[string]string
	f(nil, nil)
	f(h{"X-Account": " 47\r\n 11\x00\x1b[2J\u2028\u202ex ", "Call-Info": "<https://a.example/i.png>;purpose=icon"},
		h{"x-account": "47 11 [2J x", "call-info": "<https://a.example/i.png>;purpose=icon"})
	f(h{"X-Bad": "a\xffb", "X Bad": "1", "X.Bad": "1", "": "1", "X-Empty": " \r\n ", strings.Repeat("x", 65): "1"}, h{"x-bad": "a\uFFFDb"})
	f(h{"P-Asserted-Identity": pai, "Privacy": "none"}, h{"p-asserted-identity": pai})
	for _, privacy := range []string{"id", "none;ID ", "user; critical", "header", "session,id"} {
		f(h{"P-Asserted-Identity": pai, "Remote-Party-ID": "x", "Identity": "eyJ", "Call-Info": "<x>", "X-Account": "1", "privacy": privacy},
			h{"x-account": "1"})
	}
	f(h{"Diversion": "<sip:carol@example.com>;reason=no-answer;privacy=\"off\"", "X-A": "1", "Privacy": "id"},
		h{"diversion": "<sip:carol@example.com>;reason=no-answer;privacy=\"off\"", "x-a": "1"})
	f(h{"Diversion": "<sip:carol@example.com>;reason=no-answer; Privacy=Full"}, nil)
	f(h{"Diversion": "<sip:carol@example.com>", "History-Info": "<sip:carol@example.com>;index=1", "Privacy": "history"}, nil)
	f(h{"History-Info": "<sip:carol@example.com?Privacy=history>;index=1"}, nil)
	f(h{"Remote-Party-ID": "<sip:carol@example.com>;privacy=full;screen=no"}, nil)
}

// What is too long is cut, between two characters, and what is too much left out: no
// header costs a call.
func TestCallDataIsBounded(t *testing.T) {
	headers := map[string]string{"A-Long": strings.Repeat("é\r\n", 8192), "A-Bytes": strings.Repeat("\xff", 9000)}
	for i := range 40 {
		headers[fmt.Sprintf("X-%02d", i)] = strings.Repeat("x", 300)
	}
	got, _, _ := saysOf(t, alice, "", headers)
	total := 0
	for v := range maps.Values(got) {
		total += len(v)
		if !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) || len(v) > 1024 {
			t.Errorf("%.40q", v)
		}
	}
	if len(got) > 16 || total > 4096 || len(got["a-long"]) < 1000 || got["x-00"] == "" {
		t.Errorf("%d headers of %d bytes", len(got), total)
	}
}

func TestVerstat(t *testing.T) {
	f := func(from, pai, want string) {
		t.Helper()
		headers := map[string]string{"Privacy": "id"}
		if pai != "" {
			headers["P-Asserted-Identity"] = pai
		}
		if _, got, _ := saysOf(t, from, "", headers); got != want {
			t.Errorf("%s %s: %q, want %q", from, pai, got, want)
		}
	}
	f(alice, "", "")
	f(alice, "<sip:+1555;verstat=TN-Validation-Passed@example.com>", "TN-Validation-Passed")
	f(alice, "<tel:+1555;Verstat=No-TN-Validation>, <sip:a@example.com>", "No-TN-Validation")
	f("sip:+1555;verstat=TN-Validation-Failed@example.com", "<sip:+1555@example.com>", "TN-Validation-Failed")
	f("sip:+1555;verstat=<script>@example.com", "", "")
}

func TestCalled(t *testing.T) {
	for to, want := range map[string]string{
		"sip:+44%2D20@example.com": "+4420", "tel:+44-20;phone-context=x": "+4420", "": "", "sip:+1;verstat=A@b": "+1",
	} {
		if _, _, got := saysOf(t, alice, to, nil); got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
}
