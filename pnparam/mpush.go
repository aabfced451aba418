package pnparam

import (
	"strings"

	"github.com/sipwake/sipwake/secret"
)

const mpushHeader = "X-MPUSH"

// mpush reads Mizutech's header X-MPUSH: [s:|p:|d:]PROVIDER:PACKAGE:TOKEN, where
// the prefix is the environment (sandbox, production, default), or "null" to
// unbind. The token may contain colons.
func mpush(in *input, p *Parsed) (bool, error) {
	value := in.header(mpushHeader)
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
	var service Service
	switch letter {
	case "a", "A", "j", "J":
		a.Provider = FCM
	case "i", "I":
		a.Provider, service = APNs, VoIP
	case "w", "W":
		a.Provider = WebPush
	default:
		return a, "has a provider that is none of a, i, j and w"
	}
	if problem := checkApp(app); problem != "" {
		return a, "package " + problem
	}
	switch a.Provider {
	case APNs:
		a.Team, a.App, _ = bundle(app)
	case FCM:
		a.App = app
	}
	if a.App == "" && a.Provider != WebPush {
		return a, "does not name the package"
	}
	if problem := checkToken(a.Provider, token); problem != "" {
		return a, "token " + problem
	}
	a.Tokens = []Token{{service, secret.NewToken(token)}}
	return a, ""
}

// hasLetter tells whether s begins with the letter and a colon.
func hasLetter(s string, letter byte) bool {
	return len(s) > 1 && s[0]|0x20 == letter && s[1] == ':'
}
