package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
)

type traceCmd struct {
	Config  string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
	AOR     string `help:"User whose calls to show: user@domain, or a part of the name."`
	CallID  string `name:"call-id" help:"Call-ID of the call to show."`
	Device  string `help:"Only calls to this device, as bindings list prints it."`
	App     string `help:"Only calls that were pushed to this app."`
	Since   string `help:"Only calls since then: 2h for two hours ago, or a time such as 2026-11-22T01:30:00Z."`
	Until   string `help:"Only calls before then, as with --since."`
	Outcome string `help:"Only calls with this outcome (pushing, awake, none, duplicate, shed) or end (answered, cancelled, timeout, busy, declined, failed)."`
	Last    int    `default:"20" help:"How many of the newest calls to show (${default})."`
	JSON    bool   `name:"json" help:"Print one JSON object a line, as wake.trace returns them."`
	Follow  bool   `short:"f" help:"Go on showing calls as they end, until interrupted."`
}

// tracedCall is a call in the result of wake.trace.
type tracedCall struct {
	ID        string
	AOR       string
	Node      string
	CallID    string `json:"call_id"`
	Kind      string
	StartedMS int64 `json:"started_ms"`
	Outcome   string
	Reason    string
	Verdict   string
	Omitted   int
	Events    []tracedEvent

	raw json.RawMessage
}

type tracedEvent struct {
	AtMS     int64 `json:"at_ms"`
	Event    trace.EventName
	Device   string
	Detail   string
	Provider string
	Kind     string
	ID       string
	Tries    int
	SentMS   int64 `json:"sent_ms"`
	Code     int

	queuedMS int64
}

// tracedPage is a result of wake.trace.
type tracedPage struct {
	Wakes      []json.RawMessage
	Cursor     string
	Incomplete bool
	Like       []string
}

var ends = []string{"answered", "cancelled", "timeout", "busy", "declined", "failed"}

// Run prints calls, the oldest first, so that the newest is at the end of the output. It
// is an error if there are none.
func (c *traceCmd) Run() error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	params, err := c.params(time.Now())
	if err != nil {
		return err
	}
	print := c.printer(os.Stdout)
	last := c.Last
	if c.Follow { // so that --follow does not print older calls as new
		c.Last = max(last, followMost)
		if _, asked := params["since_ms"]; !asked {
			params["since_ms"] = time.Now().Add(-followBack).UnixMilli()
		}
	}
	calls, page, err := c.newest(cl, params)
	if err != nil {
		return err
	}
	if page.Incomplete {
		fmt.Fprintln(os.Stderr, "sipwake: the store does not answer: these are the calls that one sipwake remembers")
	}
	if len(calls) == 0 && !c.Follow {
		return c.nothing(page.Like)
	}
	for i := max(0, len(calls)-last); i < len(calls); i++ {
		print(&calls[i])
	}
	if c.Follow {
		return c.follow(cl, params, calls, print)
	}
	return nil
}

func (c *traceCmd) params(now time.Time) (map[string]any, error) {
	if c.Last < 1 {
		return nil, errors.New("--last must be 1 or more")
	}
	p := map[string]any{"call_id": c.CallID, "device": c.Device, "app": c.App}
	switch {
	case strings.Contains(c.AOR, "@") && !strings.HasPrefix(c.AOR, "@"):
		p["aor"] = c.AOR
	case c.AOR != "":
		p["user"] = c.AOR
	}
	if slices.Contains(ends, c.Outcome) {
		p["reason"] = c.Outcome
	} else {
		p["outcome"] = c.Outcome
	}
	for name, text := range map[string]string{"since": c.Since, "until": c.Until} {
		if text == "" {
			continue
		}
		at, err := pointInTime(text, now)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", name, err)
		}
		p[name+"_ms"] = at.UnixMilli()
	}
	return p, nil
}

// pointInTime parses a time, or a duration such as "2h", which means two hours ago.
func pointInTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-11-22T01:30:00Z nor how long ago, such as 2h", text)
}

const tracesAsked = 100 // calls per request

// newest returns the newest calls, the oldest of them first, and the last page.
func (c *traceCmd) newest(cl *client, params map[string]any) (calls []tracedCall, page tracedPage, err error) {
	delete(params, "cursor")
	for first := true; first || page.Cursor != "" && len(calls) < c.Last; first = false {
		params["limit"] = min(tracesAsked, c.Last-len(calls))
		if page.Cursor != "" {
			params["cursor"] = page.Cursor
		}
		like := page.Like
		page = tracedPage{Like: like}
		if err := cl.call(context.Background(), "wake.trace", params, &page); err != nil {
			return nil, page, err
		}
		for _, raw := range page.Wakes {
			one := tracedCall{raw: raw}
			if err := json.Unmarshal(raw, &one); err != nil {
				return nil, page, fmt.Errorf("cannot read the answer: %w", err)
			}
			calls = append(calls, one)
		}
	}
	slices.Reverse(calls)
	return calls, page, nil
}

func (c *traceCmd) nothing(like []string) error {
	said := "no call was found"
	if len(like) > 0 {
		said += "; did you mean " + strings.Join(like, " or ") + "?"
	}
	return errors.New(said)
}

// followEvery is how often --follow polls.
const followEvery = time.Second

// follow prints calls when they are over, or when nothing more will happen. It does not
// repeat calls in shown that were over.
func (c *traceCmd) follow(cl *client, params map[string]any, shown []tracedCall, print func(*tracedCall)) error {
	printed := make(map[string]bool)
	for i := range shown {
		printed[shown[i].ID] = shown[i].settled()
	}
	for {
		time.Sleep(followEvery)
		calls, _, err := c.newest(cl, params)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sipwake:", err) // sipwake may be restarting
			continue
		}
		old := printed
		printed = make(map[string]bool)
		for i := range calls {
			id := calls[i].ID
			if printed[id] = old[id] || calls[i].settled(); printed[id] && !old[id] {
				print(&calls[i])
			}
		}
	}
}

// followBack is how long before the start of --follow a call may have begun.
const followBack = time.Hour

// followMost is how many calls --follow reads per poll.
const followMost = 1000

// settled reports whether the call is over or was never held.
func (t *tracedCall) settled() bool {
	return t.Reason != "" || t.Outcome == "none" || t.Outcome == "shed"
}
