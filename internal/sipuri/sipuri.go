// Package sipuri reads the sip:, sips: and tel: URIs of users: the address-of-record,
// the caller, and what a person would dial. It does no I/O, imports nothing of the
// project, and accepts any input.
package sipuri

import (
	"errors"
	"net/netip"
	"strings"
)

// parts are the parts of a URI that identify the user, as written.
type parts struct {
	user string // without password; with tel: the number
	host string // without port; with tel: the phone-context
	tel  bool
	// number says that the user is a telephone number, by tel: or user=phone.
	number bool
}

// split splits a URI, with or without scheme, into its parts. Port, password, parameters
// and headers do not identify the user and are dropped.
func split(s string) parts {
	scheme, rest, ok := strings.Cut(s, ":")
	switch {
	case !ok:
	case strings.EqualFold(scheme, "tel"):
		return splitTel(rest)
	case strings.EqualFold(scheme, "sip"), strings.EqualFold(scheme, "sips"):
		s = rest
	}
	// A user may contain ";" and "?"; no other part may contain "@" (RFC 3261 section 25.1).
	user, host, ok := strings.Cut(s, "@")
	if !ok {
		user, host = "", s
	}
	user, _, _ = strings.Cut(user, ":")
	params := ""
	if i := strings.IndexAny(host, ";?"); i >= 0 {
		host, params = host[:i], host[i:]
	}
	phone := strings.Contains(strings.ToLower(params), ";user=phone")
	return parts{user: user, host: cutPort(host), number: phone}
}

// splitTel splits the part after tel: (RFC 3966 section 3). The phone-context counts as
// the domain.
func splitTel(s string) (p parts) {
	number, params, more := strings.Cut(s, ";")
	number, _, _ = strings.Cut(number, "?")
	p = parts{user: number, tel: true, number: true}
	for more {
		var one string
		one, params, more = strings.Cut(params, ";")
		if name, value, _ := strings.Cut(one, "="); strings.EqualFold(name, "phone-context") {
			p.host = value
			return p
		}
	}
	return p
}

// cutPort removes the port from a host.
func cutPort(host string) string {
	if end := strings.IndexByte(host, ']'); end >= 0 && host[0] == '[' {
		return host[:end+1]
	}
	name, rest, _ := strings.Cut(host, ":")
	if strings.Contains(rest, ":") {
		if _, err := netip.ParseAddr(host); err == nil { // IPv6 without brackets
			return host
		}
	}
	return name
}

// dialed returns a number without its visual separators (RFC 3966 section 5.1.1).
func dialed(number string) string {
	return strings.NewReplacer("-", "", ".", "", "(", "", ")", "").Replace(number)
}

// canonical returns user and host, the same for all equivalent spellings. Escaped
// characters of kept stay escaped.
func (p parts) canonical(kept string) (user, host string) {
	user, host = canonical(p.user, kept), canonicalHost(p.host)
	if p.tel {
		user = dialed(user)
		if strings.HasPrefix(host, "+") { // a phone-context may be a number prefix
			host = dialed(host)
		}
	}
	return user, host
}

// AOR returns the address-of-record user@domain of a URI. It is the same for all URIs
// that are equal by RFC 3261 section 19.1.4 or RFC 3966 section 4, with two exceptions.
// All letters become lower case. A "+" in the user equals its escape, as in proxies,
// because no two users differ only by this. Other reserved characters differ from their
// escapes. The scheme may be missing, and so may the user (RFC 3261 section 10.2). For
// a tel: URI without phone-context the result is the number alone.
//
// An error never quotes the URI.
func AOR(s string) (string, error) {
	if isPlain(s) {
		return s, nil
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f || strings.IndexByte(`<>"`, s[i]) >= 0 {
			return "", errors.New("has a character that an address-of-record cannot have")
		}
	}
	p := split(s)
	user, host := p.canonical(reserved)
	switch {
	case user == "" && host == "" && (s == "" || p.tel || !strings.Contains(s, "@")):
		return "", errors.New("is missing")
	case host == "" && p.tel:
		return user, nil
	case host == "":
		return "", errors.New("has no domain")
	case user == "":
		return host, nil
	}
	return user + "@" + host, nil
}

// isPlain reports whether s is certainly user@domain as AOR returns it. Most input is.
func isPlain(s string) bool {
	at := 0
	for i := range len(s) {
		switch b := s[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '.', b == '-', at == 0 && (b == '+' || b == '_'):
		case b == '@' && at == 0 && i > 0:
			at = i
		default:
			return false
		}
	}
	return at > 0 && at < len(s)-1 && s[len(s)-1] != '.'
}

// Caller returns a key for the caller in a From URI: user and domain, unescaped and in
// lower case, without everything else. It is "" for anonymous callers: without a From,
// by RFC 3323 section 4.1.1.3, or by the user names that gateways use for them.
func Caller(from string) string {
	p := split(from)
	p.user, _, _ = strings.Cut(p.user, ";") // parameters of a number, such as ;cpc=ordinary
	user, host := p.canonical("")
	if p.tel && strings.HasPrefix(user, "+") {
		host = "" // a global number has no context (RFC 3966 section 5.1.5)
	}
	if host == "anonymous.invalid" {
		return ""
	}
	switch user {
	case "anonymous", "unavailable", "unknown", "restricted":
		return ""
	case "":
		return host
	}
	if host == "" {
		return user
	}
	return user + "@" + host
}

// Dial returns what a person would dial to call the user of a URI: the user without
// escapes and parameters, or the host if there is no user.
func Dial(uri string) string {
	p := split(uri)
	user, _, _ := strings.Cut(p.user, ";")
	if user == "" {
		return readable(p.host)
	}
	user = readable(user)
	if (p.number || strings.HasPrefix(user, "+")) && strings.Trim(user, "+0123456789-.()*#") == "" {
		return dialed(user)
	}
	return user
}
