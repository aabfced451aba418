package tests

import (
	"strings"
	"testing"
	"time"
)

// What one instance sees of a call the others find, soon, and after it is gone.
func TestTraceAcrossInstances(t *testing.T) {
	t.Parallel()
	r := newSharedRig(t, rigOptions{})
	other := r.another()
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	var slowest time.Duration
	for _, call := range []string{"1-1", "2-2", "3-3", "4-4", "5-5"} {
		began := time.Now()
		r.startWake("bob@example.com", call, nil)
		eventually(t, "the other instance knows", func() bool { return strings.Contains(other.timeline(t, call), "{held ") })
		slowest = max(slowest, time.Since(began))
		other.endWake("bob@example.com", call, "cancelled")
		eventually(t, "the end is known", func() bool { return strings.Contains(r.timeline(t, call), "{ended ") })
	}
	t.Logf("an event is known to the other instances after %s at most", slowest)
	child, process := r.child()
	child.startWake("bob@example.com", "6-6", nil)
	eventually(t, "the call of a third one is known", func() bool { return strings.Contains(r.timeline(t, "6-6"), "{held ") })
	process.Kill()
	r.endWake("bob@example.com", "6-6", "answered")
	eventually(t, "its end is", func() bool {
		text := r.timeline(t, "6-6")
		return strings.Contains(text, "{held ") && strings.Contains(text, "{ended ")
	})
}

// timeline returns what wake.trace says of a call of startWake, in the form of trace.
func (r *rig) timeline(t *testing.T, call string) string {
	t.Helper()
	var res struct {
		Wakes []struct {
			Verdict string
			Events  []struct{ Event, Device, Detail string }
		}
	}
	r.call("wake.trace", obj{"call_id": "call-" + call}, &res)
	if len(res.Wakes) == 0 {
		return ""
	}
	if len(res.Wakes) > 1 {
		t.Fatalf("%d calls", len(res.Wakes))
	}
	var text strings.Builder
	text.WriteString(res.Wakes[0].Verdict)
	for _, e := range res.Wakes[0].Events {
		text.WriteString(" {" + e.Event + " " + e.Device + " " + e.Detail + "}")
	}
	return text.String()
}

// Each answer that a phone's push gets is told in words.
func TestTraceVerdicts(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	verdict := func(call, want string) {
		t.Helper()
		eventually(t, want, func() bool { return strings.HasPrefix(r.timeline(t, call), want) })
	}
	r.startWake("nobody@example.com", "1-1", nil)
	verdict("1-1", "nobody to wake: no binding")
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.startWake("bob@example.com", "2-2", nil)
	verdict("2-2", "Google took the push after ")
	r.endWake("bob@example.com", "2-2", "timeout")
	verdict("2-2", "Google took the push, the phone never registered; nobody answered within ")
	r.startWake("bob@example.com", "3-3", nil)
	verdict("3-3", "Google took the push after ")
	r.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"call_id": "back", "cseq": 2})
	r.node.waitFor(t, "wake", "3-3")
	r.endWake("bob@example.com", "3-3", "answered")
	verdict("3-3", "rang after ")
	r.asleep("ann@example.com", apnsContact("ann", apnsToken(3)))
	r.startWake("ann@example.com", "4-4", obj{"kind": "chat"})
	verdict("4-4", "nobody could be woken: not pushed: the phone has no token for this kind of push")
}
