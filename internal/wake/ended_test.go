package wake_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// lines returns the lines of the log with that message.
func (r *rig) lines(msg string) (found []string) {
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, fmt.Sprintf("msg=%q", msg)) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// wantLine checks the one line of a call, and returns what it says of the devices.
func (r *rig) wantLine(msg string, parts ...string) (devices []map[string]any) {
	r.t.Helper()
	lines := r.lines(msg)
	if len(lines) != 1 {
		r.fatal("%d lines %q, want one", len(lines), msg)
	}
	for _, p := range append(parts, "level=INFO", "aor=bob@example.com", "call_id=call-a", "node=sip1", "kind=call") {
		if !strings.Contains(lines[0]+" ", p+" ") {
			r.fatal("the line has no %s", p)
		}
	}
	_, text, _ := strings.Cut(lines[0], " devices=")
	if unquoted := ""; json.Unmarshal([]byte(text), &unquoted) == nil {
		text = unquoted
	}
	if err := json.Unmarshal([]byte(text), &devices); err != nil {
		r.fatal("devices are %q: %v", text, err)
	}
	return devices
}

// A call is one line when it ends: what became of each device, and when.
func TestLineOfACall(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		unnamed, _, _ := strings.Cut(phone("3"), ";+sip.instance")
		r.asleep(phone("1"), phone("2"), unnamed)
		r.pusher.outcome = func(q push.Request) push.Outcome {
			if strings.Contains(q.Token.Reveal(), "1") {
				return push.Outcome{Reply: push.Reply{Reason: push.Accepted}, Tries: 1}
			}
			return push.Outcome{Reply: push.Reply{Reason: push.Unavailable}, Tries: 2}
		}
		r.start("a")
		r.sleep(1900 * time.Millisecond)
		r.register(phone("1"))
		r.sleep(600 * time.Millisecond)
		r.end("a", wake.EndAnswered)
		r.end("a", wake.EndAnswered)
		devices := r.wantLine("wake ended", "outcome=pushing", "reason=answered", "code=0", "seconds=2.5", "wake_seconds=1.9")
		if len(devices) != 3 || devices[0]["device"] != nil || devices[1]["device"] != "urn:uuid:1" || devices[2]["device"] != "urn:uuid:2" {
			r.fatal("devices are %v", devices)
		}
		for _, d := range devices {
			if woken := d["result"] == "woken"; d["provider"] != "fcm" || d["app"] != app ||
				woken != (d["push"] == "accepted") || woken != (d["back_seconds"] == 1.9) || !woken && (d["result"] != "failed" || d["push"] != "unavailable") {
				r.fatal("a device is %v", d)
			}
		}
	})
}

// So is one that another instance heard the end of, one that was not held, and one
// whose end never comes.
func TestLinesOfOtherCalls(t *testing.T) {
	inBubble(t, nil, func(r *rig) { // the end came to another instance
		r.asleep(phone("1"))
		r.start("a")
		r.service.HandleEvent(wake.Event{Type: wake.EventEnded, Node: "sip1", Call: "a", AOR: bob, Detail: "busy", Code: 486})
		r.wantLine("wake ended", "outcome=pushing", "reason=busy", "code=486")
	})
	inBubble(t, nil, func(r *rig) {
		r.start("a")
		if d := r.wantLine("wake not held", "outcome=none"); len(d) != 0 {
			r.fatal("devices are %v", d)
		}
		r.end("a", wake.EndCancelled)
		if len(r.lines("wake ended")) > 0 {
			r.fatal("two lines")
		}
	})
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.sleep(wake.MaxRing + time.Minute)
		r.wantLine("wake ended", "reason=unknown")
	})
}

// However many calls are not held, and however many signals a dead node misses, the
// log has a line a second of each.
func TestLinesAreThrottled(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		for i := range 500 {
			r.startQuick(fmt.Sprintf("nobody%d@example.com", i), fmt.Sprint(i), "sip1")
		}
		r.sleep(time.Second)
		if n := len(r.lines("wake not held")); n != 2 {
			r.fatal("%d lines", n)
		}
		if !strings.Contains(r.log.String(), "dropped=498") {
			r.fatal("what was dropped is not counted")
		}
	})
}

// What a caller says of its trace goes with the call.
func TestTraceParent(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		r.asleep(phone("1"))
		r.start("a", func(p *wake.StartParams) { p.TraceParent = parent })
		if got := r.timelines(trace.Query{CallID: "call-a", Limit: 1}); len(got) != 1 || got[0].Parent != parent {
			r.fatal("timelines are %+v", got)
		}
	})
}
