// Package wake holds sipwake's rules: what a REGISTER does to a binding, what an
// INVITE does to sleeping devices, and when a node is told that a phone is back.
// It defines the contracts that a store and a SIP node fulfil, and knows neither
// HTTP nor Redis nor any push service.
//
// The way of a call: start.go (an INVITE is held, devices are pushed),
// register.go (the phone is back, its nodes are signalled by signal.go), end.go.
package wake

import (
	"context"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// MaxRing is the longest time that a call may ring on past its deadline: longer
// than timer C of RFC 3261 section 16.6, after which a proxy ends it.
const MaxRing = 5 * time.Minute

// Wake is one pending call or message for an AOR, held at a node. It lives until
// wake.end: its deadline only ends pushing and signalling.
type Wake struct {
	ID     string // RFC 9562 UUID, made by sipwake
	AOR    string
	Node   string // id of the node that holds the request
	Call   string // the node's own key of the held request, opaque to us
	CallID string // Call-ID of the held request
	Kind   push.Kind
	// Instance is the only device that is meant, as pnparam.Instance writes it; empty
	// for every device of the AOR.
	Instance string
	// StartedAt is when wake.start came, Deadline when the node stops holding.
	StartedAt time.Time
	Deadline  time.Time
	// Owner is the instance that pushes and gives up.
	Owner string
	// Pushed are the devices whose push is known to be accepted, as far as it was
	// noted for an instance that adopts the wake.
	Pushed []string
	// Forked says that another branch of the same request, that Covers this one, was
	// open when it started: its devices have been pushed. The store sets it.
	Forked bool

	// What its pushes say.
	From    string // URI
	Display string
	Media   string
	Body    string
	To      string            // URI that was called
	Headers map[string]string // by their names in small letters; nil if there is none
	Verstat string            // what the network has said of the caller's number

	// Urgent says that an emergency service calls back (RFC 7090): no limit and no load
	// keeps its pushes back.
	Urgent bool

	TraceParent string // W3C trace context of wake.start, empty if it had none
}

// Means reports whether the wake is for the device, named as in Binding.
func (w *Wake) Means(device string) bool {
	return w.Instance == "" || pnparam.Instance(device) == w.Instance
}

// Covers reports whether every device that o is for is one that w is for.
func (w *Wake) Covers(o *Wake) bool { return w.Instance == "" || w.Instance == o.Instance }

// only leaves in st the devices that the wake is for.
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
	SignalNoContact Signal = "nocontact" // that registration has not reached the node's location yet: try again
	SignalUnsent    Signal = "unsent"    // the device got a branch, but the node cannot reach it: push it
	SignalBusy      Signal = "busy"      // cannot be done this moment: try again
	SignalOK        Signal = "ok"        // the node gave up
	SignalTold      Signal = "told"      // the device is being told that the call is over
)

// Node is one SIP proxy that holds requests. Safe for concurrent use. Every
// method makes one try and returns by the time ctx ends.
type Node interface {
	// Wake tells the node that the device of r is reachable: add it to the held
	// request of w. With force the node takes whatever registration of that
	// contact it has, else only this very one. Answers SignalAdded,
	// SignalDuplicate, SignalUnsent, SignalGone or SignalNoContact.
	Wake(ctx context.Context, w Wake, r Registration, force bool) (Signal, error)
	// GiveUp tells the node that nobody can be woken for w: stop waiting.
	// Branches that ring go on. Answers SignalOK, SignalGone or
	// SignalBusy.
	GiveUp(ctx context.Context, w Wake) (Signal, error)
	// Alert has the node answer the caller of w with a provisional status, 180 or 182,
	// unless a phone rings already. Answers SignalOK, SignalDuplicate or SignalGone.
	Alert(ctx context.Context, w Wake, code int, text string) (Signal, error)
	// TellOver has the node of r tell its device, by an INVITE and a CANCEL with the
	// Reason (RFC 3326), that the call of w is over. Force is as in Wake. Answers
	// SignalTold, SignalDuplicate (the device knows), SignalUnsent or SignalNoContact.
	TellOver(ctx context.Context, w Wake, reason EndReason, r Registration, force bool) (Signal, error)
	// Probe returns nil if the node answers and takes our secret, else what is
	// wrong. As with the others, an error of a refused secret is ErrForbidden. It changes nothing there.
	Probe(ctx context.Context) error
}
