package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/sipwake/sipwake/internal/trace"
)

func (c *traceCmd) printer(out *os.File) func(*tracedCall) {
	if c.JSON {
		return func(t *tracedCall) { fmt.Fprintf(out, "%s\n", t.raw) }
	}
	p := painter(isTerminal(out) && os.Getenv("NO_COLOR") == "")
	return func(t *tracedCall) { t.print(out, p) }
}

// print prints a line that identifies the call, a line with its outcome, and a line for
// each step, with the time since the call arrived.
func (t *tracedCall) print(out io.Writer, p painter) {
	fmt.Fprintf(out, "%s  %s for %s at node %s: %s  (Call-ID %s)\n", time.UnixMilli(t.StartedMS).Format(time.RFC3339),
		t.Kind, printable(t.AOR), printable(t.Node), standing(t.Outcome, t.Reason), printable(t.CallID))
	fmt.Fprintf(out, "  %s\n", p.bold(t.color(), printable(t.Verdict)))
	queued := map[string]int64{} // when each device's push was queued
	for _, e := range t.Events {
		if e.Event == trace.Pushing {
			queued[e.Device] = e.AtMS
		}
		e.queuedMS = queued[e.Device]
		line := fmt.Sprintf("%12s  %-14s %s", sinceStart(e.AtMS-t.StartedMS), e.word(), printable(strings.TrimSpace(e.Device+" "+e.what())))
		fmt.Fprintln(out, p.paint(e.color(), strings.TrimRight(line, " ")))
	}
	if t.Omitted > 0 {
		fmt.Fprintf(out, "%12s  and %d more events\n", "", t.Omitted)
	}
}

// sinceStart formats the time of an event, relative to the arrival of the call.
func sinceStart(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < 0 {
		return trace.Span(-d) + " before"
	}
	return trace.Span(d)
}

// word returns the printed name of the event.
func (e *tracedEvent) word() string {
	switch {
	case e.Kind != "" && e.Event == trace.Pushing:
		return "telling"
	case e.Event == trace.Awake:
		return "was awake"
	case e.Event == trace.Failed && e.Tries == 0:
		return "not pushed"
	case e.Event == trace.Lost:
		return "node not told"
	case e.Event == trace.Signalled:
		return "proxy told"
	}
	return string(e.Event)
}

// what returns the details of the event.
func (e *tracedEvent) what() string {
	detail := e.Detail
	switch e.Event {
	case trace.Pushing, trace.Accepted:
		if e.Provider != "" {
			detail = e.Provider
		}
	case trace.Withheld:
		return "it is being rung, a push would follow after " + detail
	case trace.OneDevice:
		return "the call is for " + detail + " alone"
	case trace.Forked:
		return "another branch of this call pushes it"
	case trace.Signalled:
		detail = answerWords(detail)
	case trace.Ended:
		if e.Code > 0 {
			detail += fmt.Sprintf(" (SIP %d)", e.Code)
		}
	}
	if e.Kind != "" {
		detail += ", to say that the call is over"
	}
	if e.SentMS > 0 && e.Event == trace.Accepted {
		detail += " within " + trace.Span(time.Duration(e.AtMS-e.SentMS)*time.Millisecond)
	}
	if waited := e.SentMS - e.queuedMS; e.Tries == 1 && e.queuedMS > 0 && waited >= waitTold {
		detail += ", queued for " + trace.Span(time.Duration(waited)*time.Millisecond)
	}
	if e.Tries > 1 {
		detail += fmt.Sprintf(", try %d", e.Tries)
	}
	if e.ID != "" {
		detail += ", its id " + e.ID
	}
	return detail
}

// waitTold is the shortest wait of a push for its first attempt that is printed, in
// milliseconds.
const waitTold = 20

// answerWords explains a node's answer.
func answerWords(answer string) string {
	switch answer {
	case "added":
		return "rings the phone"
	case "dup":
		return "rung already"
	case "unsent":
		return "could not reach the phone"
	case "gone":
		return "the call is over"
	}
	return answer
}

func (e *tracedEvent) color() color {
	switch e.Event {
	case trace.Failed, trace.Lost, trace.StoreAway, trace.Limited:
		return red
	case trace.Signalled, trace.Answering:
		return green
	}
	return plain
}

func (t *tracedCall) color() color {
	switch {
	case strings.HasPrefix(t.Verdict, "rang"), strings.HasPrefix(t.Verdict, "delivered"), t.Reason == "answered":
		return green
	case t.Reason == "" && t.Outcome != "none" && t.Outcome != "shed", t.Reason == "cancelled", t.Outcome == "duplicate":
		return yellow
	}
	return red
}

// standing describes how the wake began and how it ended. A wake without devices, or one
// that was shed, is never open.
func standing(outcome, reason string) string {
	switch {
	case reason != "" && outcome == "":
		return reason
	case reason != "":
		return outcome + ", " + reason
	case outcome == "none" || outcome == "shed":
		return outcome
	case outcome == "":
		return "open"
	}
	return outcome + ", open"
}

// color is the number of a terminal colour.
type color int

const (
	plain  color = 0
	red    color = 31
	green  color = 32
	yellow color = 33
)

// painter colours text if it is true.
type painter bool

func (p painter) paint(c color, text string) string {
	if !p || c == plain {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, text)
}

func (p painter) bold(c color, text string) string {
	if !p {
		return text
	}
	return fmt.Sprintf("\x1b[1;%dm%s\x1b[0m", c, text)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// printable removes characters that could confuse a terminal. The text comes from others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
