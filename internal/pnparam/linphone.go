package pnparam

import "strings"

// linphone reads the parameters that Linphone sent before RFC 8599, and that apps made
// with its library still send: app-id=ID;pn-type=TYPE;pn-tok=TOKEN. For APNs the app-id
// is the bundle ID, then ".voip" for a PushKit token, then ".dev" or ".prod" for the
// environment.
//
// Other parameters (pn-msg-str, pn-call-snd, pn-silent, pn-timeout and so on) say what
// the server should put into a push. They are ignored: templates define that.
func linphone(in *input, p *Parsed) (bool, *Error) {
	a, token, found, problem := readOld(in)
	if problem != "" {
		return false, &Error{"contact", problem}
	}
	if !found {
		return false, nil
	}
	app := a.cutEnvironment(in.contact.push.values[appID])
	service, problem := a.readApp(app, !isNull(token))
	if problem != "" {
		return false, &Error{"contact", "app-id " + problem}
	}
	if p.Address = a; isNull(token) {
		p.Intent = Unbind
		return true, nil
	}
	if a.Provider == APNs && service == "" {
		service = Remote
	}
	if problem := p.Address.setToken(service, token); problem != "" {
		return false, &Error{"contact", "pn-tok " + problem}
	}
	p.Intent = Bind
	return true, nil
}

// readOld reads pn-type and pn-tok, which Linphone and Sylk share. It keeps the name of
// an unknown provider (wp and wp10 of Windows phones), so that the refusal names it.
func readOld(in *input) (a Address, token string, found bool, problem string) {
	ps := &in.contact.push
	if !ps.has(pnTok) {
		return a, "", false, ""
	}
	if problem := ps.decode(pnType, appID); problem != "" {
		return a, "", false, problem
	}
	token = ps.values[pnTok]
	a.Provider, a.Environment = ProviderOf(ps.values[pnType])
	if a.Provider == "" && !isNull(token) {
		return a, "", false, "pn-type does not name the push service"
	}
	if problem := checkProvider(a.Provider); problem != "" {
		return a, "", false, "pn-type " + problem
	}
	return a, token, true, ""
}

// cutEnvironment removes the environment from the end of an APNs app-id.
func (a *Address) cutEnvironment(app string) string {
	if a.Provider != APNs {
		return app
	}
	if id, ok := strings.CutSuffix(app, ".dev"); ok {
		a.Environment = Sandbox
		return id
	}
	if id, ok := strings.CutSuffix(app, ".prod"); ok {
		a.Environment = Production
		return id
	}
	return app
}
