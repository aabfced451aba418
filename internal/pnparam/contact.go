package pnparam

import (
	"math"
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// contact is one contact-param of a Contact header, RFC 3261 section 25.1.
type contact struct {
	display string // display name before <URI>, as sent
	uri     string // as sent, without <>
	// The parts of uri: up to the parameters, the parameters without their first
	// ";", and the headers without "?".
	base, params, headers string
	behind                string // the header parameters after the URI, as sent
	instance              string // +sip.instance without quotes and <>
	expires               int    // -1 if absent
	pnsreg                bool
	push                  params
	// problem says what is wrong with a contact whose parts could still be read.
	problem string
}

// maxInstance is far above a URN of a UUID (45 bytes).
const maxInstance = 255

// read parses the first contact of s into c, which must be empty, and returns what
// follows its comma. It returns a problem if it cannot split the contact into parts.
//
// sipgo parses only the URI. It cannot parse the rest, because it supports neither
// quoted header parameters nor several contacts, and silently drops repeated
// parameters.
func (c *contact) read(s string) (rest string, more bool, problem string) {
	display, uri, tail, problem := cutURI(s)
	if problem != "" {
		return "", false, problem
	}
	behind, rest, more, ok := cutUnquoted(tail, ',')
	if !ok {
		return "", false, "has a quoted string without an end"
	}
	c.display, c.uri, c.behind, c.expires = display, uri, behind, -1
	c.splitURI()
	if c.problem = c.checkURI(); c.problem == "" {
		c.push.readURI(c.params)
	}
	c.readBehind()
	return rest, more, ""
}

// cutURI returns the display name and the URI of the contact at the start of s, and what
// follows them.
func cutURI(s string) (display, uri, rest, problem string) {
	all := trimLWS(s)
	s = all
	if strings.HasPrefix(s, `"`) {
		end := quotedEnd(s)
		if end < 0 {
			return "", "", "", "has a quoted string without an end"
		}
		s = trimLWS(s[end:])
		if !strings.HasPrefix(s, "<") {
			return "", "", "", "has no <URI> after the display name"
		}
	}
	i := strings.IndexAny(s, "<;,")
	if i < 0 {
		return "", s, "", ""
	}
	if s[i] != '<' {
		// Without <> all parameters are header parameters (section 20.10).
		return "", trimLWS(s[:i]), s[i:], ""
	}
	s = s[i+1:]
	display = trimLWS(all[:len(all)-len(s)-1])
	end := strings.IndexByte(s, '>')
	if end < 0 {
		return "", "", "", "has a < without >"
	}
	rest = trimLWS(s[end+1:])
	if rest != "" && rest[0] != ';' && rest[0] != ',' {
		return "", "", "", "has something else than parameters after the URI"
	}
	return display, s[:end], rest, ""
}

// splitURI cuts the URI into its parts.
func (c *contact) splitURI() {
	// A user may contain ";" and "?", so search after it.
	host := strings.IndexByte(c.uri, '@') + 1
	c.base = c.uri
	i := strings.IndexAny(c.uri[host:], ";?")
	if i < 0 {
		return
	}
	c.base = c.uri[:host+i]
	rest := c.uri[host+i+1:]
	if c.uri[host+i] == '?' {
		c.headers = rest
		return
	}
	c.params, c.headers, _ = cut(rest, '?')
}

func (c *contact) checkURI() (problem string) {
	const never uint64 = 1<<(' '+1) - 1 | 1<<'"' | 1<<'<' | 1<<'>' // a bit a byte
	for i := range len(c.uri) {
		if b := c.uri[i]; b < 64 && never>>b&1 != 0 || b == 0x7f {
			return "has a character that no URI may have"
		}
	}
	if plainURI(c.base) {
		return ""
	}
	var u sip.Uri
	if err := sip.ParseUri(c.base, &u); err != nil {
		return "is not a SIP URI" // the error quotes its input
	}
	if u.Scheme != "sip" && u.Scheme != "sips" || u.HierarhicalSlashes {
		return "is not a SIP URI"
	}
	if !validHost(u.Host) || u.Port < 0 || u.Port > math.MaxUint16 {
		return "is a SIP URI without a valid host and port"
	}
	return ""
}

// plainURI reports whether s is sip:user@host or sip:user@host:port in common
// characters, as almost all are. Such a URI is valid, so sipgo need not parse it.
func plainURI(s string) bool {
	s, ok := strings.CutPrefix(s, "sip:")
	if !ok {
		return false
	}
	user, host, ok := cut(s, '@')
	if !ok || user == "" {
		return false
	}
	for i := range len(user) {
		if !plain(user[i]) && user[i] != '+' {
			return false
		}
	}
	host, port, hasPort := cut(host, ':')
	for i := range len(host) {
		if !plain(host[i]) {
			return false
		}
	}
	if !hasPort {
		return host != ""
	}
	n := 0
	for i := range len(port) {
		d := int(port[i]) - '0'
		if d < 0 || d > 9 || i > 4 {
			return false
		}
		n = n*10 + d
	}
	return host != "" && port != "" && n <= math.MaxUint16
}

func plain(b byte) bool {
	return 'a' <= b && b <= 'z' || '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || b == '.' || b == '-' || b == '_'
}

// validHost reports whether h is a host. It is stricter than sipgo, which accepts any
// text.
func validHost(h string) bool {
	if strings.HasPrefix(h, "[") {
		a, err := netip.ParseAddr(strings.Trim(h, "[]"))
		return err == nil && a.Is6()
	}
	for i := range len(h) {
		switch b := h[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', 'A' <= b && b <= 'Z', b == '.', b == '-', b == '_':
		default:
			return false
		}
	}
	return h != ""
}

// readBehind parses the header parameters after the URI.
func (c *contact) readBehind() {
	s := c.behind
	for more := true; more; {
		var param string
		param, s, more, _ = cutUnquoted(s, ';') // its quotes are known to be closed
		name, value, _ := cut(param, '=')
		switch name = trimLWS(name); {
		case strings.EqualFold(name, "expires"):
			c.expires = parseExpires(unquote(trimLWS(value)))
		case strings.EqualFold(name, "+sip.instance"):
			c.readInstance(trimLWS(value))
		case strings.EqualFold(name, "+sip.pnsreg"):
			c.pnsreg = true
		default:
			c.push.readBehind(name, trimLWS(value))
		}
	}
}

func (c *contact) readInstance(value string) {
	value = parseInstance(value)
	switch {
	case printable(value) && len(value) <= maxInstance:
		c.instance = value
	case c.problem != "":
	case len(value) > maxInstance:
		c.problem = "+sip.instance " + tooLong(maxInstance)
	default:
		c.problem = "+sip.instance has a character that is not allowed in a URN"
	}
}

func parseInstance(s string) string {
	s = unquote(s)
	if len(s) > 1 && s[0] == '<' && s[len(s)-1] == '>' {
		s = s[1 : len(s)-1]
	}
	return s
}

// parseExpires parses delta-seconds. It cuts a number that is too large to what an int
// holds on all platforms. Anything but a number counts as 3600.
func parseExpires(s string) int {
	n := 0
	for i := range len(s) {
		d := int(s[i]) - '0'
		if d < 0 || d > 9 {
			return 3600
		}
		if n > (math.MaxInt32-d)/10 {
			n = math.MaxInt32
			continue
		}
		n = n*10 + d
	}
	if s == "" {
		return 3600
	}
	return n
}

// cutUnquoted cuts s around the first sep outside of a quoted string. ok is false if a
// quoted string before that has no end.
func cutUnquoted(s string, sep byte) (before, after string, found, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case sep:
			return s[:i], s[i+1:], true, true
		case '"':
			n := quotedEnd(s[i:])
			if n < 0 {
				return s, "", false, false
			}
			i += n - 1
		}
	}
	return s, "", false, true
}

// quotedEnd returns the length of the quoted-string at the start of s, or -1 if it has
// no end.
func quotedEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// unquote returns the contents of a quoted-string, and any other text unchanged.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// trimLWS removes white space around s, folded lines included.
func trimLWS(s string) string {
	for s != "" && isLWS(s[0]) {
		s = s[1:]
	}
	for s != "" && isLWS(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isLWS(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }

// cut is like strings.Cut, but for a separator of one byte, which is faster.
func cut(s string, sep byte) (before, after string, found bool) {
	if i := strings.IndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}
