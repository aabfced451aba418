package pnparam

// pushToken reads the Contact parameters that Mizutech's clients sent before
// X-MPUSH: push-token-type, push-token-app and push-token-id. The type is a letter as in
// X-MPUSH, or the name of the service or the operating system.
func pushToken(in *input, p *Parsed) (bool, *Error) {
	ps := &in.contact.push
	if !ps.has(tokenID) {
		return false, nil
	}
	problem := ps.decode(tokenType, tokenID)
	if problem == "" {
		problem = p.readPushToken(ps)
	}
	if problem != "" {
		return false, &Error{"contact", problem}
	}
	return true, nil
}

func (p *Parsed) readPushToken(ps *params) (problem string) {
	var a Address
	if a.Provider = mizutechProvider(ps.values[tokenType]); a.Provider == "" {
		a.Provider, a.Environment = ProviderOf(ps.values[tokenType])
	}
	p.Intent = Bind
	if isNull(ps.values[tokenID]) {
		p.Intent = Unbind
	} else if a.Provider == "" {
		return tokenType.name() + " does not name the push service"
	}
	if problem := checkProvider(a.Provider); problem != "" {
		return tokenType.name() + " " + problem
	}
	problem = a.readMizutech(tokenApp.name(), ps.values[tokenApp], tokenID.name(), ps.values[tokenID])
	p.Address = a
	return problem
}
