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
	// Device is the +sip.instance without quotes and <> if there is one. Else
	// it is a hash of the push address, 20 hexadecimal digits, or empty if the
	// address has no token. Never empty for Bind.
	Device string
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
	// Dialect names the syntax in which the push data came, "" for None.
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
	contact contact
	headers map[string]string
}

// header returns the value of the header, or "".
func (in *input) header(name string) string {
	if v, ok := in.headers[name]; ok {
		return trimLWS(v)
	}
	for k, v := range in.headers {
		if strings.EqualFold(k, name) {
			return trimLWS(v)
		}
	}
	return ""
}

// read runs the dialects until one finds push data of its kind, which it puts
// into p: Intent, Address and Asked. The order matters: headers made for push
// win over parameters of the Contact. (Direct calls, for through a table of
// functions p would escape to the heap.)
func read(in *input, p *Parsed) error {
	if found, err := mpush(in, p); found || err != nil {
		p.Dialect = "mpush"
		return err
	}
	if found, err := rfc8599(in, p); found || err != nil {
		p.Dialect = "rfc8599"
		return err
	}
	return nil
}

// Parse reads the push data of a REGISTER. Of several contacts it takes the
// first one that is not being removed (expires=0), one with push data before
// one without. An error is always an *Error, and the result is then empty.
func Parse(r Register) (Parsed, error) {
	best := Parsed{Expires: -1}
	rest := trimLWS(r.Contact)
	if rest == "" || rest == "*" {
		if err := parseContact(contact{expires: -1}, r.Headers, &best); err != nil {
			return Parsed{}, err
		}
		return best, nil
	}
	for n := 0; ; n++ {
		if n == maxContacts {
			return Parsed{}, &Error{"contact", "has too many contacts"}
		}
		c, tail, more, problem := cutContact(rest)
		if problem != "" {
			return Parsed{}, &Error{"contact", problem}
		}
		var p Parsed
		if err := parseContact(c, r.Headers, &p); err != nil {
			return Parsed{}, err
		}
		if n == 0 || p.rank() > best.rank() {
			best = p
		}
		if !more {
			return best, nil
		}
		rest = tail
	}
}

// parseContact fills p with what one contact asks for.
func parseContact(c contact, headers map[string]string, p *Parsed) error {
	p.Contact, p.Device, p.Expires, p.PNSReg = c.uri, c.instance, c.expires, c.pnsreg
	in := input{c, headers}
	if err := read(&in, p); err != nil {
		return err
	}
	if p.Intent == Bind && c.uri == "" {
		// Nothing is registered, so there is nothing that a push could bring back.
		*p = Parsed{Expires: p.Expires}
	}
	if p.Device == "" && len(p.Address.Tokens) > 0 {
		p.Device = deviceID(p.Address)
	}
	return nil
}

// rank orders the contacts of one REGISTER.
func (p *Parsed) rank() int {
	rank := 0
	if p.Expires != 0 {
		rank += 2
	}
	if p.Intent != None {
		rank++
	}
	return rank
}

// deviceID makes a device id for a client that sends no +sip.instance.
func deviceID(a Address) string {
	buf := make([]byte, 0, 512)
	buf = append(buf, a.Provider...)
	buf = append(buf, 0)
	buf = append(buf, a.App...)
	for _, t := range a.Tokens {
		buf = append(buf, 0)
		buf = append(buf, t.Value.Reveal()...)
	}
	sum := sha256.Sum256(buf)
	return hex.EncodeToString(sum[:10])
}
