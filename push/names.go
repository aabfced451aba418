package push

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Visible reports whether s has visible ASCII characters only.
func Visible(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// CheckProvider returns what is wrong with the name of a push service in a
// configuration, or nothing.
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

// CheckPackages reports what is wrong with the names that phones call an app by.
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
