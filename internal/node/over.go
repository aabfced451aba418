package node

import (
	"strings"

	"github.com/sipwake/sipwake/internal/wake"
)

// Cause returns the cause for the Reason header of a CANCEL (RFC 3326), 0 for none. It
// tells a phone not to show a missed call when somebody has answered or declined.
func Cause(r wake.EndReason) int {
	switch r {
	case wake.EndAnswered:
		return 200
	case wake.EndDeclined:
		return 603
	}
	return 0
}

// AlertTag returns the To tag of a provisional answer to the caller. It is no phone's.
func AlertTag(w wake.Wake) string { return "sipwake-" + w.ID[:min(len(w.ID), 8)] }

// From returns the value of a From header with the caller, without a tag.
func From(w wake.Wake) string {
	uri := w.From
	if !plainURI(uri) {
		uri = "sip:anonymous@anonymous.invalid"
	}
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, w.Display)
	if name == "" {
		return "<" + uri + ">"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `" <` + uri + ">"
}

// To returns the value of a To header with the called user.
func To(w wake.Wake) string {
	uri := "sip:" + w.AOR
	if !plainURI(uri) {
		uri = "sip:anonymous@anonymous.invalid"
	}
	return "<" + uri + ">"
}

// plainURI reports whether a URI can be put between angle brackets and has a scheme
// that phones know.
func plainURI(uri string) bool {
	scheme, rest, ok := strings.Cut(uri, ":")
	switch strings.ToLower(scheme) {
	case "sip", "sips", "tel":
	default:
		ok = false
	}
	return ok && rest != "" && !strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"`, r) })
}
