package acrobits

import (
	"errors"
	"net/url"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// Report is what an app reports: its account, and the tokens by which the mediator
// knows it, each with the name of its app. An iPhone has one token for calls and one
// for everything else. An Android phone may have just one.
type Report struct {
	CallApp, OtherApp     string
	CallToken, OtherToken secret.Token
	Selector              string
	// Device is the app's own name for its installation. It is empty if the app gave
	// none.
	Device string
}

// The keys for the parts of a token.
const (
	keyCallApp    = "ac"
	keyOtherApp   = "ao"
	keyCallToken  = "tc"
	keyOtherToken = "to"
	keySelector   = "s"
)

const (
	maxPart     = 1024
	maxSelector = 128
)

// Address returns the address for pushing to the app, or what is wrong with the
// report.
func (r *Report) Address() (pnparam.Address, error) {
	v := url.Values{}
	for key, text := range map[string]string{
		keyCallApp: r.CallApp, keyOtherApp: r.OtherApp, keyCallToken: r.CallToken.Reveal(), keyOtherToken: r.OtherToken.Reveal(), keySelector: r.Selector,
	} {
		if len(text) > maxPart || !push.Visible(text) {
			return pnparam.Address{}, errors.New("a value is too long, or has a character that is not printable")
		}
		if text != "" {
			v.Set(key, text)
		}
	}
	switch {
	case r.CallToken.Empty() && r.OtherToken.Empty():
		return pnparam.Address{}, errors.New("there is no token")
	case r.Selector == "" || len(r.Selector) > maxSelector:
		return pnparam.Address{}, errors.New("the selector is missing or too long")
	case !r.CallToken.Empty() && r.CallApp == "", !r.OtherToken.Empty() && r.OtherApp == "":
		return pnparam.Address{}, errors.New("a token has no application ID")
	}
	app := r.CallApp
	if app == "" {
		app = r.OtherApp
	}
	a := pnparam.Address{Provider: pnparam.Acrobits, App: app, Tokens: []pnparam.Token{{Value: secret.NewToken(v.Encode())}}}
	return a, a.Check()
}

// parse parses what Address has written.
func parse(token secret.Token) (Report, bool) {
	v, err := url.ParseQuery(token.Reveal())
	if err != nil || v.Get(keySelector) == "" {
		return Report{}, false
	}
	r := Report{CallApp: v.Get(keyCallApp), OtherApp: v.Get(keyOtherApp), Selector: v.Get(keySelector),
		CallToken: secret.NewToken(v.Get(keyCallToken)), OtherToken: secret.NewToken(v.Get(keyOtherToken))}
	return r, !r.CallToken.Empty() || !r.OtherToken.Empty()
}
