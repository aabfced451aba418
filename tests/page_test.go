package tests

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// ownScript is the one that a page may have.
const ownScript = `<script src="/live.js" defer></script>`

// page gets a page and holds what every page must have.
func (r *rig) page(t *testing.T, path string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get("http://" + r.app.OperationsAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if csp := res.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'self'; script-src 'self'; ") {
		t.Errorf("%s: policy %q", path, csp)
	}
	if strings.Contains(text, "fcm-token-bob-1") || strings.Contains(text, "token:") || strings.Contains(strings.ReplaceAll(text, ownScript, ""), "<script") {
		t.Errorf("%s shows a token or a script: %s", path, text)
	}
	return text
}

// Each page shows what it should, but no token, and no script can be injected.
func TestPages(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.startWake("bob@example.com", "1-1", nil)
	eventually(t, "the call is told", func() bool { return strings.Contains(r.timeline(t, "1-1"), "{accepted ") })
	hostile := url.QueryEscape(`<script>alert(1)</script>@example.com`)
	for path, wants := range map[string][]string{
		"/":                                      {"version ", "<span>load</span>", "Wakes in progress", "bob@example.com", "Google took the push"},
		"/?live":                                 {`http-equiv="refresh"`},
		"/search?q=bob":                          {"bob@example.com", "Google took the push"},
		"/search?q=call-1-1":                     {"bob@example.com"},
		"/search?q=bob&outcome=pushing":          {"bob@example.com", "Google took the push"},
		"/search?outcome=shed":                   {"No calls."},
		"/search?q=bob&device=other":             {"No calls."},
		"/search?q=bob&until=2020-01-31T10:00":   {"No calls."},
		"/search?q=bob&since=2020-01-31T10:00":   {"Google took the push"},
		"/search?q=bob&since=yesterday":          {"A time is written like"},
		"/search?q=" + hostile:                   {"&lt;script&gt;"},
		"/user?aor=" + hostile:                   {"cannot be shown"},
		"/user?aor=bob@example.com":              {"fcm", "Expires", "Why bindings went"},
		"/call?call_id=call-1-1":                 {"push service", "<b>held</b>", "<b>accepted</b>", "<svg"},
		"/call?call_id=" + hostile:               {"not known"},
		"/search?q=" + strings.Repeat("a", 4000): {"No calls."},
	} {
		text := r.page(t, path)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q: %s", path, want, text)
			}
		}
	}
}
