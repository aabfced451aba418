package demo

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// moment is one line of a timeline.
type moment struct {
	at   time.Time
	who  string
	what string
}

// printTimeline prints what both phones and sipwake saw of a call, in milliseconds since
// the caller's INVITE.
func printTimeline(began time.Time, user string, caller, callee []phone.Event, trace wakeTrace) {
	moments := []moment{{began, "alice", "INVITE"}}
	for _, e := range caller {
		if what := callerWord(e); what != "" {
			moments = append(moments, moment{e.At, "alice", what})
		}
	}
	for _, e := range callee {
		if what := calleeWord(e); what != "" && e.At.After(began) {
			moments = append(moments, moment{e.At, user, what})
		}
	}
	for _, e := range trace.Events {
		// The trace has whole milliseconds, rounded down: half of one is the best guess.
		at := time.UnixMilli(e.AtMS).Add(500 * time.Microsecond)
		moments = append(moments, moment{at, "sipwake", traceWord(e.Event, e.Detail)})
	}
	sort.SliceStable(moments, func(i, j int) bool { return moments[i].at.Before(moments[j].at) })
	for _, m := range moments {
		fmt.Printf("   %7.1f ms  %-8s %s\n", max(0, float64(m.at.Sub(began).Microseconds())/1000), m.who, m.what)
	}
}

func callerWord(e phone.Event) string {
	switch e.Kind {
	case phone.Provisional, phone.Final:
		return fmt.Sprintf("hears %d", e.Code)
	}
	return ""
}

func calleeWord(e phone.Event) string {
	switch e.Kind {
	case phone.GotPush:
		return "gets the push and wakes"
	case phone.Registered:
		return fmt.Sprintf("REGISTER: %d", e.Code)
	case phone.GotInvite:
		return "gets the INVITE"
	case phone.Answered:
		return fmt.Sprintf("answers %d", e.Code)
	case phone.GotBye:
		return "gets the BYE"
	case phone.GotCancel:
		return "gets the CANCEL"
	}
	return ""
}

// traceWord returns the demo's text for a trace event.
func traceWord(event, detail string) string {
	switch event {
	case "held":
		return "INVITE held"
	case "pushing":
		return "pushes through " + detail
	case "accepted":
		return "push accepted by " + detail
	case "failed":
		return "push failed: " + detail
	case "awake":
		return "phone is awake, no push"
	case "registered":
		return "knows that the phone is back"
	case "signalled":
		return "INVITE sent on (" + detail + ")"
	case "gave up":
		return "tells the node that nobody will come"
	case "ended":
		return "call ended: " + detail
	case "alerting":
		return "caller hears " + detail
	case "late":
		return "phone is told that its call is over (" + detail + ")"
	}
	return strings.TrimSpace(event + " " + detail)
}
