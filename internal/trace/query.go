package trace

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Query says which calls are looked for: those of which all holds that is set.
type Query struct {
	AOR      string
	CallID   string
	Device   string
	Provider string
	App      string
	Outcome  string
	Reason   string
	Since    time.Time // at or after
	Until    time.Time // before
	Domains  []string  // of the user, one of them
	Apps     []string  // of an event, one of them
	Part     string    // of the user's name: see Parts
	Limit    int       // how many calls at most, at least 1
	Before   Cursor    // only calls after this place, zero: from the newest on
}

// Match reports whether the timeline is looked for.
func (q *Query) Match(t *Timeline) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	has := func(want string, of func(*Event) string) bool {
		return want == "" || slices.ContainsFunc(t.Events, func(e Event) bool { return of(&e) == want })
	}
	return is(q.AOR, t.AOR) && is(q.CallID, t.CallID) && is(q.Outcome, t.Outcome) && is(q.Reason, t.Reason) &&
		(q.Since.IsZero() || !t.StartedAt.Before(q.Since)) && (q.Until.IsZero() || t.StartedAt.Before(q.Until)) &&
		(q.Before.IsZero() || q.Before.compare(t.Cursor()) > 0) &&
		has(q.Device, func(e *Event) string { return e.Device }) &&
		has(q.Provider, func(e *Event) string { return e.Provider }) &&
		has(q.App, func(e *Event) string { return e.App }) && q.inScope(t)
}

func (q *Query) inScope(t *Timeline) bool {
	return (len(q.Domains) == 0 || slices.Contains(q.Domains, t.AOR[strings.LastIndexByte(t.AOR, '@')+1:])) &&
		(len(q.Apps) == 0 || slices.ContainsFunc(t.Events, func(e Event) bool { return slices.Contains(q.Apps, e.App) })) &&
		(q.Part == "" || HasPart(t.AOR, q.Part))
}

// OfApps returns the timeline without what is about the devices of other apps. No
// apps: it is returned as it is.
func (t *Timeline) OfApps(apps []string) Timeline {
	if len(apps) == 0 {
		return *t
	}
	devices := make(map[string]bool)
	for _, e := range t.Events {
		if e.App != "" && slices.Contains(apps, e.App) {
			devices[e.Device] = true
		}
	}
	cut := *t
	cut.Events = slices.DeleteFunc(slices.Clone(t.Events), func(e Event) bool {
		return e.App != "" && !slices.Contains(apps, e.App) || e.App == "" && e.Device != "" && !devices[e.Device] ||
			e.Name == OneDevice && !devices[e.Detail]
	})
	return cut
}

// Term is one entry of an index of calls: what kind of thing, and its value.
type Term string

func term(kind byte, value string) Term {
	if len(value) > maxText {
		value = value[:maxText]
	}
	return Term(kind) + Term(value)
}

// Term returns the term of an index that has every call that is looked for, and as
// few others as can be; empty for that of all calls.
func (q *Query) Term() Term {
	for _, t := range []struct {
		kind  byte
		value string
	}{{'c', q.CallID}, {'u', q.AOR}, {'d', q.Device}, {'r', q.Reason}, {'o', q.Outcome}, {'a', q.App}, {'p', q.Provider}} {
		if t.value != "" {
			return term(t.kind, t.value)
		}
	}
	if len(q.Apps) == 1 {
		return term('a', q.Apps[0])
	}
	return ""
}

// Terms returns those that find the timeline, each once.
func (t *Timeline) Terms() []Term {
	var list []Term
	t.EachTerm(func(kind byte, value string) { list = append(list, term(kind, value)) })
	slices.Sort(list)
	return slices.Compact(list)
}

// EachTerm calls f with the kind and the value of each term that finds the timeline,
// some of them more than once.
func (t *Timeline) EachTerm(f func(kind byte, value string)) {
	each := func(kind byte, value string) {
		if value != "" {
			f(kind, value[:min(len(value), maxText)])
		}
	}
	each('u', t.AOR)
	each('c', t.CallID)
	each('o', t.Outcome)
	each('r', t.Reason)
	var last Event
	for i := range t.Events {
		e := &t.Events[i]
		if e.Device != last.Device || e.Provider != last.Provider || e.App != last.App {
			each('d', e.Device)
			each('p', e.Provider)
			each('a', e.App)
		}
		last.Device, last.Provider, last.App = e.Device, e.Provider, e.App
	}
}

// Cursor is a place in the list of calls, which begins with the newest one.
type Cursor struct {
	StartedAt time.Time // to the microsecond
	ID        string
}

// Cursor returns the place of the call.
func (t *Timeline) Cursor() Cursor { return Cursor{t.StartedAt.Truncate(time.Microsecond), t.ID} }

// IsZero reports whether it is no place.
func (c Cursor) IsZero() bool { return c.ID == "" }

// compare orders by time, the older one first.
func (c Cursor) compare(o Cursor) int {
	return cmp.Or(c.StartedAt.Compare(o.StartedAt), strings.Compare(c.ID, o.ID))
}

// String returns the text that ParseCursor reads.
func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	return strconv.FormatInt(c.StartedAt.UnixMicro(), 36) + "." + c.ID
}

var errCursor = errors.New("is not one of an earlier answer")

// ParseCursor reads what String has returned.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	at, id, _ := strings.Cut(s, ".")
	us, err := strconv.ParseInt(at, 36, 64)
	if err != nil || us < 0 || id == "" || len(id) > maxText {
		return Cursor{}, errCursor
	}
	return Cursor{time.UnixMicro(us), id}, nil
}

// MaxParts is how many parts of an AOR Parts returns at most.
const MaxParts = 40

// Parts returns what an index of users has of the AOR: every part that a search can
// begin with, the whole first. A search finds the AORs that have a part which
// begins with what is looked for.
func Parts(aor string) []string {
	at := strings.LastIndexByte(aor, '@')
	parts := []string{aor}
	for i := 1; i <= at && len(parts) < MaxParts; i++ {
		parts = append(parts, aor[i:])
	}
	return parts
}

// HasPart reports whether the part is one that an AOR is found by.
func HasPart(aor, part string) bool {
	return slices.ContainsFunc(Parts(aor), func(s string) bool { return strings.HasPrefix(s, part) })
}
