package sipuri

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// reserved are the characters that differ in meaning from their escapes (RFC 3261
// section 25.1), except "+": see AOR.
const reserved = ";/?:@&=$,"

// structural are the characters that stay escaped in a canonical text: otherwise it
// would be split differently when it is parsed again.
const structural = `:@%<>" `

const hexDigits = "0123456789abcdef"

// canonical returns the same text for all equivalent spellings of s: in lower case, with
// every escape decoded that can be. Escaped characters of kept stay escaped.
func canonical(s, kept string) string {
	b := make([]byte, 0, len(s))
	for len(s) > 0 {
		c, escaped, n := next(s)
		s = s[n:]
		switch {
		case c < utf8.RuneSelf && (c < ' ' || c == 0x7f || strings.IndexByte(structural, c) >= 0),
			escaped && strings.IndexByte(kept, c) >= 0:
			b = appendEscape(b, c)
		case 'A' <= c && c <= 'Z':
			b = append(b, c|0x20)
		default:
			b = append(b, c)
		}
	}
	return escapeUnprintable(b)
}

// canonicalHost is like canonical, for a host name or an IP address.
func canonicalHost(host string) string {
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if mayBeAddress(bare) {
		if a, err := netip.ParseAddr(bare); err == nil && a.Zone() == "" {
			if a.Is4() {
				return a.String()
			}
			return "[" + a.String() + "]"
		}
	}
	return strings.TrimRight(canonical(host, reserved), ".")
}

// mayBeAddress spares the usual name an attempt to read it as an IP address, whose error
// is garbage.
func mayBeAddress(host string) bool {
	if host == "" {
		return false
	}
	last := host[len(host)-1]
	return '0' <= last && last <= '9' || strings.Contains(host, ":")
}

// next returns the first byte of s, decoded, whether it was escaped, and its length in s.
func next(s string) (c byte, escaped bool, n int) {
	if s[0] == '%' && len(s) > 2 {
		if high, low := digit(s[1]), digit(s[2]); high >= 0 && low >= 0 {
			return byte(high<<4 | low), true, 3
		}
	}
	return s[0], false, 1
}

func digit(b byte) int {
	if 'A' <= b && b <= 'F' {
		b |= 0x20
	}
	return strings.IndexByte(hexDigits, b)
}

func appendEscape(b []byte, c byte) []byte {
	return append(b, '%', hexDigits[c>>4], hexDigits[c&15])
}

// unescape decodes each %HH of s.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for len(s) > 0 {
		c, _, n := next(s)
		b, s = append(b, c), s[n:]
	}
	return string(b)
}

// readable decodes s for people: unprintable characters stay escaped.
func readable(s string) string { return escapeUnprintable([]byte(unescape(s))) }

// escapeUnprintable escapes invalid UTF-8 and unprintable characters.
func escapeUnprintable(b []byte) string {
	plain := true
	for _, c := range b {
		plain = plain && ' ' <= c && c < 0x7f
	}
	if plain {
		return string(b)
	}
	var out []byte
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			for _, c := range b[:n] {
				out = appendEscape(out, c)
			}
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return string(out)
}
