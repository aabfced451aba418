// Package push sends push notifications: the contract that a provider fulfils,
// the dispatcher with its bounded queues, the one retry loop, payload templates
// and the closed set of reasons why a push ended as it did. Each provider is a
// folder below and only translates between this contract and its service.
package push

import (
	"context"
	"strconv"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

// Kind is what a push is about.
type Kind string

// The kinds.
const (
	Call    Kind = "call"    // an INVITE is held for the device
	Chat    Kind = "chat"    // a MESSAGE is held for the device
	Cancel  Kind = "cancel"  // the call is over
	Custom  Kind = "custom"  // an application's own push
	Refresh Kind = "refresh" // the registration is about to expire, or a request within a dialog is held: the device is to register, and to show nothing
)

// Kinds lists every Kind, in the order of the constants.
func Kinds() []Kind { return []Kind{Call, Chat, Cancel, Custom, Refresh} }

// ParseKind reads a Kind as a word or as its number, 0 to 4 in the order of Kinds.
func ParseKind(s string) (Kind, bool) {
	for i, k := range Kinds() {
		if s == string(k) || s == strconv.Itoa(i) {
			return k, true
		}
	}
	return "", false
}

// Request asks for one push to one token.
type Request struct {
	Kind        Kind
	Provider    pnparam.Provider
	App         string // as in pnparam.Address
	Environment pnparam.Environment
	Service     pnparam.Service
	Token       secret.Token
	Keys        *pnparam.WebPushKeys // as in pnparam.Address
	Values      Values
	// Deadline is when the push has lost its purpose: no try starts after it, and
	// the service is told not to deliver it later.
	Deadline time.Time
	// Urgent goes before what waits, and finds room in a queue that is full for others.
	Urgent bool
	// TryUntil is when to stop trying although the Deadline has not come, for
	// those who will try again themselves; zero means Deadline.
	TryUntil time.Time
}

// lastTry is when the last try may start.
func (r *Request) lastTry() time.Time {
	if !r.TryUntil.IsZero() && r.TryUntil.Before(r.Deadline) {
		return r.TryUntil
	}
	return r.Deadline
}

// Values fill a payload template. They come from strangers (a caller's display
// name) and are never trusted to be valid in any way.
type Values struct {
	AOR     string // the user who is woken
	From    string // caller's URI
	User    string // what to dial to call the caller back: the user of From, readable
	Display string // caller's display name, may be empty
	CallID  string // Call-ID of the held request
	UUID    string // the wake's RFC 9562 UUID, for CallKit
	Media   string // "audio", "video" or empty
	Title   string // push.send only
	Body    string // text of a MESSAGE or of push.send
	Data    map[string]string

	Called    string // what was dialled: the user of CalledURI, readable
	CalledURI string
	// Headers are those of the held request that the administrator has chosen, by their
	// names in small letters.
	Headers map[string]string
	Verstat string // what the network has said of the caller's number
	Reason  string // of a cancel: why the call ended, as wake.end has it
}

// Outcome is how a push ended, after all tries: the answer to the last one, or why
// there was none.
type Outcome struct {
	Reply
	// Tries counts the requests made to the provider.
	Tries int
	// SentAt is when the last try began; zero if there was none.
	SentAt time.Time
}

// Provider sends single pushes for one credential in one environment.
// It never retries and never sleeps. Safe for concurrent use.
type Provider interface {
	// Push sends n once and returns the service's answer. It returns by the
	// time ctx ends.
	Push(ctx context.Context, n *Notification) Reply
	// Close drops idle connections. Pushes under way end normally.
	Close()
}

// Prober is a Provider that can be tried without pushing anybody.
type Prober interface {
	// Probe connects to the service and, where that can be seen without a push,
	// has the service look at the credential. It returns by the time ctx ends. The
	// error has no secret.
	Probe(ctx context.Context) error
}

// Notification is one push as a Provider gets it.
type Notification struct {
	Kind    Kind
	Service pnparam.Service
	// App and Environment are those of the address.
	App         string
	Environment pnparam.Environment
	Token       secret.Token
	// Keys encrypt the payload of Web Push; nil means that there is none.
	Keys *pnparam.WebPushKeys
	// Payload is the filled-in template: for APNs the request's body, for FCM
	// a Message object of the v1 API without its target, for a webhook the body.
	Payload []byte
	// Deadline is that of the Request.
	Deadline time.Time
	// Delivery is how to send it, and until when the service may store it.
	Delivery
	// CollapseID groups pushes that replace each other; may be empty.
	CollapseID string
}

// Reply is a service's answer to one try.
type Reply struct {
	Reason Reason
	// About is whom it concerns beside this push; empty if the service did not
	// answer, or was not asked.
	About About
	// Detail is the service's own word for it, such as "BadDeviceToken"; never
	// a token, at most 200 bytes.
	Detail string
	ID     string // identifier of the accepted push
	// RetryAfter is the least time to wait before another try; zero if the
	// service did not say.
	RetryAfter time.Duration
	// Starved: the request was not sent, for want of something here; see Starved. It
	// counts as no try, and says nothing of the service and the token.
	Starved bool
	// DeadSince is when the service knew the token to be dead; zero if it did not
	// say.
	DeadSince time.Time
}

// Reason is why a push ended as it did. The set is closed: it is a metric label.
type Reason string

// The reasons. Retryable and Dead say what follows from each.
const (
	Accepted    Reason = "accepted"     // the service took it
	TokenDead   Reason = "token_dead"   // the service knows that the token is gone for good
	TokenBad    Reason = "token_bad"    // refused token; may be the wrong environment, topic or project
	Credential  Reason = "credential"   // our key or certificate was rejected
	BadRequest  Reason = "bad_request"  // our payload or headers were rejected
	Throttled   Reason = "throttled"    // too many pushes
	Unavailable Reason = "unavailable"  // 5xx, connection lost, GOAWAY
	Timeout     Reason = "timeout"      // no answer inside the deadline
	Expired     Reason = "expired"      // its deadline passed before a try
	Dropped     Reason = "dropped"      // no longer wanted (call ended) before a try
	QueueFull   Reason = "queue_full"   // the app's queue is full
	BreakerOpen Reason = "breaker_open" // the app's breaker is open
	NoApp       Reason = "no_app"       // no app is configured for this address
	NoToken     Reason = "no_token"     // the device has no token that may be used for this kind
	ShutDown    Reason = "shut_down"    // sipwake is stopping
	ByPolicy    Reason = "policy"       // the app's policy does not want this kind at this load, or the device's system not so many
	Denied      Reason = "denied"       // the user or the app's policy never wants this kind on this device
)

// Reasons lists every Reason, in the order of the constants.
func Reasons() []Reason {
	return []Reason{Accepted, TokenDead, TokenBad, Credential, BadRequest, Throttled, Unavailable,
		Timeout, Expired, Dropped, QueueFull, BreakerOpen, NoApp, NoToken, ShutDown, ByPolicy, Denied}
}

// Retryable reports whether another try can end better.
func (r Reason) Retryable() bool {
	return r == Throttled || r == Unavailable || r == Timeout
}
