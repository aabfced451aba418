package trace

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict says in one line how a call ended and why a phone did not ring, in words
// that an operator on call understands. The timeline must be merged, but may be
// incomplete.
func Verdict(t *Timeline) string {
	c := study(t)
	if said := c.notPushed(); said != "" {
		return said
	}
	switch n := len(c.devices); {
	case n == 0 && t.Reason == "" && t.Outcome == "none" && c.one:
		return "nobody to wake: the call is for one device, and it has no binding"
	case n == 0 && t.Reason == "" && t.Outcome == "none":
		return "nobody to wake: no binding"
	case n == 0 && c.lost != "":
		return c.lost
	case n == 0 && t.Reason == "":
		return "held, nothing has happened yet"
	case n == 0:
		return c.ending()
	}
	var rang, others []*fate
	for _, d := range c.devices {
		if d.rang.IsZero() {
			others = append(others, d)
		} else {
			rang = append(rang, d)
		}
	}
	if len(rang) == 0 {
		return c.silent(others)
	}
	first := slices.MinFunc(rang, func(a, b *fate) int { return a.rang.Compare(b.rang) })
	said := "rang after " + c.since(first.rang)
	switch {
	case t.Kind == "chat" || t.Kind == "refresh":
		said = "delivered after " + c.since(first.rang)
	case first.rungAlready:
		said = "rang at once"
	}
	if len(c.devices) > 1 {
		said += fmt.Sprintf(" on %d of %d devices", len(rang), len(c.devices))
	}
	if end := c.ending(); end != "" {
		said += ", " + end
	}
	if len(others) > 0 {
		said += "; " + c.explain(others, "the other: ", "the others: ")
	}
	return said
}

// story is a summary of a timeline.
type story struct {
	*Timeline
	devices []*fate
	limited string // the limit and its number
	away    bool   // the store was away
	one     bool   // the call is for one device of the user
	unread  bool   // no person reads the message
	forked  bool   // another branch pushes
	gaveUp  bool
	over    bool // the hold time is over
	lost    string
	ended   time.Time
	code    int
}

// fate is what happened to one device.
type fate struct {
	service     string // the name of its push service
	pushing     time.Time
	accepted    time.Time
	failed      string // the reason, and the service's answer
	registered  time.Time
	rang        time.Time
	rungAlready bool // the proxy rang it without a signal
	answer      string
	lost        string
	waits       bool // its push waits because the proxy rings it
}

func study(t *Timeline) *story {
	c := &story{Timeline: t}
	byName := make(map[string]*fate)
	device := func(name string) *fate {
		d := byName[name]
		if d == nil {
			d = &fate{}
			byName[name] = d
			c.devices = append(c.devices, d)
		}
		return d
	}
	for i := range t.Events {
		e := &t.Events[i]
		if e.Kind != "" {
			continue // a push about the end of the call
		}
		switch e.Name {
		case Limited:
			c.limited = e.Detail
		case OneDevice:
			c.one = true
		case Unread:
			c.unread = true
		case StoreAway:
			c.away = true
		case GaveUp:
			c.gaveUp = true
		case HoldOver:
			c.over = true
		case Ended:
			c.ended, c.code = e.At, e.Code
		case Lost:
			said := "sipwake could not reach " + unreached(e.Detail)
			if e.Device == "" {
				c.lost = said
			} else {
				device(e.Device).lost = said
			}
		case Forked:
			c.forked = true
			device(e.Device)
		case Awake, Withheld, Answering, Pushing, Accepted, Failed, Registered, Signalled:
			device(e.Device).see(e)
		}
	}
	return c
}

func (d *fate) see(e *Event) {
	if s := serviceOf(e); s != "" {
		d.service = s
	}
	switch e.Name {
	case Withheld:
		d.waits = true
	case Answering:
		d.ring(e.At)
		d.rungAlready = true
	case Pushing:
		d.pushing, d.waits, d.failed = e.At, false, ""
	case Accepted:
		d.accepted, d.failed = e.At, ""
	case Failed:
		d.failed, d.waits = e.Detail, false
	case Registered:
		d.registered = e.At
	case Signalled:
		switch d.answer = e.Detail; e.Detail {
		case "added":
			d.ring(e.At)
		case "dup":
			d.rungAlready = d.rang.IsZero() && d.registered.IsZero()
			d.ring(e.At)
		}
	}
}

// pusher names the push service of the device.
func (d *fate) pusher() string {
	return cmp.Or(d.service, "the push service")
}

func (d *fate) ring(at time.Time) {
	if d.rang.IsZero() {
		d.rang = at
	}
}

