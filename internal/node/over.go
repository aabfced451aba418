package node

import (
	"strings"

	"github.com/sipwake/sipwake/internal/wake"
)

// Cause is the cause that the Reason of a CANCEL names (RFC 3326) when a call has ended
// so, 0 for none: a phone shows no missed call when somebody has taken it.
func Cause(r wake.EndReason) int {
	switch r {
	case wake.EndAnswered:
		return 200
	case wake.EndDeclined:
		return 603
	}
	return 0
}

// AlertTag is the To tag of a provisional answer to the caller: no phone's.
func AlertTag(w wake.Wake) string { return "sipwake-" + w.ID[:min(len(w.ID), 8)] }

// From is the value of a From header, without a tag, that shows who called.
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

// To is the value of a To header that names the user who was called.
func To(w wake.Wake) string {
	uri := "sip:" + w.AOR
	if !plainURI(uri) {
		uri = "sip:anonymous@anonymous.invalid"
	}
	return "<" + uri + ">"
}

// plainURI reports whether a URI can stand between angle brackets and has a scheme
// that a phone knows.
func plainURI(uri string) bool {
	scheme, rest, ok := strings.Cut(uri, ":")
	switch strings.ToLower(scheme) {
	case "sip", "sips", "tel":
	default:
		ok = false
	}
	return ok && rest != "" && !strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"`, r) })
}
