package phone

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The transports. Over WS and WSS a phone is a browser: it has no address of its own
// (RFC 7118 section 5).
const (
	UDP = "udp"
	TCP = "tcp"
	TLS = "tls"
	WS  = "ws"
	WSS = "wss"
)

// Config describes a phone. User, Domain and Proxy are required.
type Config struct {
	User   string
	Domain string
	// Proxy is the host:port of the SIP proxy. Every request goes there, except those
	// inside a dialog over UDP, which follow their route.
	Proxy     string
	Transport string // default UDP
	// RootCAs are the CAs to trust for TLS and WSS. The proxy's certificate must be for
	// the host of Proxy.
	RootCAs *x509.CertPool
	Host    string // local IP address; default: the one that leads to Proxy
	// Port is the local UDP port; default one that no other phone of this process had
	// lately.
	Port uint16

	// Password answers challenges (401, 407), as User. If it is empty, challenges are
	// responses like any other.
	Password string

	// ContactParams are added to the URI of every Contact, for example
	// ";pn-provider=apns;pn-param=TEAM.app;pn-prid=token".
	ContactParams string
	// Instance is the +sip.instance of REGISTERs, "urn:uuid:..."; may be empty.
	Instance string
	// Contact replaces the whole Contact value of REGISTERs; also "*".
	Contact string
	// CallContact replaces the whole Contact value of INVITEs and of answers to them, with
	// {address} for the phone's own.
	// CallHeaders are added to its INVITEs and answers as they are.
	CallContact string
	CallHeaders map[string]string
	// PURR has the phone put the PURR that it was told last into those Contacts (RFC 8599
	// section 6.1).
	PURR bool
	// Headers are added to REGISTERs unchanged.
	Headers map[string]string
	// Expires is the expiry of Wake's registration; default 600 s, at least a second.
	Expires time.Duration

	Behaviour Behaviour
	// WakeOn reports whether a push wakes the phone; nil: every push does.
	WakeOn func(payload []byte) bool
	// WakeDelay is how long the phone takes from a push until its REGISTER.
	WakeDelay time.Duration

	// T1 is the first retransmission interval (RFC 3261 section 17.1.1.1);
	// default 500 ms. A request is given up after 64 T1.
	T1 time.Duration
	// Keep is the least number of events that are kept; default 1024.
	Keep int
	// OnEvent is called with every event, one at a time. It must not block
	// and must not call the phone.
	OnEvent   func(Event)
	UserAgent string // default "sipwake-lab"
}

// Behaviour is how a phone reacts to requests. The zero Behaviour rings for ever.
type Behaviour struct {
	// Code answers an INVITE, after 180 and Ring; 0 never does.
	Code int
	Ring time.Duration
	// SDP is the body of a 2xx to an INVITE; nil: one without media if the INVITE had
	// a body.
	SDP []byte
	// MessageCode answers a MESSAGE; 0 means 200.
	MessageCode int
}

// Answer returns the Behaviour of a user who answers every call after this ringing time.
func Answer(ring time.Duration) Behaviour { return Behaviour{Code: 200, Ring: ring} }

// Reject returns the Behaviour that rejects every call with the code after this ringing
// time.
func Reject(code int, ring time.Duration) Behaviour { return Behaviour{Code: code, Ring: ring} }

// RingOnly returns the Behaviour of a user who does not hear the phone.
func RingOnly() Behaviour { return Behaviour{} }

// complete checks the configuration and fills in the defaults.
func (c *Config) complete() error {
	if c.User == "" || c.Domain == "" || c.Proxy == "" {
		return errors.New("cannot make phone: user, domain and proxy are required")
	}
	if c.Transport == "" {
		c.Transport = UDP
	}
	if !slices.Contains([]string{UDP, TCP, TLS, WS, WSS}, c.Transport) {
		return fmt.Errorf("cannot make phone: transport %q is none", c.Transport)
	}
	if c.Expires == 0 {
		c.Expires = 600 * time.Second
	}
	if c.T1 == 0 {
		c.T1 = 500 * time.Millisecond
	}
	if c.Keep == 0 {
		c.Keep = 1024
	}
	if c.UserAgent == "" {
		c.UserAgent = "sipwake-lab"
	}
	return nil
}
