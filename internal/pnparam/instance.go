package pnparam

import "strings"

// MaxInstance is the longest instance that a device may have, in bytes.
const MaxInstance = maxInstance

// Instance returns one text for all spellings of an instance, as a +sip.instance has
// it or the gr parameter of a GRUU (RFC 5627 section 3.2): quoted or not, with <> or
// not, escaped or not. RFC 8141 section 3.1 says what is equal in a URN. It is empty
// for what no device can have: nothing at all, more than MaxInstance bytes, or a
// character that is not visible ASCII.
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
