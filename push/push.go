// Package push sends push notifications. It holds the Provider contract, the
// dispatcher with its bounded queues, the only retry loop, the payload templates, and
// the closed set of reasons for how a push ended. Each provider lives in a folder
// below and only translates between this contract and its service.
package push

import (
	"context"
	"strconv"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

// Kind is the purpose of a push.
type Kind string

// The kinds.
const (
	Call    Kind = "call"    // an INVITE is held for the device
	Chat    Kind = "chat"    // a MESSAGE is held for the device
	Cancel  Kind = "cancel"  // the call is over
	Custom  Kind = "custom"  // an application's own push
	Refresh Kind = "refresh" // register silently: the registration expires soon, or an in-dialog request is held
)

// Kinds lists every Kind, in the order of the constants.
func Kinds() []Kind { return []Kind{Call, Chat, Cancel, Custom, Refresh} }

// ParseKind parses a Kind from its name or its number: 0 to 4, in the order of Kinds.
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
	// Deadline is when the push becomes useless. No try starts after it, and the
	// service is told not to deliver later.
	Deadline time.Time
	// Urgent puts the push ahead of others in the queue, and lets it use room that
	// is closed to them.
	Urgent bool
	// TryUntil stops the tries before Deadline, for callers that retry themselves.
	// Zero means Deadline.
	TryUntil time.Time
}

// lastTry returns the latest time at which a try may start.
func (r *Request) lastTry() time.Time {
	if !r.TryUntil.IsZero() && r.TryUntil.Before(r.Deadline) {
		return r.TryUntil
	}
	return r.Deadline
}

// Values fill a payload template. They come from untrusted parties (such as a
// caller's display name) and may be malformed in any way.
type Values struct {
	AOR     string // the user to wake
	From    string // caller's URI
	User    string // what to dial to call back: the user part of From, in readable form
	Display string // caller's display name, may be empty
	CallID  string // Call-ID of the held request
	UUID    string // the wake's RFC 9562 UUID, for CallKit
	Media   string // "audio", "video" or empty
	Title   string // push.send only
	Body    string // text of a MESSAGE or of push.send
	Data    map[string]string

	Called    string // what was dialled: the user part of CalledURI, in readable form
	CalledURI string
	// Headers are the headers of the held request that the administrator selected,
	// keyed by lower-case name.
	Headers map[string]string
	Verstat string // what the network says about the caller's number
	Reason  string // for a cancel: why the call ended, as in wake.end
}

// Outcome is how a push ended after all tries: the reply to the last try, or the
// reason why there was none.
type Outcome struct {
	Reply
	// Tries counts the requests made to the provider.
	Tries int
	// SentAt is when the last try began; zero if there was none.
	SentAt time.Time
}

// Provider sends single pushes with one credential in one environment. It never
// retries and never sleeps. It is safe for concurrent use.
type Provider interface {
	// Push sends n once and returns the service's answer. It returns no later than
	// ctx ends.
	Push(ctx context.Context, n *Notification) Reply
	// Close drops idle connections. Pushes in flight end normally.
	Close()
}

// Prober is a Provider that can be tested without sending a push.
type Prober interface {
	// Probe connects to the service. Where possible without a push, it also has the
	// service check the credential. It returns no later than ctx ends. The error
	// contains no secret.
	Probe(ctx context.Context) error
}

// Notification is one push as passed to a Provider.
type Notification struct {
	Kind    Kind
	Service pnparam.Service
	// App and Environment come from the address.
	App         string
	Environment pnparam.Environment
	Token       secret.Token
	// Keys encrypt a Web Push payload. Nil means that there is no payload.
	Keys *pnparam.WebPushKeys
	// Payload is the filled-in template: the request body for APNs and webhooks, and
	// for FCM a v1 Message object without its target.
	Payload []byte
	// Deadline is the Deadline of the Request.
	Deadline time.Time
	// Delivery says how to send the push, and how long the service may store it.
	Delivery
	// CollapseID groups pushes that replace each other. It may be empty.
	CollapseID string
}

// Reply is a service's answer to one try.
type Reply struct {
	Reason Reason
	// About says who else is affected beside this push. It is empty if the service
	// did not answer or was not asked.
	About About
	// Detail is the service's own error code, such as "BadDeviceToken". It never
	// contains a token and is at most 200 bytes.
	Detail string
	ID     string // identifier of the accepted push
	// RetryAfter is the minimum wait before another try. It is zero if the service
	// did not say.
	RetryAfter time.Duration
	// Starved means that the request was not sent because a local resource was
	// lacking; see Starved. It does not count as a try, and says nothing about the
	// service or the token.
	Starved bool
	// DeadSince is since when the service has known that the token is dead. It is
	// zero if the service did not say.
	DeadSince time.Time
}

// Reason is why a push ended as it did. The set is closed because it is a metric
// label.
type Reason string

// The reasons. Retryable and Dead tell what each one implies.
const (
	Accepted    Reason = "accepted"     // the service took it
	TokenDead   Reason = "token_dead"   // the service says that the token is gone for good
	TokenBad    Reason = "token_bad"    // token refused; perhaps wrong environment, topic or project
	Credential  Reason = "credential"   // our key or certificate was rejected
	BadRequest  Reason = "bad_request"  // our payload or headers were rejected
	Throttled   Reason = "throttled"    // too many pushes
	Unavailable Reason = "unavailable"  // 5xx, connection lost, GOAWAY
	Timeout     Reason = "timeout"      // no answer before the deadline
	Expired     Reason = "expired"      // the deadline passed before a try
	Dropped     Reason = "dropped"      // no longer wanted before a try (the call ended)
	QueueFull   Reason = "queue_full"   // the app's queue is full
	BreakerOpen Reason = "breaker_open" // the app's breaker is open
	NoApp       Reason = "no_app"       // no app is configured for this address
	NoToken     Reason = "no_token"     // the device has no token that may be used for this kind
	ShutDown    Reason = "shut_down"    // sipwake is stopping
	ByPolicy    Reason = "policy"       // the app's policy refuses the kind at this load, or the device's OS so many
	Denied      Reason = "denied"       // the user or the app's policy never allows this kind on this device
)

// Reasons lists every Reason, in the order of the constants.
func Reasons() []Reason {
	return []Reason{Accepted, TokenDead, TokenBad, Credential, BadRequest, Throttled, Unavailable,
		Timeout, Expired, Dropped, QueueFull, BreakerOpen, NoApp, NoToken, ShutDown, ByPolicy, Denied}
}

// Retryable reports whether another try may succeed.
func (r Reason) Retryable() bool {
	return r == Throttled || r == Unavailable || r == Timeout
}
