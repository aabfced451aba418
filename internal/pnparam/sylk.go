package pnparam

// sylk reads the parameters of Sylk and Blink: pn-type, pn-app or app-id, pn-tok,
// pn-device and pn-silent. On iOS pn-tok is PUSHKIT-APNS, two tokens in one. It differs
// from an old Linphone by pn-app, pn-device or such a pair.
func sylk(in *input, p *Parsed) (bool, *Error) {
	a, token, found, problem := readOld(in)
	if problem != "" {
		return false, &Error{"contact", problem}
	}
	voip, remote, pair := cutPair(token, "-_:") // some clients use _ or :
	pair = pair && a.Provider == APNs && checkPair(voip, remote) == ""
	ps := &in.contact.push
	if !found || !ps.has(pnApp) && !ps.has(pnDevice) && !pair {
		return false, nil
	}
	if problem := p.readDevice(ps.values[pnDevice]); problem != "" {
		return false, &Error{"contact", "pn-device " + problem}
	}
	field, app := appID, ps.values[appID]
	if app == "" {
		field, app = pnApp, ps.values[pnApp]
	}
	bind := !isNull(token) && (!pair || voip != "" || remote != "")
	service, problem := a.readApp(a.cutEnvironment(app), bind)
	if problem != "" {
		return false, &Error{"contact", field.name() + " " + problem}
	}
	p.Address = a
	switch {
	case !bind:
		p.Intent = Unbind
		return true, nil
	case pair:
		p.Address.setPair(voip, remote)
	default:
		if a.Provider == APNs && service == "" {
			service = VoIP // a single token is the one for calls
		}
		if problem := p.Address.setToken(service, token); problem != "" {
			return false, &Error{"contact", "pn-tok " + problem}
		}
	}
	p.Intent = Bind
	return true, nil
}

// readDevice sets the device ID of a client that sends no +sip.instance.
func (p *Parsed) readDevice(id string) (problem string) {
	id = parseInstance(id)
	if len(id) > maxInstance {
		return tooLong(maxInstance)
	}
	if !printable(id) {
		return "has a character that is not printable"
	}
	if p.Device == "" {
		p.Device = id
	}
	return ""
}
