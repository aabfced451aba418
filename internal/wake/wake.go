// Package wake holds sipwake's rules: what a REGISTER does to a binding, what an
// INVITE does to sleeping devices, and when to tell a node that a phone is back. It
// defines the contracts for stores and SIP nodes. It knows nothing of HTTP, Redis or
// any push service.
//
// To follow a call, read start.go (an INVITE is held, its devices are pushed),
// register.go (the phone is back; signal.go signals the nodes) and end.go.
package wake

import (
	"context"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// MaxRing is the longest time that a call may keep ringing past its deadline. It
// exceeds timer C (RFC 3261 section 16.6), at which a proxy ends the call.
const MaxRing = 5 * time.Minute

// Wake is one pending call or message for an AOR, held at a node. It lives until
// wake.end; its deadline only ends pushing and signalling.
type Wake struct {
	ID     string // RFC 9562 UUID, made by sipwake
	AOR    string
	Node   string // id of the node that holds the request
	Call   string // the node's own key of the held request, opaque to us
	CallID string // Call-ID of the held request
	Kind   push.Kind
	// Instance limits the wake to one device, in the form of pnparam.Instance. Empty
	// means every device of the AOR.
	Instance string
	// StartedAt is when wake.start arrived. Deadline is when the node stops holding.
	StartedAt time.Time
	Deadline  time.Time
	// Owner is the instance that pushes and gives up.
	Owner string
	// Pushed lists devices whose push was accepted, as far as the store has noted
	// them for an instance that adopts the wake.
	Pushed []string
	// Forked means that another branch of the same request, which Covers this one,
	// was open when this wake started: its devices have been pushed. The store sets
	// it.
	Forked bool

	// What the pushes say.
	From    string // URI
	Display string
	Media   string
	Body    string
	To      string            // URI called
	Headers map[string]string // keyed by lower-case name; nil if there are none
	Verstat string            // what the network says about the caller's number

	// Urgent marks a callback from an emergency service (RFC 7090). Limits and load
	// do not stop its pushes.
	Urgent bool

	TraceParent string // W3C trace context of wake.start, empty if it had none
}

// Means reports whether the wake is for the device, named as in Binding.
func (w *Wake) Means(device string) bool {
	return w.Instance == "" || pnparam.Instance(device) == w.Instance
}

// Covers reports whether w is for every device that o is for.
func (w *Wake) Covers(o *Wake) bool { return w.Instance == "" || w.Instance == o.Instance }

// only removes from st the devices that the wake is not for.
func (w *Wake) only(st Started) Started {
	if w.Instance != "" {
		st.Bindings = slices.DeleteFunc(slices.Clone(st.Bindings), func(b Binding) bool { return !w.Means(b.Device) })
		st.Recent = slices.DeleteFunc(slices.Clone(st.Recent), func(r Registration) bool { return !w.Means(r.Device) })
	}
	return st
}

// Signal is a node's answer.
type Signal string

// The answers of a node.
const (
	SignalAdded     Signal = "added"     // the device has a branch now
	SignalDuplicate Signal = "dup"       // the device had one already
	SignalGone      Signal = "gone"      // the request is no longer held
	SignalNoContact Signal = "nocontact" // registration not in the node's location service yet: try again
	SignalUnsent    Signal = "unsent"    // the device got a branch, but the node cannot reach it: push it
	SignalBusy      Signal = "busy"      // not possible right now: try again
	SignalOK        Signal = "ok"        // the node gave up
	SignalTold      Signal = "told"      // the device is being told that the call is over
)

// Node is one SIP proxy that holds requests. Safe for concurrent use. Every method
// makes a single attempt and returns when ctx ends, if not before.
type Node interface {
	// Wake tells the node that the device of r is reachable and should be added to
	// the held request of w. With force the node uses any registration it has for
	// that contact, otherwise only this one. Answers SignalAdded, SignalDuplicate,
	// SignalUnsent, SignalGone or SignalNoContact.
	Wake(ctx context.Context, w Wake, r Registration, force bool) (Signal, error)
	// GiveUp tells the node to stop waiting: nobody can be woken for w. Branches that
	// are ringing continue. Answers SignalOK, SignalGone or SignalBusy.
	GiveUp(ctx context.Context, w Wake) (Signal, error)
	// Alert makes the node send the caller of w a provisional response, 180 or 182,
	// unless a phone is already ringing. Answers SignalOK, SignalDuplicate or
	// SignalGone.
	Alert(ctx context.Context, w Wake, code int, text string) (Signal, error)
	// TellOver makes the node of r tell its device that the call of w is over, by an
	// INVITE and a CANCEL with the Reason (RFC 3326). Force is as in Wake. Answers
	// SignalTold, SignalDuplicate (the device knows), SignalUnsent or
	// SignalNoContact.
	TellOver(ctx context.Context, w Wake, reason EndReason, r Registration, force bool) (Signal, error)
	// Probe returns nil if the node answers and accepts our secret, otherwise the
	// problem. As with the other methods, the error for a refused secret is
	// ErrForbidden. Probe changes nothing on the node.
	Probe(ctx context.Context) error
}
