package pnparam

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Register holds the raw header values of one REGISTER.
type Register struct {
	// Contact is the body of the Contact header as it was sent: one contact,
	// several separated by commas, "*", or empty if there was none.
	Contact string
	// Headers are the other headers that may hold push data, by name. Names are
	// case-insensitive; an empty value counts as absent.
	Headers map[string]string
}

// Intent is what a REGISTER asks for, as regards push.
type Intent int

// The intents.
const (
	None   Intent = iota // ordinary SIP
	Bind                 // push to Address from now on
	Unbind               // push to the device no more
	Query                // which push services are supported here? RFC 8599 section 4.1.1
)

// Parsed is what Parse found. Its strings share memory with the Register.
type Parsed struct {
	Intent Intent
	// Contact is the Contact URI as it was sent, push parameters included, but
	// without <> and header parameters. It is empty for "*" or no Contact, and
	// never empty for Bind.
	Contact string
	// Device is the +sip.instance without quotes and <> if there is one, else
	// Sylk's pn-device. Else it is a hash of the push address, 20 hexadecimal
	// digits, or empty if no token was sent. Never empty for Bind.
	Device string
	// Hashed says that Device is made from the push address: a new token makes it
	// another device.
	Hashed bool
	// Expires is the expires parameter of the contact in seconds, -1 if absent.
	// A malformed one counts as 3600 (RFC 3261 section 20.10).
	Expires int
	// PNSReg says that the client cannot refresh its registration without a
	// push: the +sip.pnsreg of RFC 8599 section 4.1.4.
	PNSReg bool
	// Address is the push address: complete for Bind, as far as it was told for
	// Unbind. Its Provider may be one that sipwake does not know.
	Address Address
	// Asked is the provider a Query asks for; empty asks for all.
	Asked Provider
	// AskedApp is the app that a Query names; it may be empty.
	AskedApp string
	// Dialect names the syntax in which the push data came: mpush, portsip,
	// rfc8599, sylk, linphone (before RFC 8599) or push-token; "" for None.
	Dialect string
}

// Error says which header of a REGISTER could not be read and why. It never
// quotes the header: any part of it may be a push token.
type Error struct {
	Field   string // "contact" or the header's name
	Problem string
}

// Error returns the field and the problem.
func (e *Error) Error() string { return e.Field + ": " + e.Problem }

// maxContacts bounds the work for one REGISTER; real ones carry one or two.
const maxContacts = 16

// input is what a dialect reads.
type input struct {
	contact *contact
	headers *headers
}

const featureCapsHeader = "Feature-Caps"

// headers are the values of the headers that count, "" if absent.
type headers struct {
	mpush, featureCaps         string
	xPush, xPPush, portsipPush string
}

func readHeaders(all map[string]string) (h headers) {
	for name, value := range all {
		canonical, into := mpushHeader, &h.mpush
		switch len(name) {
		case len(mpushHeader):
		case len(xPushHeader):
			canonical, into = xPushHeader, &h.xPush
		case len(xPPushHeader):
			canonical, into = xPPushHeader, &h.xPPush
		case len(portsipPushHeader): // and that of Feature-Caps
			canonical, into = portsipPushHeader, &h.portsipPush
			if name[0]|0x20 == 'f' {
				canonical, into = featureCapsHeader, &h.featureCaps
			}
		}
		// Of names that differ in case only, any will do that is always the same.
		if strings.EqualFold(name, canonical) {
			*into = max(*into, trimLWS(value))
		}
	}
	return h
}

