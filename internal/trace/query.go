package trace

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Query selects calls. A call must match every field that is set.
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
	Domains  []string  // the user has one of them
	Apps     []string  // an event has one of them
	Part     string    // of the user's name: see Parts
	Limit    int       // the most calls to return, at least 1
	Before   Cursor    // only calls older than this one; zero: from the newest on
}

// Match reports whether the timeline matches.
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

// OfApps returns the timeline without the events of devices of other apps. Without
// apps it returns the whole timeline.
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

// Term is one key of an index of calls: a kind and a value.
type Term string

func term(kind byte, value string) Term {
	if len(value) > maxText {
		value = value[:maxText]
	}
	return Term(kind) + Term(value)
}

// Term returns the most selective term of an index under which every matching call is
// found; empty for all calls.
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

// Terms returns the terms under which the timeline is indexed, each once.
func (t *Timeline) Terms() []Term {
	var list []Term
	t.EachTerm(func(kind byte, value string) { list = append(list, term(kind, value)) })
	slices.Sort(list)
	return slices.Compact(list)
}

// EachTerm calls f with the kind and the value of each term under which the timeline is
// indexed, for some of them more than once.
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

// Cursor is a position in the list of calls, newest first.
type Cursor struct {
	StartedAt time.Time // to the microsecond
	ID        string
}

// Cursor returns the position of the call.
func (t *Timeline) Cursor() Cursor { return Cursor{t.StartedAt.Truncate(time.Microsecond), t.ID} }

// IsZero reports whether c is no position.
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

// Parts returns the parts under which an index of users has the AOR, the whole first.
// A search finds an AOR if one of its parts begins with the search text.
func Parts(aor string) []string {
	at := strings.LastIndexByte(aor, '@')
	parts := []string{aor}
	for i := 1; i <= at && len(parts) < MaxParts; i++ {
		parts = append(parts, aor[i:])
	}
	return parts
}

// HasPart reports whether a search for part finds the AOR.
func HasPart(aor, part string) bool {
	return slices.ContainsFunc(Parts(aor), func(s string) bool { return strings.HasPrefix(s, part) })
}
