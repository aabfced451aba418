package pnparam

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Register holds the raw header values of one REGISTER.
type Register struct {
	// Contact is the body of the Contact header, as sent: one contact, several
	// separated by commas, "*", or empty if there was none.
	Contact string
	// Headers are the other headers that may contain push data, by name. Names are
	// case-insensitive. An empty value counts as absent.
	Headers map[string]string
}

// Intent is what a REGISTER requests with regard to push.
type Intent int

// The intents.
const (
	None   Intent = iota // ordinary SIP
	Bind                 // push to Address from now on
	Unbind               // no more pushes to the device
	Query                // which push services are supported here? RFC 8599 section 4.1.1
)

// Parsed is the result of Parse. Its strings share memory with the Register.
type Parsed struct {
	Intent Intent
	// Contact is the Contact URI as sent, including push parameters, but without <>
	// and header parameters. It is empty for "*" or no Contact, and never empty for
	// Bind.
	Contact string
	// Device is the +sip.instance without quotes and <>; without one, Sylk's
	// pn-device; without that, a hash of the push address, 20 hexadecimal digits.
	// It is empty if no token was sent either, and never empty for Bind.
	Device string
	// Hashed says that Device is the hash: a new token makes another device.
	Hashed bool
	// Expires is the expires parameter of the contact in seconds, -1 if absent.
	// A malformed one counts as 3600 (RFC 3261 section 20.10).
	Expires int
	// PNSReg says that the client cannot refresh its registration without a push:
	// +sip.pnsreg, RFC 8599 section 4.1.4.
	PNSReg bool
	// Address is the push address: complete for Bind, as far as it was sent for Unbind.
	// sipwake may not support its Provider.
	Address Address
	// Asked is the provider a Query asks for; empty asks for all.
	Asked Provider
	// AskedApp is the app that a Query names; it may be empty.
	AskedApp string
	// Dialect names the syntax in which the push data came: mpush, portsip,
	// rfc8599, sylk, linphone (before RFC 8599) or push-token; "" for None.
	Dialect string
}

// Error says which header of a REGISTER is invalid and why. It never quotes the header,
// because any part of it may be a push token.
type Error struct {
	Field   string // "contact" or the header's name
	Problem string
}

// Error returns the field and the problem.
func (e *Error) Error() string { return e.Field + ": " + e.Problem }

// maxContacts bounds the work for one REGISTER; real ones have one or two.
const maxContacts = 16

// input is what a dialect reads.
type input struct {
	contact *contact
	headers *headers
}

const featureCapsHeader = "Feature-Caps"

// headers are the values of the relevant headers, "" if absent.
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
		// Of names that differ only in case, always choose the same one.
		if strings.EqualFold(name, canonical) {
			*into = max(*into, trimLWS(value))
		}
	}
	return h
}

// servedDownstream reports whether a proxy nearer to the client already pushes it (RFC
// 8599 section 5.3.1).
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

// read runs the dialects until one finds its push data and sets Intent, Address and
// Asked of p. For a REGISTER with several dialects, the order decides: push headers
// come before Contact parameters, and the standard before older dialects. (With a table
// of functions instead of direct calls, p would escape to the heap.)
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

// Parse parses the push data of a REGISTER. Of several contacts it uses the first that
// is not being removed (expires=0), and prefers one with push data.
//
// An error is always an *Error. With an error, the result is that of a REGISTER without
// push data; its Contact is empty if the header cannot be split into contacts.
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

// result returns e as an error, nil if e is nil.
func result(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// parseContact returns what one contact requests.
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
		// Nothing is registered, so a push has nothing to wake.
		return Parsed{Expires: p.Expires}, nil
	}
	if p.Device == "" && len(p.Address.Tokens) > 0 {
		p.Device, p.Hashed = DeviceID(p.Address), true
	}
	if p.Intent != Bind {
		p.Address.Tokens = nil // they identify the device, but are not pushed
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

// InstallationID returns the Firebase installation ID of an FCM token: the part before
// the colon of a registration token. It returns a token without one unchanged.
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

// DeviceID returns a device ID for a client that sends no +sip.instance. It is the same
// for the same push address, and for a new token of the same Firebase installation. So a
// phone stays the same device when its app changes from registration tokens to
// installation IDs.
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