// servedDownstream reports whether a proxy nearer to the client already does the
// pushing (RFC 8599 section 5.3.1).
func (h *headers) servedDownstream() bool {
	caps := h.featureCaps
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

// read runs the dialects until one finds push data of its kind, which it puts
// into p: Intent, Address and Asked. The order is the rule for a REGISTER that
// has several of them: headers made for push win over parameters of the Contact,
// and the standard over what was there before it. (Direct calls, for through a
// table of functions p would escape to the heap.)
func read(in *input, p *Parsed) *Error {
	if found, err := mpush(in, p); found || err != nil {
		p.Dialect = "mpush"
		return err
	}
	if found, err := portsip(in, p); found || err != nil {
		p.Dialect = "portsip"
		return err
	}
	if in.contact.push.seen == 0 || in.headers.servedDownstream() {
		return nil
	}
	if found, err := rfc8599(in, p); found || err != nil {
		p.Dialect = "rfc8599"
		return err
	}
	if found, err := sylk(in, p); found || err != nil {
		p.Dialect = "sylk"
		return err
	}
	if found, err := linphone(in, p); found || err != nil {
		p.Dialect = "linphone"
		return err
	}
	if found, err := pushToken(in, p); found || err != nil {
		p.Dialect = "push-token"
		return err
	}
	return nil
}

// Parse reads the push data of a REGISTER. Of several contacts it takes the
// first one that is not being removed (expires=0), one with push data before
// one without.
//
// An error is always an *Error. The result then is that of a REGISTER without push
// data; its Contact is empty if the header cannot be told apart into contacts.
func Parse(r Register) (Parsed, error) {
	h := readHeaders(r.Headers)
	rest := trimLWS(r.Contact)
	if rest == "" || rest == "*" {
		best, err := parseContact(&contact{expires: -1}, &h)
		return best, result(err)
	}
	var (
		best    Parsed
		bestErr *Error
	)
	for n := 0; ; n++ {
		if n == maxContacts {
			return Parsed{Expires: -1}, &Error{"contact", "has too many contacts"}
		}
		var c contact
		tail, more, problem := c.read(rest)
		if problem != "" {
			return Parsed{Expires: -1}, &Error{"contact", problem}
		}
		p, err := parseContact(&c, &h)
		if n == 0 || p.rank(err) > best.rank(bestErr) {
			best, bestErr = p, err
		}
		if !more {
			return best, result(bestErr)
		}
		rest = tail
	}
}

// result makes an error of e: a nil *Error is none.
func result(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// parseContact returns what one contact asks for.
func parseContact(c *contact, h *headers) (Parsed, *Error) {
	plain := Parsed{Contact: c.uri, Device: c.instance, Expires: c.expires, PNSReg: c.pnsreg}
	if c.problem != "" {
		return plain, &Error{"contact", c.problem}
	}
	p, in := plain, input{c, h}
	if err := read(&in, &p); err != nil {
		return plain, err
	}
	if p.Intent == Bind && c.uri == "" {
		// Nothing is registered, so there is nothing that a push could bring back.
		return Parsed{Expires: p.Expires}, nil
	}
	if p.Device == "" && len(p.Address.Tokens) > 0 {
		p.Device, p.Hashed = DeviceID(p.Address), true
	}
	if p.Intent != Bind {
		p.Address.Tokens = nil // there to find the device, not to be pushed
	}
	return p, nil
}

// rank orders the contacts of one REGISTER.
func (p *Parsed) rank(err *Error) int {
	rank := 0
	if p.Expires != 0 {
		rank += 3
	}
	switch {
	case p.Intent != None:
		rank += 2
	case err != nil:
		rank++
	}
	return rank
}

// maxInstallationID is the length of a Firebase installation ID; older ones have 11
// characters.
const maxInstallationID = 22

// InstallationID returns the Firebase installation ID of an FCM token: a registration
// token begins with it, before a colon. A token without one is returned as it is.
func InstallationID(token string) string {
	id, _, _ := strings.Cut(token, ":")
	if len(id) < maxInstallationID/2 || len(id) > maxInstallationID {
		return token
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return token
		}
	}
	return id
}

// DeviceID makes a device id for a client that sends no +sip.instance: the same
// for the same push address, and for a new token of the same installation of an app
// with Firebase. So a phone whose app goes from registration tokens to installation
// IDs is one device.
func DeviceID(a Address) string {
	buf := make([]byte, 0, 512)
	buf = append(buf, a.Provider...)
	buf = append(buf, 0)
	buf = append(buf, a.App...)
	for _, t := range a.Tokens {
		buf = append(buf, 0)
		value := t.Value.Reveal()
		if a.Provider == FCM {
			value = InstallationID(value)
		}
		buf = append(buf, value...)
	}
	sum := sha256.Sum256(buf)
	return hex.EncodeToString(sum[:10])
}
