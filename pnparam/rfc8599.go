package pnparam

import (
	"strings"

	"github.com/sipwake/sipwake/secret"
)

// pnParams are the parameters of RFC 8599 section 14, decoded, and one that
// some clients add.
type pnParams struct {
	provider, param, prid string
	production            string // "true" or "false" in the wild
	hasProvider           bool
}

// rfc8599 reads the pn- parameters of the Contact URI, with the extensions of
// Linphone (several APNs tokens, apns.dev) and the mistakes that clients make.
func rfc8599(in *input, p *Parsed) (bool, error) {
	pn, problem := readPN(in.contact.params)
	if problem != "" {
		return false, &Error{"contact", problem}
	}
	if !pn.hasProvider && pn.prid == "" || servedDownstream(in) {
		return false, nil
	}
	provider, env := providerOf(pn.provider)
	if problem := checkProvider(provider); problem != "" {
		return false, &Error{"contact", "pn-provider " + problem}
	}
	unbind := strings.EqualFold(pn.prid, "null")
	if !unbind {
		switch {
		case !pn.hasProvider: // ordinary SIP (section 5.3.1)
			return false, nil
		case pn.provider == "" || pn.prid == "":
			p.Intent, p.Asked = Query, provider
			return true, nil
		}
	}
	switch {
	case strings.EqualFold(pn.production, "true"):
		env = Production
	case strings.EqualFold(pn.production, "false"):
		env = Sandbox
	}
	p.Address = Address{Provider: provider, Environment: env}
	if problem := p.Address.readApp(pn, unbind); problem != "" {
		return false, &Error{"contact", problem}
	}
	p.Intent = Bind
	if unbind {
		p.Intent = Unbind
	}
	return true, nil
}

// servedDownstream tells whether a proxy nearer to the client already does the
// pushing (RFC 8599 section 5.3.1).
func servedDownstream(in *input) bool {
	caps := in.header("Feature-Caps")
	for more := caps != ""; more; {
		var param string
		param, caps, more, _ = cutUnquoted(caps, ';')
		name, _, _ := cut(param, '=')
		if strings.EqualFold(trimLWS(name), "+sip.pns") {
			return true
		}
	}
	return false
}

func readPN(params string) (pn pnParams, problem string) {
	var seen [4]bool
	for params != "" {
		var param string
		param, params, _ = cut(params, ';')
		if len(param) < 3 || !strings.EqualFold(param[:3], "pn-") {
			continue
		}
		name, value, _ := cut(param, '=')
		var known string
		var into *string
		var n int
		switch {
		case strings.EqualFold(name, "pn-provider"):
			known, into, n = "pn-provider", &pn.provider, 0
		case strings.EqualFold(name, "pn-param"):
			known, into, n = "pn-param", &pn.param, 1
		case strings.EqualFold(name, "pn-prid"):
			known, into, n = "pn-prid", &pn.prid, 2
		case strings.EqualFold(name, "pn-production"):
			known, into, n = "pn-production", &pn.production, 3
		default:
			continue
		}
		if seen[n] {
			return pn, known + " occurs twice"
		}
		seen[n] = true
		var ok bool
		if *into, ok = unescape(value); !ok {
			return pn, known + " has a bad percent escape"
		}
	}
	pn.hasProvider = seen[0]
	return pn, ""
}

// providerOf reads a pn-provider: the registered names, Linphone's apns.dev, and
// names that clients use by mistake. Any other one is returned as it is.
func providerOf(s string) (Provider, Environment) {
	switch strings.ToLower(s) {
	case "apns", "apple", "ios":
		return APNs, ""
	case "apns.dev":
		return APNs, Sandbox
	case "fcm", "firebase", "android", "google":
		return FCM, ""
	case "webpush":
		return WebPush, ""
	}
	return Provider(s), ""
}

// readApp fills in app, team and, unless the client unbinds, the tokens.
func (a *Address) readApp(pn pnParams, unbind bool) (problem string) {
	if problem := checkApp(pn.param); problem != "" {
		return "pn-param " + problem
	}
	var services string
	switch a.Provider {
	case APNs:
		a.Team, a.App, services = bundle(pn.param)
	case WebPush: // has no pn-param
	default:
		a.App = pn.param
	}
	if unbind {
		return ""
	}
	if a.App == "" && (a.Provider == APNs || a.Provider == FCM) {
		return "pn-param does not name the app"
	}
	if a.Provider == APNs {
		return a.readAPNsTokens(services, pn.prid)
	}
	if problem := checkToken(a.Provider, pn.prid); problem != "" {
		return "pn-prid " + problem
	}
	a.Tokens = []Token{{Value: secret.NewToken(pn.prid)}}
	return ""
}

// readAPNsTokens reads the tokens of prid, "TOKEN" or "TOKEN:voip&TOKEN:remote".
// They must be those of the services that pn-param names; if it names none, the
// service is the one behind the token, else remote.
func (a *Address) readAPNsTokens(services, prid string) (problem string) {
	const mismatch = "pn-prid does not have one token for each service of pn-param"
	if strings.IndexByte(a.App, '&') >= 0 || strings.Count(services, "&") != strings.Count(prid, "&") {
		return mismatch
	}
	several := services != "" && strings.IndexByte(services, '&') >= 0
	var voip, remote string
	for more := true; more; {
		var token string
		token, prid, more = cut(prid, '&')
		token, service, named := cut(token, ':')
		switch {
		case named && services != "" && !names(services, service), !named && several:
			return mismatch
		case !named && services != "":
			service = services
		case !named:
			service = string(Remote)
		}
		if problem := checkToken(APNs, token); problem != "" {
			return "pn-prid " + problem
		}
		into := &voip
		switch Service(service) {
		case VoIP:
		case Remote:
			into = &remote
		default:
			return "pn-prid names a service that is neither voip nor remote"
		}
		if *into != "" {
			return mismatch
		}
		*into = token
	}
	// Always in this order, so that Equal does not depend on the client's.
	a.Tokens = make([]Token, 0, 2)
	if voip != "" {
		a.Tokens = append(a.Tokens, Token{VoIP, secret.NewToken(voip)})
	}
	if remote != "" {
		a.Tokens = append(a.Tokens, Token{Remote, secret.NewToken(remote)})
	}
	return ""
}

// names tells whether the list, joined by "&", has the service.
func names(services, service string) bool {
	for more := true; more; {
		var s string
		s, services, more = cut(services, '&')
		if s == service {
			return true
		}
	}
	return false
}
