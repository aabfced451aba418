// Package trace records what happened to the last calls, so that an operator can see
// why a phone did not ring. A timeline never contains a token or a credential.
package trace

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Head identifies the call of a timeline.
type Head struct {
	ID        string // the wake's UUID
	AOR       string
	Node      string
	CallID    string
	Kind      string // "call", "chat" or "refresh"
	StartedAt time.Time
	// Parent is the W3C trace context that the caller of wake.start sent. It is not
	// stored.
	Parent string
}

// Timeline is what happened to one call: the answer to "why did this phone not
// ring?".
type Timeline struct {
	Head
	// Instance is the instance that recorded this part; empty after a merge.
	Instance string
	Outcome  string // what wake.start answered
	Reason   string // why the call ended; empty while it is open
	Events   []Event
	// Omitted counts events that were left out because there were too many.
	Omitted int
}

// Event is one step of a Timeline. Device is empty where the step concerns the
// whole call.
type Event struct {
	At     time.Time
	Name   EventName
	Device string
	Detail string

	// For a push: the service and the app, and the kind if it is not the call's.
	Provider string
	App      string
	Kind     string // "cancel" or "custom"
	// For a push that ended: the service's identifier, the number of tries, and when
	// the last try began.
	ID     string
	Tries  int
	SentAt time.Time
	// Code is the final SIP status of a call that ended, 0 if unknown.
	Code int
}

// EventName says what happened.
type EventName string

// The events.
const (
	Held       EventName = "held"        // wake.start came; detail is the node
	Cached     EventName = "cached"      // the store is away: only the devices in this instance's memory are known
	Awake      EventName = "awake"       // the device registered a moment ago; detail is its flow
	Limited    EventName = "limited"     // the call exceeds a limit: no push; detail is the limit and its calls a minute
	Unread     EventName = "unread"      // no person reads this message: nobody is woken
	StoreAway  EventName = "store away"  // the store is away, and this instance does not know the user
	OneDevice  EventName = "one device"  // the call is for one device of the user; detail names it
	Forked     EventName = "forked"      // another branch of the call pushes the device
	Withheld   EventName = "withheld"    // the proxy rings the device, so its push waits; detail says how long
	Answering  EventName = "answering"   // the device answered while it was rung: it is awake, no push
	Pushing    EventName = "pushing"     // a push is queued; detail is the provider
	Accepted   EventName = "accepted"    // the push service accepted it
	Failed     EventName = "failed"      // the push failed; detail has the reason
	Registered EventName = "registered"  // the device is back; detail is its flow
	Signalled  EventName = "signalled"   // the node answered a signal; detail is the answer
	Lost       EventName = "unsignalled" // the node could not be signalled; detail has the node and why
	GaveUp     EventName = "gave up"     // the node was told to stop holding
	HoldOver   EventName = "hold over"   // the hold time is over: no more pushes and signals
	Adopted    EventName = "adopted"     // this instance took over a wake of another one, or one without an owner
	Ended      EventName = "ended"       // wake.end came; detail has the reason
	Alerting   EventName = "alerting"    // the node was told to answer the caller; detail is the answer sent, and the node's
	Late       EventName = "late"        // the device came back after the end, and its node tells it so; detail is the node's answer
)

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// plain reports whether s is printable ASCII, as nearly all texts are.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// clip names the device, shortens texts whose length others decide, and removes
// characters that could confuse a terminal.
func (e *Event) clip() {
	e.Device = DeviceName(e.Device)
	for _, s := range []*string{&e.Device, &e.Detail, &e.App, &e.ID} {
		if len(*s) > maxText {
			*s = (*s)[:maxText]
		}
		if !plain(*s) && strings.ContainsFunc(*s, unprintable) {
			*s = strings.Map(func(r rune) rune {
				if unprintable(r) {
					return ' '
				}
				return r
			}, *s)
		}
	}
}

// Limits of one timeline. A phone that registers in a loop uses up only its own share,
// and there is always room for the end of the call.
const (
	maxPerDevice = 12
	maxDevices   = 40
	maxOfCall    = 32
	maxText      = 300 // bytes of one text, such as Detail
)

// room reports whether the event fits.
func (t *Timeline) room(e *Event) bool {
	most, ofDevice := maxOfCall, e.Name.ofDevice()
	if ofDevice {
		most = maxPerDevice
		if len(t.Events) >= maxPerDevice*maxDevices {
			return false
		}
	}
	for i := range t.Events {
		if o := &t.Events[i]; o.Device == e.Device && o.Name.ofDevice() == ofDevice {
			most--
		}
	}
	return most > 0
}

// ofDevice reports whether the event concerns one device, even if its name is unknown.
func (n EventName) ofDevice() bool {
	switch n {
	case Awake, Withheld, Forked, Answering, Pushing, Accepted, Failed, Registered, Signalled, Lost, Late:
		return true
	}
	return false
}

// Merge merges the parts that several instances recorded of the same calls. The result
// has the oldest call first.
func Merge(parts []Timeline) []Timeline {
	all := []Timeline{}
	at := make(map[string]int)
	for _, p := range parts {
		i, known := at[p.ID]
		if !known {
			at[p.ID] = len(all)
			p.Events = slices.Clone(p.Events)
			all = append(all, p)
			continue
		}
		all[i].Events = append(all[i].Events, p.Events...)
		all[i].Outcome = cmp.Or(all[i].Outcome, p.Outcome)
		all[i].Reason = cmp.Or(all[i].Reason, p.Reason)
		all[i].Omitted += p.Omitted
	}
	for i, t := range all {
		all[i].Instance = ""
		slices.SortStableFunc(t.Events, func(a, b Event) int { return a.At.Compare(b.At) })
	}
	slices.SortStableFunc(all, func(a, b Timeline) int { return a.Cursor().compare(b.Cursor()) })
	return all
}
