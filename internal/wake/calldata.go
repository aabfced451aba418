package wake

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sipwake/sipwake/push"
)

// Bounds of the headers that a node sends with a held request. Longer values are cut
// and extra headers dropped: a stranger's headers must not cost anyone a call.
const (
	maxHeaders     = 16
	maxHeaderName  = 64
	maxHeaderValue = 1024 // bytes of one
	maxHeaderBytes = 4096 // of all values together
)

const (
	headerPrivacy  = "privacy"
	headerAsserted = "p-asserted-identity"
)

// callHeaders returns the headers of a held request that its pushes may show, keyed
// by lower-case name. Each value is one line of UTF-8. Headers that identify the
// caller are omitted if the Privacy of the request asks for it.
func callHeaders(raw map[string]string) map[string]string {
	if len(raw) == 0 {
		return nil
	}
	byName := make(map[string]string, len(raw))
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if key := strings.ToLower(name); push.HeaderName(key) && len(key) <= maxHeaderName {
			byName[key] = raw[name]
		}
	}
	hidden := hiddenHeaders(byName[headerPrivacy])
	list, left := make(map[string]string), maxHeaderBytes
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		value := oneLine(byName[name], min(left, maxHeaderValue))
		if value == "" || name == headerPrivacy || hidden(name, value) || len(list) == maxHeaders {
			continue
		}
		list[name] = value
		left -= len(value)
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// hiddenHeaders returns a function that reports whether to hide a header: because
// the Privacy header (RFC 3323, RFC 3325, RFC 7044) asks for it, or because the
// value itself does, as in Diversion and Remote-Party-ID.
func hiddenHeaders(privacy string) func(name, value string) bool {
	words := strings.FieldsFunc(strings.ToLower(privacy), func(r rune) bool { return strings.ContainsRune(";, \t\r\n", r) })
	asks := func(any ...string) bool {
		return slices.ContainsFunc(any, func(w string) bool { return slices.Contains(words, w) })
	}
	caller, former := asks("id", "user", "header"), asks("history", "header", "session")
	return func(name, value string) bool {
		switch name {
		case headerAsserted, "p-preferred-identity", "identity", "call-info", "reply-to", "organization", "contact", "geolocation":
			return caller
		case "remote-party-id":
			return caller || privateParty(value)
		case "diversion":
			return former || privateParty(value)
		case "history-info":
			return former || strings.Contains(strings.ToLower(value), "privacy=") || strings.Contains(strings.ToLower(value), "privacy%3d")
		}
		return false
	}
}

// privateParty reports whether a Diversion (RFC 5806) or Remote-Party-ID asks for
// privacy by its own parameter.
func privateParty(value string) bool {
	for _, p := range strings.FieldsFunc(strings.ToLower(value), func(r rune) bool { return r == ';' || r == ',' }) {
		name, asked, ok := strings.Cut(p, "=")
		if ok && strings.TrimSpace(name) == "privacy" && strings.Trim(asked, "\" \t") != "off" {
			return true
		}
	}
	return false
}

// oneLine returns at most n bytes of s as UTF-8 without control characters and line
// ends. Each run of them and of white space becomes one space, as RFC 3261 section
// 7.3.1 treats folded lines.
func oneLine(s string, n int) string {
	// Enough that n bytes remain.
	s = s[:min(len(s), 8*maxHeaderValue)]
	var b strings.Builder
	space := false
	for _, r := range s {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			space = b.Len() > 0
			continue
		}
		size := utf8.RuneLen(r)
		if space {
			size++
		}
		if b.Len()+size > n {
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// verstat returns the network's verification of the caller's number (3GPP TS 24.229
// section 7.2A.20), from P-Asserted-Identity or else from the From URI; empty if
// there is none. It does not identify the caller, so Privacy does not hide it.
func verstat(raw map[string]string, from string) string {
	for name, value := range raw {
		if strings.EqualFold(name, headerAsserted) {
			if v := verstatOf(value); v != "" {
				return v
			}
		}
	}
	return verstatOf(from)
}

func verstatOf(uri string) string {
	const param = ";verstat="
	i := strings.Index(strings.ToLower(uri), param)
	if i < 0 {
		return ""
	}
	v := uri[i+len(param):]
	for n, r := range v {
		if r != '-' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			v = v[:n]
			break
		}
	}
	return v[:min(len(v), maxHeaderName)]
}
