package pnparam

import "strings"

// param is a Contact parameter in which some client sends push data.
type param int

// The parameters: those of RFC 8599 and its extensions first, then those of older
// dialects.
const (
	pnProvider param = iota
	pnParam
	pnPrid
	pnProduction
	pnP256dh
	pnAuth
	pnType
	pnTok
	pnApp
	pnDevice
	appID
	tokenType
	tokenApp
	tokenID
	paramCount
)

// name returns the parameter's name.
func (p param) name() string {
	return [...]string{
		"pn-provider", "pn-param", "pn-prid", "pn-production",
		"pn-p256dh", "pn-auth",
		"pn-type", "pn-tok", "pn-app", "pn-device", "app-id",
		"push-token-type", "push-token-app", "push-token-id",
	}[p]
}

// paramNamed returns the parameter with a name, which is case-insensitive.
func paramNamed(name string) (param, bool) {
	var p param
	if len(name) < len("pn-x") {
		return 0, false
	}
	// Switch on the first letter and the length, because most names are no push data.
	switch name[0] | 0x20 {
	case 'p':
		switch len(name) {
		case len("pn-tok"):
			p = pnTok
			if name[3]|0x20 == 'a' {
				p = pnApp
			}
		case len("pn-type"):
			p = pnType
			switch name[3] | 0x20 {
			case 'p':
				p = pnPrid
			case 'a':
				p = pnAuth
			}
		case len("pn-param"):
			p = pnParam
		case len("pn-device"):
			p = pnDevice
			if name[3]|0x20 == 'p' {
				p = pnP256dh
			}
		case len("pn-provider"):
			p = pnProvider
		case len("pn-production"):
			p = pnProduction
			if name[1]|0x20 == 'u' {
				p = tokenID
			}
		case len("push-token-app"):
			p = tokenApp
		case len("push-token-type"):
			p = tokenType
		default:
			return 0, false
		}
	case 'a':
		p = appID
	default:
		return 0, false
	}
	return p, strings.EqualFold(name, p.name())
}

// params are the push parameters of one contact, as sent.
type params struct {
	values [paramCount]string
	// One bit for each parameter.
	seen, twice, behind, decoded uint16
}

// readURI parses the parameters of a URI.
func (ps *params) readURI(s string) {
	for s != "" {
		var one string
		one, s, _ = cut(s, ';')
		// A name may have escapes (RFC 3261 section 25.1, pname).
		if one == "" || one[0]|0x20 != 'p' && one[0]|0x20 != 'a' && one[0] != '%' {
			continue
		}
		name, value, _ := cut(one, '=')
		if p, ok := paramNamed(unescapeSome(name)); ok {
			ps.set(p, value)
		}
	}
}

// readBehind takes a parameter from after the URI. RFC 8599 puts push data into the URI,
// but many SIP libraries let an app add parameters only here. A parameter in the URI
// takes precedence.
func (ps *params) readBehind(name, value string) {
	p, ok := paramNamed(unescapeSome(name))
	bit := uint16(1) << p
	if !ok || ps.seen&^ps.behind&bit != 0 {
		return
	}
	ps.set(p, unquote(value))
	ps.behind |= bit
}

func (ps *params) set(p param, value string) {
	bit := uint16(1) << p
	if ps.seen&bit != 0 {
		ps.twice |= bit
		return
	}
	ps.seen |= bit
	ps.values[p] = value
}

// has reports whether the parameter was sent, with a value or without.
func (ps *params) has(p param) bool { return ps.seen>>p&1 != 0 }

// decode decodes the values of the parameters from first to last in place, once, and
// returns what is wrong with one of them, or "". Only the dialect that is used calls
// it, so that a parameter with the same name but another meaning is no error.
func (ps *params) decode(first, last param) (problem string) {
	for p := first; p <= last; p++ {
		if !ps.has(p) || ps.decoded>>p&1 != 0 {
			continue
		}
		if ps.twice>>p&1 != 0 {
			return p.name() + " occurs twice"
		}
		v, ok := unescape(ps.values[p])
		if !ok {
			return p.name() + " has a bad percent escape"
		}
		ps.values[p] = v
		ps.decoded |= 1 << p
	}
	return ""
}
