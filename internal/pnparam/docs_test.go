package pnparam

import (
	"os"
	"strings"
	"testing"
)

// What docs/CLIENTS.md tells app developers to send is what the tests of this
// package send: each block marked "contact" or "header" binds, and with "unbind"
// behind that unbinds.
func TestDocsClients(t *testing.T) {
	text, err := os.ReadFile("../../docs/CLIENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	tested := make(map[string]example)
	for _, e := range examples() {
		tested[e.headers] = e
	}
	dialects := make(map[string]bool)
	for mark, headers := range blocks(t, string(text)) {
		kind, unbind := strings.CutSuffix(mark, " unbind")
		switch {
		case kind == "contact" && strings.HasPrefix(headers, "Contact: "):
		case kind == "header" && !strings.Contains(headers, "Contact: "):
		default:
			t.Errorf("block marked %q holds something else:\n%s", mark, headers)
		}
		e, ok := tested[headers]
		if !ok {
			t.Errorf("no test has this block:\n%s", headers)
			continue
		}
		want := Bind
		if unbind {
			want = Unbind
		}
		if p, err := Parse(e.register()); err != nil || p.Intent != want {
			t.Errorf("%s: got intent %d, %v, want %d", e.client, p.Intent, err, want)
		} else {
			dialects[p.Dialect] = true
		}
	}
	for _, d := range []string{"rfc8599", "linphone", "sylk", "portsip", "mpush", "push-token"} {
		if !dialects[d] {
			t.Errorf("no example of the dialect %s", d)
		}
	}
}

// blocks returns the fenced blocks of a Markdown text that are marked as SIP.
func blocks(t *testing.T, text string) func(yield func(mark, body string) bool) {
	t.Helper()
	return func(yield func(mark, body string) bool) {
		parts := strings.Split("\n"+text, "\n```")
		if len(parts)%2 == 0 {
			t.Error("a block has no end")
		}
		for i := 1; i < len(parts); i += 2 {
			mark, body, _ := strings.Cut(parts[i], "\n")
			switch language, _, _ := strings.Cut(mark, " "); language {
			case "json", "yaml", "kotlin", "swift", "js", "xml":
				continue
			}
			if !yield(mark, body) {
				return
			}
		}
	}
}
