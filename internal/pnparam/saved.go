package pnparam

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// swid is the URI parameter that names a phone to the proxy.
const swid = "swid"

// Saved returns the Contact header value that a proxy should save for a REGISTER
// of which Parse made p, with an error or without: one line, without push data, and
// with swid=ID in the URI that p is about, if its device is known. It is empty if
// the Contact may be saved as it came, or cannot be read.
//
// ID has 12 hexadecimal digits. It tells apart the phones of one AOR that share a
// private address, and stays the same for as long as the device does: so a phone
// has one contact, whatever becomes of its token, and removes the one that it had.
// It says nothing of the token, even to those who know the token: see phoneID.
//
// Where a proxy nearer to the phone does the pushing, the push data stays: that
// proxy needs it (RFC 8599 section 5.3.1).
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

// idDigits is how long an ID is.
const idDigits = 12

// phoneID makes the ID of a device. A device id that comes from the push address
// counts with 16 bits only: enough to tell the few phones of a user apart, and so
// little that nobody who has a list of tokens can find one by it. A key would do it
// too, but it had to be the same in all instances and for ever.
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

// writer writes contacts down.
type writer struct {
	id      string // of the phone whose contact has not come yet
	keep    bool   // push data stays
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
	// No phone needs headers in its URI, and they can hide everything.
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

// params writes the parameters that are neither push data nor a swid.
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
	if strings.EqualFold(name, swid) { // from an answer of ours, or made up
		return true
	}
	if w.keep {
		return false
	}
	return hasPrefixFold(name, "pn-") || hasPrefixFold(name, "push-token-") ||
		strings.EqualFold(name, appID.name()) && c.push.has(pnTok)
}

// line appends s without the ends of its lines, and without what no header may have.
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

// isControl reports whether r may not be in a header at all.
func isControl(r rune) bool { return r < ' ' && !isLWS(byte(r)) || r == 0x7f }

// hasPushWord reports whether the headers of a URI look like push data.
func hasPushWord(headers string) bool {
	headers = strings.ToLower(unescapeSome(headers))
	return strings.Contains(headers, "pn-") || strings.Contains(headers, "push")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
