package pnparam

import "strings"

// PortSIP's header by its current and its former names; some apps send all.
const (
	xPushHeader       = "X-Push"
	xPPushHeader      = "X-P-Push"
	portsipPushHeader = "Portsip-Push"
)

// portsip reads PortSIP's header X-Push: device-os=ios;device-uid=TOKEN;
// allow-call-push=true;allow-message-push=true;app-id=ID. On iOS TOKEN is the
// PushKit token, or VOIP|REMOTE. An app that allows neither kind unbinds.
func portsip(in *input, p *Parsed) (bool, *Error) {
	for _, h := range [...]struct{ name, value string }{
		{xPushHeader, in.headers.xPush},
		{xPPushHeader, in.headers.xPPush},
		{portsipPushHeader, in.headers.portsipPush},
	} {
		if h.value == "" {
			continue
		}
		x, problem := readXPush(h.value)
		if problem == "" && x.has(deviceUID) {
			problem = p.readPortSIP(&x)
		}
		if problem != "" {
			return false, &Error{h.name, problem}
		}
		if x.has(deviceUID) { // otherwise it is another X-Push, not PortSIP's
			return true, nil
		}
	}
	return false, nil
}

// The fields of X-Push.
const (
	deviceOS = iota
	deviceUID
	allowCall
	allowMessage
	xPushApp
	xPushFields
)

func xPushName(field int) string {
	return [...]string{"device-os", "device-uid", "allow-call-push", "allow-message-push", "app-id"}[field]
}

type xPush struct {
	values [xPushFields]string
	seen   [xPushFields]bool
}

func (x *xPush) has(field int) bool { return x.seen[field] }

func readXPush(s string) (x xPush, problem string) {
	for more := true; more; {
		var one string
		one, s, more = cut(s, ';')
		name, value, _ := cut(one, '=')
		name = trimLWS(name)
		for f := range xPushFields {
			if !strings.EqualFold(name, xPushName(f)) {
				continue
			}
			if x.seen[f] {
				return x, xPushName(f) + " occurs twice"
			}
			x.values[f], x.seen[f] = unquote(trimLWS(value)), true
		}
	}
	return x, ""
}

// readPortSIP sets the intent and the address.
func (p *Parsed) readPortSIP(x *xPush) (problem string) {
	var a Address
	if a.Provider, a.Environment = ProviderOf(x.values[deviceOS]); a.Provider == "" {
		return "device-os does not name the system"
	}
	if problem := checkProvider(a.Provider); problem != "" {
		return "device-os " + problem
	}
	var ok1, ok2 bool
	a.Denied.Calls, ok1 = denied(x.values[allowCall])
	a.Denied.Messages, ok2 = denied(x.values[allowMessage])
	if !ok1 || !ok2 {
		return "allow-call-push or allow-message-push is neither true nor false"
	}
	token := x.values[deviceUID]
	voip, remote, pair := cutPair(token, "|")
	pair = pair && a.Provider == APNs
	gone := isNull(token) || pair && voip == "" && remote == ""
	p.Intent = Bind
	if gone || a.Denied == (Denied{true, true}) {
		p.Intent = Unbind
	}
	service, problem := a.readApp(x.values[xPushApp], p.Intent == Bind)
	if problem != "" {
		return "app-id " + problem
	}
	switch p.Address = a; {
	case gone:
	case pair:
		problem = checkPair(voip, remote)
		p.Address.setPair(voip, remote)
	default:
		if a.Provider == APNs && service == "" {
			service = VoIP
		}
		problem = p.Address.setToken(service, token)
	}
	if problem != "" {
		return "device-uid " + problem
	}
	return ""
}

// denied parses a permission; without one the push is allowed.
func denied(allow string) (no, ok bool) {
	switch {
	case allow == "", strings.EqualFold(allow, "true"), allow == "1":
		return false, true
	case strings.EqualFold(allow, "false"), allow == "0":
		return true, true
	}
	return false, false
}