// notPushed says why the call caused no push at all; empty if it did or may have.
func (c *story) notPushed() string {
	const minute = " calls a minute"
	which, n, _ := strings.Cut(c.limited, " ")
	if n != "" {
		n = " of " + n + minute
	}
	switch {
	case slices.ContainsFunc(c.devices, func(d *fate) bool { return !d.rang.IsZero() }):
		return ""
	case which == "pair":
		return "not pushed: the caller exceeded the limit" + n + " to this user"
	case which == "caller":
		return "not pushed: the caller exceeded the limit" + n
	case which == "aor":
		return "not pushed: this user exceeded the limit" + n
	case c.unread:
		return "not pushed: no person reads this message"
	case c.away && len(c.devices) == 0: // otherwise the store took the call after all
		return "not pushed: the store was away, and this sipwake does not know the user's phones"
	case c.Outcome == "shed" && len(c.devices) == 0:
		return "not pushed: sipwake was overloaded"
	}
	return ""
}

// silent says why no device rang.
func (c *story) silent(devices []*fate) string {
	why := c.explain(devices, "", "")
	end := c.ending()
	if c.Reason == "cancelled" && c.allPending(devices) {
		return end + ", before the push was accepted"
	}
	if c.Reason == "" && c.Outcome == "none" {
		return "nobody could be woken: " + why
	}
	switch {
	case end == "" && c.gaveUp:
		return why + "; the proxy was told to stop waiting"
	case end == "" && c.over:
		return why + "; the hold time is over"
	case end == "":
		return why
	}
	return why + "; " + end
}

// allPending reports whether no push was answered when the call ended.
func (c *story) allPending(devices []*fate) bool {
	for _, d := range devices {
		if d.pushing.IsZero() || !d.accepted.IsZero() && !d.accepted.After(c.ended) ||
			d.failed != "" && !strings.HasPrefix(d.failed, "dropped") || !d.registered.IsZero() {
			return false
		}
	}
	return true
}

// explain says why devices did not ring, once for all devices with the same reason.
func (c *story) explain(devices []*fate, one, several string) string {
	var said []string
	count := make(map[string]int)
	for _, d := range devices {
		why := c.why(d)
		if count[why]++; count[why] == 1 {
			said = append(said, why)
		}
	}
	for i, why := range said {
		if n := count[why]; n > 1 {
			said[i] = fmt.Sprintf("%s (%d devices)", why, n)
		}
	}
	if len(devices) > 1 {
		one = several
	}
	return one + strings.Join(said, "; ")
}

// why says why a device did not ring.
func (c *story) why(d *fate) string {
	never := "never"
	if c.Reason == "" && !c.over && !c.gaveUp {
		never = "has not"
	}
	registered := "the phone registered after " + c.since(d.registered)
	pushed := d.pusher() + " took the push"
	switch {
	case d.lost != "":
		return d.lost
	case !d.registered.IsZero() && d.answer == "gone":
		return registered + ", when the call was over"
	case !d.registered.IsZero() && d.answer == "unsent":
		return registered + ", but the proxy could not reach it"
	case !d.registered.IsZero():
		return registered + ", but the proxy has not rung it"
	case !d.accepted.IsZero() && never == "never":
		return pushed + ", the phone never registered"
	case !d.accepted.IsZero():
		return pushed + " after " + c.since(d.accepted) + ", the phone has not registered yet"
	case d.failed != "":
		return failedWords(d.failed, d.pusher())
	case d.answer == "unsent":
		return "the phone was registered, but the proxy could not reach it"
	case !d.pushing.IsZero() && never == "never":
		return d.pusher() + " did not answer in time"
	case !d.pushing.IsZero():
		return "waiting for " + d.pusher()
	case d.waits:
		return "the phone was being rung, so its push waited"
	case c.forked:
		return "pushed by another branch of the same call"
	}
	return "the phone seemed to be awake, but did not ring"
}

// ending says how the call ended; empty while it is open.
func (c *story) ending() string {
	if c.Reason == "" {
		return ""
	}
	after := ""
	if !c.ended.IsZero() {
		after = " after " + c.since(c.ended)
	}
	switch c.Reason {
	case "answered":
		return "answered" + after
	case "cancelled":
		return "cancelled by the caller" + after
	case "timeout":
		if !c.ended.IsZero() {
			return "nobody answered within " + c.since(c.ended)
		}
		return "nobody answered in time"
	case "busy", "declined":
		return c.Reason + after
	}
	if c.code > 0 {
		return fmt.Sprintf("the call failed%s (SIP %d)", after, c.code)
	}
	return "the call failed" + after
}

// since returns the time since the call's start as a text.
func (c *story) since(at time.Time) string {
	return Span(at.Sub(c.StartedAt))
}
