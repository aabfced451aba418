package pnparam

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// swid is the URI parameter by which the proxy recognises a phone.
const swid = "swid"

// Saved returns the Contact header value that a proxy should save for a REGISTER, where
// p is the result of Parse, also with an error. It is one line without push data. The
// URI of p has swid=ID if the device is known. The result is empty if the proxy can save
// the Contact unchanged, or if it cannot be parsed.
//
// ID has 12 hexadecimal digits. It distinguishes the phones of an AOR that share a
// private address, and stays the same as long as the device does. So a phone has one
// contact even if its token changes, and replaces its former one. ID reveals nothing
// about the token, even to those who know the token: see phoneID.
//
// If a proxy nearer to the phone pushes it, the push data stays, because that proxy
// needs it (RFC 8599 section 5.3.1).
func Saved(r Register, p Parsed, aor string) string {
	rest := trimLWS(r.Contact)
	if rest == "" || rest == "*" {
		return ""
	}
	h := readHeaders(r.Headers)
	w := writer{keep: h.servedDownstream()}
	w.text.Grow(len(r.Contact) + len(";"+swid+"=") + idDigits)
	if p.Device != "" && (p.Intent == Bind || p.Intent == Unbind) {
		w.id = phoneID(aor, &p)
	}
	for more := true; more; {
		var c contact
		var problem string
		if rest, more, problem = c.read(rest); problem != "" || strings.IndexByte(c.uri, '>') >= 0 {
			return ""
		}
		id := ""
		if w.id != "" && c.uri == p.Contact && c.expires == p.Expires {
			id, w.id = w.id, ""
		}
		w.contact(&c, id)
	}
	if !w.changed {
		return ""
	}
	return w.text.String()
}

// idDigits is the length of an ID.
const idDigits = 12

// phoneID returns the ID of a device. Of a device ID that is derived from the push
// address it uses only 16 bits. That is enough to distinguish the few phones of a user,
// but too little to find a token in a list of tokens. A secret key would do too, but it
// would have to stay the same in all instances for ever.
func phoneID(aor string, p *Parsed) string {
	device := p.Device
	if p.Hashed {
		device = device[:4]
	}
	var room [256]byte
	sum := sha256.Sum256(append(append(append(room[:0], aor...), 0), device...))
	var id [idDigits]byte
	hex.Encode(id[:], sum[:idDigits/2])
	return string(id[:])
}

// writer writes contacts.
type writer struct {
	id      string // of the phone whose contact is still to be written
	keep    bool   // keep push data
	changed bool
	text    strings.Builder
}

func (w *writer) contact(c *contact, id string) {
	if w.text.Len() > 0 {
		w.text.WriteString(", ")
	}
	if c.display != "" {
		w.line(c.display)
		w.text.WriteByte(' ')
	}
	w.text.WriteByte('<')
	w.line(c.base)
	w.params(c, c.params, cut)
	if id != "" {
		w.text.WriteString(";" + swid + "=" + id)
		w.changed = true
	}
	// No phone needs headers in its URI, and they could hide push data.
	if c.headers != "" && !w.keep && (id != "" || c.push.seen != 0 || hasPushWord(c.headers)) {
		c.headers, w.changed = "", true
	}
	if c.headers != "" {
		w.text.WriteByte('?')
		w.line(c.headers)
	}
	w.text.WriteByte('>')
	w.params(c, c.behind, func(s string, sep byte) (string, string, bool) {
		before, after, found, _ := cutUnquoted(s, sep)
		return before, after, found
	})
}

// params writes the parameters except push data and swid.
func (w *writer) params(c *contact, s string, cut func(s string, sep byte) (before, after string, found bool)) {
	for more := s != ""; more; {
		var one string
		one, s, more = cut(s, ';')
		name, value, valued := cut(one, '=')
		if name = trimLWS(name); name == "" && !valued {
			continue
		}
		if w.drops(c, unescapeSome(name)) || strings.IndexFunc(one, isControl) >= 0 {
			w.changed = true
			continue
		}
		w.text.WriteByte(';')
		w.line(name)
		if valued {
			w.text.WriteByte('=')
			w.line(trimLWS(value))
		}
	}
}

func (w *writer) drops(c *contact, name string) bool {
	if strings.EqualFold(name, swid) { // copied from an earlier answer, or made up
		return true
	}
	if w.keep {
		return false
	}
	return hasPrefixFold(name, "pn-") || hasPrefixFold(name, "push-token-") ||
		strings.EqualFold(name, appID.name()) && c.push.has(pnTok)
}

// line appends s without line ends and without characters that headers must not have.
func (w *writer) line(s string) {
	if visible(s) {
		w.text.WriteString(s)
		return
	}
	gap := false
	for i := range len(s) {
		switch b := s[i]; {
		case isLWS(b) && b != ' ':
			gap = true
			continue
		case isControl(rune(b)):
			w.text.WriteByte('_')
		case gap && b != ' ':
			w.text.WriteByte(' ')
			w.text.WriteByte(b)
		default:
			w.text.WriteByte(b)
		}
		gap = false
	}
}

// visible reports whether no byte of s is a control character.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// isControl reports whether r must not be in a header.
func isControl(r rune) bool { return r < ' ' && !isLWS(byte(r)) || r == 0x7f }

// hasPushWord reports whether the headers of a URI look like push data.
func hasPushWord(headers string) bool {
	headers = strings.ToLower(unescapeSome(headers))
	return strings.Contains(headers, "pn-") || strings.Contains(headers, "push")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
