package pnparam

import (
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

// rfc8599 reads the pn- parameters of the Contact URI. It accepts the extensions of
// Linphone (several APNs tokens, apns.dev) and common mistakes of clients.
func rfc8599(in *input, p *Parsed) (bool, *Error) {
	pn := &in.contact.push
	if !pn.has(pnProvider) && !pn.has(pnPrid) {
		return false, nil
	}
	if problem := pn.decode(pnProvider, pnAuth); problem != "" {
		return false, &Error{"contact", problem}
	}
	provider, env := ProviderOf(pn.values[pnProvider])
	if problem := checkProvider(provider); problem != "" {
		return false, &Error{"contact", "pn-provider " + problem}
	}
	unbind := strings.EqualFold(pn.values[pnPrid], "null")
	if !unbind {
		switch {
		case !pn.has(pnProvider): // ordinary SIP (section 5.3.1)
			return false, nil
		case provider == "" || pn.values[pnPrid] == "":
			p.Intent, p.Asked = Query, provider
			if app := pn.values[pnParam]; provider == WebPush && checkApp(app) == "" {
				p.AskedApp = app
			}
			return true, nil
		}
	}
	switch {
	case strings.EqualFold(pn.values[pnProduction], "true"):
		env = Production
	case strings.EqualFold(pn.values[pnProduction], "false"):
		env = Sandbox
	}
	p.Address = Address{Provider: provider, Environment: env}
	if problem := p.Address.readPN(pn.values[pnParam], pn.values[pnPrid], unbind); problem != "" {
		return false, &Error{"contact", problem}
	}
	if provider == WebPush && !unbind && (pn.has(pnP256dh) || pn.has(pnAuth)) {
		p.Address.Keys = ParseWebPushKeys(pn.values[pnP256dh], pn.values[pnAuth])
		if p.Address.Keys == nil {
			return false, &Error{"contact", "pn-p256dh and pn-auth are not the keys of a push subscription"}
		}
	}
	p.Intent = Bind
	if unbind {
		p.Intent = Unbind
	}
	return true, nil
}

// ProviderOf parses a pn-provider: the registered names, Linphone's apns.dev, and names
// that clients use by mistake. It returns any other name unchanged.
func ProviderOf(s string) (Provider, Environment) {
	switch strings.ToLower(s) {
	case "apns", "apple", "ios":
		return APNs, ""
	case "apns.dev":
		return APNs, Sandbox
	case "fcm", "firebase", "android", "google":
		return FCM, ""
	case "webpush":
		return WebPush, ""
	case "hms", "huawei":
		return HMS, ""
	}
	return Provider(s), ""
}

// readPN sets app, team and, unless the client unbinds, the tokens.
func (a *Address) readPN(param, prid string, unbind bool) (problem string) {
	if problem := checkApp(param); problem != "" {
		return "pn-param " + problem
	}
	var services string
	switch a.Provider {
	case APNs:
		a.Team, a.App, services = bundle(param)
	default:
		a.App = param
	}
	if unbind {
		return ""
	}
	if a.App == "" && (a.Provider == APNs || a.Provider == FCM) {
		return "pn-param does not name the app"
	}
	if a.Provider == APNs {
		return a.readAPNsTokens(services, prid)
	}
	if problem := checkToken(a.Provider, prid); problem != "" {
		return "pn-prid " + problem
	}
	a.Tokens = []Token{{Value: secret.NewToken(prid)}}
	return ""
}

// readAPNsTokens parses the tokens of prid, "TOKEN" or "TOKEN:voip&TOKEN:remote". A
// token without a service gets the one service of pn-param that no other token has. If
// pn-param has no service, it gets remote, or the service that is left. Empty tokens
// are skipped, and so are tokens whose service remains unknown: an app that woke up for
// a call may not have all tokens yet.
func (a *Address) readAPNsTokens(services, prid string) (problem string) {
	if strings.IndexByte(a.App, '&') >= 0 {
		return "pn-param names a service that is neither voip nor remote"
	}
	var voip, remote, open string
	unnamed, foreign := 0, false
	for more := true; more; {
		var one string
		one, prid, more = cut(prid, '&')
		token, service, _ := cut(one, ':')
		service = strings.ToLower(service)
		into := &open
		switch {
		case isNull(token):
			continue
		case service == "":
			unnamed++
		case service == string(VoIP):
			into = &voip
		case service == string(Remote):
			into = &remote
		default:
			foreign = true
			continue
		}
		if into != &open && *into != "" && *into != token {
			return "pn-prid has two tokens for " + service
		}
		*into = token
	}
	if unnamed == 1 {
		needs := func(s Service, has string) bool { return has == "" && names(services, string(s)) }
		switch v, r := needs(VoIP, voip), needs(Remote, remote); {
		case v && !r:
			voip = open
		case r && !v, services == "" && remote == "":
			remote = open
		case services == "":
			voip = open
		}
	}
	for _, token := range [...]string{voip, remote} {
		if problem := checkToken(APNs, token); token != "" && problem != "" {
			return "pn-prid " + problem
		}
	}
	switch {
	case voip != "" || remote != "":
		a.setPair(voip, remote)
		return ""
	case unnamed > 0:
		return "pn-prid does not say which token is for which service of pn-param"
	case foreign:
		return "pn-prid names a service that is neither voip nor remote"
	}
	return "pn-prid has no token"
}

// setPair sets the APNs tokens, one of which may be empty. Their order is fixed, so that
// Equal does not depend on the client's order.
func (a *Address) setPair(voip, remote string) {
	a.Tokens = make([]Token, 0, 2)
	if voip != "" {
		a.Tokens = append(a.Tokens, Token{VoIP, secret.NewToken(voip)})
	}
	if remote != "" {
		a.Tokens = append(a.Tokens, Token{Remote, secret.NewToken(remote)})
	}
}

// names reports whether the list, separated by "&", contains the service.
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
