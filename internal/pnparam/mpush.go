package pnparam

import "strings"

const mpushHeader = "X-MPUSH"

// mpush reads Mizutech's header X-MPUSH: [s:|p:|d:]PROVIDER:PACKAGE:TOKEN, where
// the prefix is the environment (sandbox, production, default), or "null" to
// unbind. The token may contain colons. A browser's token is an FCM token, or the Web
// Push endpoint, alone or with the subscription's keys as ENDPOINT|P256DH|AUTH. An
// iPhone may send VOIP|REMOTE, as in X-Push, to get more than calls.
func mpush(in *input, p *Parsed) (bool, *Error) {
	value := in.headers.mpush
	if value == "" {
		return false, nil
	}
	if strings.EqualFold(value, "null") {
		p.Intent = Unbind
		return true, nil
	}
	a, problem := readMPUSH(value)
	if problem != "" {
		return false, &Error{mpushHeader, problem}
	}
	p.Intent, p.Address = Bind, a
	if len(a.Tokens) == 0 {
		p.Intent = Unbind
	}
	return true, nil
}

func readMPUSH(value string) (a Address, problem string) {
	switch {
	case hasLetter(value, 's'):
		a.Environment, value = Sandbox, value[2:]
	case hasLetter(value, 'p'):
		a.Environment, value = Production, value[2:]
	case hasLetter(value, 'd'):
		value = value[2:]
	}
	letter, value, _ := cut(value, ':')
	app, token, ok := cut(value, ':')
	if !ok {
		return a, "is not PROVIDER:PACKAGE:TOKEN"
	}
	if a.Provider = mizutechProvider(letter); a.Provider == "" {
		return a, "has a provider that is none of a, i, j and w"
	}
	return a, a.readMizutech("package", app, "token", token)
}

// mizutechProvider returns the provider of a letter; j is FCM on iOS.
func mizutechProvider(letter string) Provider {
	switch letter {
	case "a", "A", "j", "J":
		return FCM
	case "i", "I":
		return APNs
	case "w", "W":
		return WebPush
	}
	return ""
}

// readMizutech sets the app and, unless the client unbinds, the token. The problem
// includes the name of the field.
func (a *Address) readMizutech(appField, app, tokenField, token string) (problem string) {
	if a.Provider == APNs && isFCMToken(token) {
		a.Provider = FCM // some iOS apps that use FCM send i instead of j
	}
	if a.Provider == WebPush && !isNull(token) && !strings.Contains(token, "://") && !strings.Contains(token, "|") {
		a.Provider = FCM // browsers that use FCM's own token
	}
	bind := !isNull(token)
	if _, problem := a.readApp(app, bind); problem != "" {
		return appField + " " + problem
	}
	if !bind {
		return ""
	}
	var service Service
	switch a.Provider {
	case APNs:
		if voip, remote, pair := cutPair(token, "|"); pair {
			if problem := checkPair(voip, remote); problem != "" {
				return tokenField + " " + problem
			}
			a.setPair(voip, remote)
			return ""
		}
		service = VoIP
	case WebPush:
		endpoint, keys, ok := cut(token, '|')
		if ok {
			if a.Keys = readWebPushKeys(keys); a.Keys == nil {
				return tokenField + " has no valid P256DH|AUTH behind the URL"
			}
		}
		token = endpoint
	}
	if problem := a.setToken(service, token); problem != "" {
		return tokenField + " " + problem
	}
	return ""
}

// isFCMToken reports whether the token cannot be an APNs token: it has a colon, and the
// text before the colon is not hexadecimal.
func isFCMToken(token string) bool {
	id, _, ok := cut(token, ':')
	return ok && !isHex(id)
}

// hasLetter reports whether s begins with the letter and a colon.
func hasLetter(s string, letter byte) bool {
	return len(s) > 1 && s[0]|0x20 == letter && s[1] == ':'
}
