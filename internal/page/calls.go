package page

import (
	"net/http"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
)

// outcomes are the outcomes that the search offers.
var outcomes = []wake.Outcome{wake.OutcomePushing, wake.OutcomeAwake, wake.OutcomeNone, wake.OutcomeDuplicate, wake.OutcomeShed}

// formTime is a browser's format of a datetime-local input, interpreted as UTC.
const formTime = "2006-01-02T15:04"

// form is the search form as it was filled in.
type form struct {
	Q, Device, Outcome, Since, Until string
	Wrong                            string // what could not be parsed
	Outcomes                         []wake.Outcome
}

// Details reports whether the search has more than a name.
func (f *form) Details() bool { return f.Device+f.Outcome+f.Since+f.Until != "" }

// query returns the query of the form.
func (f *form) query() trace.Query {
	q := trace.Query{Device: trace.DeviceName(f.Device), Outcome: f.Outcome, Limit: mostFound}
	at := func(text string) time.Time {
		if text == "" {
			return time.Time{}
		}
		t, err := time.Parse(formTime, text)
		if err != nil {
			f.Wrong = "A time is written like 2026-01-31T18:30, in UTC."
		}
		return t
	}
	q.Since, q.Until = at(f.Since), at(f.Until)
	return q
}

// search looks for a Call-ID or, if there is none, for a user or a part of a user's name.
func (s Source) search(w http.ResponseWriter, r *http.Request) {
	f := form{Q: asked(r, "q"), Device: asked(r, "device"), Outcome: asked(r, "outcome"),
		Since: asked(r, "since"), Until: asked(r, "until"), Outcomes: outcomes}
	q := f.query()
	var found trace.Found
	switch {
	case f.Wrong != "":
	case f.Q != "":
		byID := q
		byID.CallID = f.Q
		if found = s.Calls(r.Context(), byID, ""); len(found.Timelines) == 0 {
			found = s.Calls(r.Context(), q, f.Q)
		}
	case f.Details():
		found = s.Calls(r.Context(), q, "")
	}
	show(w, http.StatusOK, "search", map[string]any{"Form": f, "Found": found})
}

// row is an event of a ladder: an arrow between two of its columns, or a dot.
type row struct {
	trace.Event
	After    time.Duration
	From, To int
	Bad      bool
}

// columns are the columns of a ladder, from the caller to the phone.
var columns = []string{"caller", "proxy", "sipwake", "push service", "phone"}

// arrowOf returns the columns between which the event happens.
func arrowOf(n trace.EventName) (from, to int) {
	switch n {
	case trace.Held:
		return 0, 2
	case trace.Pushing:
		return 2, 3
	case trace.Accepted, trace.Failed:
		return 3, 2
	case trace.Registered, trace.Answering, trace.Awake:
		return 4, 2
	case trace.Signalled, trace.Lost, trace.GaveUp, trace.Late:
		return 2, 1
	case trace.Ended:
		return 1, 2
	case trace.Alerting:
		return 2, 0
	}
	return 2, 2
}

// laneWidth is the width of a column of the ladder, in units of its viewBox.
const laneWidth = 100

// x returns the x coordinate of the column's line.
func x(column int) int { return column*laneWidth + laneWidth/2 }

// FromX returns the x coordinate of the start of the arrow.
func (r row) FromX() int { return x(r.From) }

// ToX returns the x coordinate of the end of the arrow.
func (r row) ToX() int { return x(r.To) }

// HeadX returns the x coordinate where the arrow's head begins.
func (r row) HeadX() int {
	if r.To > r.From {
		return r.ToX() - 9
	}
	return r.ToX() + 9
}

func (s Source) call(w http.ResponseWriter, r *http.Request) {
	id, callID := asked(r, "id"), asked(r, "call_id")
	if callID != "" {
		for _, t := range s.Calls(r.Context(), trace.Query{CallID: callID, Limit: mostFound}, "").Timelines {
			if id != "" && t.ID != id {
				continue
			}
			showCall(w, t)
			return
		}
	}
	show(w, http.StatusNotFound, "absent", "This call is not known (any more).")
}

func showCall(w http.ResponseWriter, t trace.Timeline) {
	devices := map[string]int{} // in order of appearance: a letter is easier to follow than a UUID
	rows := make([]row, 0, len(t.Events))
	for _, e := range t.Events[:min(len(t.Events), mostRows)] {
		from, to := arrowOf(e.Name)
		bad := e.Name == trace.Failed || e.Name == trace.Lost || e.Name == trace.StoreAway || e.Name == trace.Limited
		rows = append(rows, row{e, max(e.At.Sub(t.StartedAt), 0), from, to, bad})
		if _, known := devices[e.Device]; e.Device != "" && !known {
			devices[e.Device] = len(devices)
		}
	}
	names := make([]string, len(devices))
	for d, i := range devices {
		names[i] = d
	}
	show(w, http.StatusOK, "call", map[string]any{"Call": t, "Rows": rows, "Columns": columns, "Devices": names,
		"Tone": tone(t), "More": len(t.Events) - len(rows) + t.Omitted})
}

// tone returns the state of a call, for its colour: open, good or bad.
func tone(t trace.Timeline) string {
	if t.Reason == "" && (t.Outcome == string(wake.OutcomeNone) || t.Outcome == string(wake.OutcomeShed)) {
		return "bad" // it was not held, so no end is reported
	}
	if t.Reason == "" {
		return "open"
	}
	for _, e := range t.Events {
		if e.Name == trace.Ended && e.Code >= 200 && e.Code < 300 {
			return "good"
		}
	}
	if t.Reason == "answered" {
		return "good"
	}
	return "bad"
}
