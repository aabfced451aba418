package push

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Policy says when an app's devices are pushed, and what ends a binding.
type Policy struct {
	// Unregister is what a REGISTER that removes the registration does to the
	// binding. Default UnregisterKeep.
	Unregister Unregister `yaml:"unregister"`
	// NotOver lists transports as in a Via header. Phones that register over one of
	// them get no binding. ws includes wss. Default none.
	NotOver []string `yaml:"not_over"`
	// When says at which load each kind is pushed. Kinds not listed use WhenYes.
	When map[Kind]When `yaml:"when"`
	// Chat says whether a MESSAGE is pushed while another device of the user is
	// awake and may take it. Default ChatNoAnswer.
	Chat ChatRule `yaml:"chat"`
	// Cancel says when a device that was pushed for a call is told that the call is
	// over. The default is CancelUnanswered, or CancelPushed with FCM, where the
	// push itself shows the call.
	Cancel CancelRule `yaml:"cancel"`
	// Late says what happens to a device that was pushed for a call but comes back
	// after the call ended. Default LateCancel.
	Late LateRule `yaml:"late"`
	// MissedCall also sends a user-visible notification when a call was not
	// answered.
	MissedCall bool `yaml:"missed_call"`
	// Privacy limits what pushes may reveal, whatever the templates use. Default
	// PrivacyNone.
	Privacy Privacy `yaml:"privacy"`
}

// Unregister says how to treat the end of a registration.
type Unregister string

// The ways.
const (
	UnregisterKeep   Unregister = "keep"   // the phone is offline for SIP, but the binding stays
	UnregisterRemove Unregister = "remove" // the binding goes too
	UnregisterIgnore Unregister = "ignore" // as if the REGISTER had not arrived
)

// When says at which load a kind is pushed.
type When string

// The loads.
const (
	WhenNever   When = "never"
	WhenLowLoad When = "low_load" // load levels 0 and 1
	WhenYes     When = "yes"      // unless overloaded
	WhenAlways  When = "always"   // also when overloaded
)

// CancelRule says which devices get a cancel push.
type CancelRule string

// The rules.
const (
	CancelNever      CancelRule = "never"
	CancelUnanswered CancelRule = "unanswered" // those pushed, if nobody answered
	CancelPushed     CancelRule = "pushed"     // those pushed, also when another device answered
	CancelAlways     CancelRule = "always"     // every device of the user
)

// LateRule says what a device hears about a call that ended before it came back.
type LateRule string

// The rules.
const (
	LateCancel  LateRule = "cancel"  // an INVITE and its CANCEL, with the reason
	LateNothing LateRule = "nothing" // no SIP request: the app finds out by itself
)

// ChatRule says when a MESSAGE is pushed.
type ChatRule string

// The rules.
const (
	ChatNoAnswer ChatRule = "no_answer" // when no awake device takes it at once
	ChatAlways   ChatRule = "always"
)

// SetDefaults sets all unset fields to the provider's defaults.
func (p *Policy) SetDefaults(provider pnparam.Provider) {
	setDefault(&p.Unregister, UnregisterKeep)
	if provider == pnparam.FCM {
		setDefault(&p.Cancel, CancelPushed)
	}
	setDefault(&p.Cancel, CancelUnanswered)
	setDefault(&p.Chat, ChatNoAnswer)
	setDefault(&p.Late, LateCancel)
	setDefault(&p.Privacy, PrivacyNone)
}

// Validate reports each invalid setting.
func (p *Policy) Validate(report func(field, problem string)) {
	switch p.Unregister {
	case UnregisterKeep, UnregisterRemove, UnregisterIgnore:
	default:
		report("unregister", "must be keep, remove or ignore")
	}
	switch p.Cancel {
	case CancelNever, CancelUnanswered, CancelPushed, CancelAlways:
	default:
		report("cancel", "must be never, unanswered, pushed or always")
	}
	if p.Privacy != PrivacyNone && p.Privacy != PrivacyNumber && p.Privacy != PrivacyFull {
		report("privacy", "must be none, number or full")
	}
	if p.Chat != ChatNoAnswer && p.Chat != ChatAlways {
		report("chat", "must be no_answer or always")
	}
	if p.Late != LateCancel && p.Late != LateNothing {
		report("late", "must be cancel or nothing")
	}
	for i, t := range p.NotOver {
		if !slices.Contains([]string{"udp", "tcp", "tls", "sctp", "ws", "wss"}, t) {
			report(fmt.Sprintf("not_over[%d]", i), "must be udp, tcp, tls, sctp, ws or wss")
		}
	}
	for k, w := range p.When {
		if !known(k) {
			report("when", "has a kind that is none of call, chat, cancel, custom and refresh")
			continue
		}
		switch w {
		case WhenNever, WhenLowLoad, WhenYes, WhenAlways:
		default:
			report(fmt.Sprintf("when.%s", k), "must be never, low_load, yes or always")
		}
	}
}

// Binds reports whether a phone that registers over a flow (transport:ip:port) gets a
// binding.
func (p Policy) Binds(flow string) bool {
	transport, _, _ := strings.Cut(strings.ToLower(flow), ":")
	return !slices.Contains(p.NotOver, transport) && (transport != "wss" || !slices.Contains(p.NotOver, "ws"))
}

func known(k Kind) bool {
	for _, kind := range Kinds() {
		if k == kind {
			return true
		}
	}
	return false
}

// Refusal returns why a push of the kind is not sent at a load level (0 low to 4
// extreme): Denied if it never is, ByPolicy if it is at a lower level, or "" if it is
// sent. Overload begins at level 3. Calls continue until their queue is full.
func (p Policy) Refusal(k Kind, level int) Reason {
	allowed := k == Call || level < 3
	switch p.When[k] {
	case WhenNever:
		return Denied
	case WhenLowLoad:
		allowed = level <= 1
	case WhenAlways:
		allowed = true
	}
	if !allowed {
		return ByPolicy
	}
	return ""
}
