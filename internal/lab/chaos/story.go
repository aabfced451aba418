package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxStories bounds what is printed.
const maxStories = 12

// tell prints all that is known of a finding. For an excused call it writes this to a file
// beside the logs, so that the excuse can be checked.
func (w *world) tell(ctx context.Context, c *call, kind verdict, why string) {
	story := w.story(ctx, c)
	w.telling.Lock()
	defer w.telling.Unlock()
	if kind == isExcused {
		if f, err := os.OpenFile(filepath.Join(w.dir, "excused.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			defer f.Close()
			fmt.Fprintf(f, "excused: %s\n%s", why, story)
		}
		return
	}
	if w.stories++; w.stories > maxStories {
		return
	}
	w.say("FINDING %s: %s\n%s  logs: %s", kind, why, story, w.dir)
}

// story returns all that is known of a call.
func (w *world) story(ctx context.Context, c *call) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	at := w.ledger.at
	say("%s call %s from %s to %s (%s, %s) through %s, back at %s", at(c.began), c.id, c.transport, c.sleeper.aor(), c.sleeper.provider,
		c.sleeper.transport, c.through.name, c.back.name)
	if c.known {
		say("%s wake.start, tried %v, answered by %d after %s: %q, hold %s, error %v", at(c.asked.at), c.asked.tries, c.asked.instance,
			c.asked.ackedAt.Sub(c.asked.at).Round(time.Millisecond), c.asked.outcome, c.asked.hold, c.asked.err)
	}
	for _, p := range c.pushes {
		say("%s push delivered, wake %s", at(p.at), p.wake)
	}
	for _, e := range c.events {
		say("%s phone: %s", at(e.At), e)
	}
	if !c.cancelled.IsZero() {
		say("%s the caller hung up", at(c.cancelled))
	}
	say("%s the caller got %d %v", at(c.final), c.code, c.err)
	b.WriteString(w.traces(ctx, c.id))
	return b.String()
}

// traces is what the sipwakes know of a call.
func (w *world) traces(ctx context.Context, callID string) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	for _, s := range w.sipwakes {
		var res struct {
			Wakes []struct {
				Outcome, Reason string
				Events          []struct {
					AtMS                  int64 `json:"at_ms"`
					Event, Device, Detail string
				}
			}
		}
		if err := w.calls.call(ctx, s.id, "wake.trace", map[string]string{"call_id": callID}, &res); err != nil {
			say("%s: no trace: %v", s.name, err)
			continue
		}
		for _, t := range res.Wakes {
			say("%s: outcome %q, reason %q", s.name, t.Outcome, t.Reason)
			for _, e := range t.Events {
				say("  %s %s %s", w.ledger.at(time.UnixMilli(e.AtMS)), e.Event, e.Detail)
			}
		}
	}
	return b.String()
}
