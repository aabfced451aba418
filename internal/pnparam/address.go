// Package pnparam parses the push data of a SIP REGISTER: raw header values in, a push
// address out. It has no I/O, no state and no clock. Each dialect has one file
// (rfc8599.go, mpush.go, ...); contact.go is the SIP part that they share.
//
// It also defines the types of a push address. Of the project it imports only secret.
package pnparam

import "github.com/sipwake/sipwake/internal/secret"

// Provider is a push notification service by its registered name (pn-provider, RFC 8599
// section 14.1).
type Provider string

// The providers that sipwake supports.
const (
	APNs    Provider = "apns"    // Apple Push Notification service
	FCM     Provider = "fcm"     // Firebase Cloud Messaging, for Android, iOS and web
	WebPush Provider = "webpush" // Generic Event Delivery Using HTTP Push, RFC 8030
	HMS     Provider = "hms"     // Huawei's Push Kit, for phones with HMS Core; no registered name

	// Acrobits is the mediator of apps made with Acrobits' SDK, which report their
	// tokens by HTTP.
	Acrobits Provider = "acrobits"
)

// Environment is the APNs environment that issued a token. Tokens of one
// environment fail in the other.
type Environment string

// The environments. The empty one stands for the default of the app's configuration.
const (
	Production Environment = "production"
	Sandbox    Environment = "sandbox"
)

// Service says what an APNs token is for. Other providers have one token for
// everything, and the empty Service.
type Service string

// The services of APNs.
const (
	VoIP   Service = "voip"   // PushKit: pushed only for calls
	Remote Service = "remote" // alert and background notifications
)

// Token is one push token and what it is for.
type Token struct {
	Service Service
	Value   secret.Token
}

// Address is the push address of one device.
type Address struct {
	Provider Provider
	// App is the package name: for APNs the bundle ID without a service suffix, for
	// FCM the project ID or package name, for WebPush the name that the client uses,
	// which may be empty.
	App string
	// Team is the Apple Team ID if the client sent one.
	Team        string
	Environment Environment
	// Tokens has at most one token for each Service. In the address of a binding it is
	// never empty.
	Tokens []Token
	// Denied are the pushes that the client does not want.
	Denied Denied
	// Keys encrypt the payload of Web Push. Without them a push has no payload.
	Keys *WebPushKeys
}

// Denied has the kinds of push that the user of a device has turned off. The zero value
// denies none.
type Denied struct {
	Calls    bool
	Messages bool // pushes that are not about a call: chat, custom
}

// WebPushKeys are the keys of a browser's push subscription (RFC 8291 section 2). Both
// are valid, and in base64url without padding.
type WebPushKeys struct {
	P256dh secret.Token // a point of P-256, uncompressed: 65 bytes
	Auth   secret.Token // the authentication secret: 16 bytes
}

// Token returns the token for the service, or the empty token.
func (a Address) Token(s Service) secret.Token {
	for _, t := range a.Tokens {
		if t.Service == s {
			return t.Value
		}
	}
	return secret.Token{}
}

// Equal reports whether the two addresses are the same in every field.
func (a Address) Equal(b Address) bool {
	if a.Provider != b.Provider || a.App != b.App || a.Team != b.Team ||
		a.Environment != b.Environment || a.Denied != b.Denied || len(a.Tokens) != len(b.Tokens) ||
		(a.Keys == nil) != (b.Keys == nil) || a.Keys != nil && *a.Keys != *b.Keys {
		return false
	}
	for i := range a.Tokens {
		if a.Tokens[i] != b.Tokens[i] {
			return false
		}
	}
	return true
}

// Check validates an address that did not come from a REGISTER, with the same limits. An
// error is an *Error whose Field is provider, app or tokens.
func (a Address) Check() error {
	if a.Provider == "" {
		return &Error{"provider", "is missing"}
	}
	if problem := checkProvider(a.Provider); problem != "" {
		return &Error{"provider", problem}
	}
	if problem := checkApp(a.App); problem != "" {
		return &Error{"app", problem}
	}
	if len(a.Tokens) == 0 {
		return &Error{"tokens", "is missing"}
	}
	for _, t := range a.Tokens {
		if problem := checkToken(a.Provider, t.Value.Reveal()); problem != "" {
			return &Error{"tokens", problem}
		}
	}
	return nil
}
