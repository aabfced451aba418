package push

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Visible reports whether s contains only visible ASCII characters.
func Visible(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// MaxDetail is the maximum length of Reply.Detail in bytes.
const MaxDetail = 200

// Clean makes a foreign error text safe to show: without the token, and at most
// MaxDetail bytes of visible ASCII and spaces.
func Clean(text, token string) string {
	if token != "" {
		text = strings.ReplaceAll(text, token, "<token>")
	}
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, text)
	return text[:min(len(text), MaxDetail)]
}

// Word returns s if it is an error code or a field name, otherwise "".
func Word(s string) string {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '.' {
			return ""
		}
	}
	if len(s) > 64 {
		return ""
	}
	return s
}

// CheckProvider returns what is wrong with the name of a push service in a
// configuration, or "".
func CheckProvider(name string) (problem string) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	if name == "" || len(name) > 64 || strings.Trim(name, letters) != "" {
		return "must be a name of 1 to 64 small letters, digits, dots, hyphens and underscores"
	}
	if p, env := pnparam.ProviderOf(name); string(p) != name || env != "" {
		return fmt.Sprintf("must be %q: phones that call it %q are served too", p, name)
	}
	return ""
}

// CheckPackages reports what is wrong with the names by which phones call an app.
func CheckPackages(packages []string, report func(field, problem string)) {
	for i, p := range packages {
		field := fmt.Sprintf("packages[%d]", i)
		switch {
		case p == "" || len(p) > 255 || !Visible(p):
			report(field, "must be 1 to 255 visible ASCII characters")
		case slices.Contains(packages[:i], p):
			report(field, fmt.Sprintf("%q is there twice", p))
		}
	}
}
