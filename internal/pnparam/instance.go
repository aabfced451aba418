package pnparam

import "strings"

// MaxInstance is the longest instance of a device, in bytes.
const MaxInstance = maxInstance

// Instance returns the same text for all spellings of an instance, from +sip.instance
// or from the gr parameter of a GRUU (RFC 5627 section 3.2): with or without quotes, <>
// and escapes. Parts of a URN are equal by RFC 8141 section 3.1. The result is empty if
// s is not a valid instance: empty, longer than MaxInstance bytes, or with a character
// that is not visible ASCII.
func Instance(s string) string {
	if len(s) > 3*MaxInstance+len(`"%3C%3E"`) { // every byte escaped
		return ""
	}
	s = parseInstance(unescapeSome(parseInstance(trimLWS(s))))
	if len(s) > MaxInstance || !printable(s) {
		return ""
	}
	scheme, rest, isURN := cut(s, ':')
	if !isURN || !strings.EqualFold(scheme, "urn") {
		return s
	}
	space, name, _ := cut(rest, ':')
	if space = strings.ToLower(space); space == "uuid" {
		name = strings.ToLower(name) // RFC 9562 section 4
	}
	return "urn:" + space + ":" + name
}
