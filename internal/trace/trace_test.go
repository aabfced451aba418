package trace

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func head(id string) Head {
	return Head{ID: id, AOR: "bob@example.com", CallID: "call-" + id, StartedAt: start}
}

func ids(list []Timeline) string {
	s := ""
	for _, t := range list {
		s += t.ID
	}
	return s
}

// found returns what the log has of bob's calls, of one Call-ID if there is one.
func found(l *Log, callID string) []Timeline {
	list, _ := l.Find(Query{AOR: "bob@example.com", CallID: callID, Limit: 100})
	return list
}

func TestLogForgetsTheOldest(t *testing.T) {
	l := NewLog(3)
	for _, id := range []string{"a", "b", "c", "d", "d"} {
		l.Begin(head(id))
	}
	l.Add("a", Event{Name: Held}) // no longer known
	l.SetOutcome("d", "pushing")
	l.SetReason("d", "answered")
	l.SetOutcome("x", "pushing")
	l.SetReason("x", "answered")
	if got := ids(found(l, "")); got != "dcb" {
		t.Errorf("remembered are %s", got)
	}
	if got := found(l, "call-d"); ids(got) != "d" || got[0].Outcome != "pushing" || got[0].Reason != "answered" {
		t.Errorf("found %+v", got)
	}
}

// However often devices register, the end of the call is told, and other devices
// too.
func TestLogIsBounded(t *testing.T) {
	l := NewLog(1)
	l.Begin(head("a"))
	for i := range 1000 {
		l.Add("a", Event{Name: Registered, Device: "mallory"})
		l.Add("a", Event{Name: Registered}) // one without a name
		l.Add("a", Event{Name: Registered, Device: fmt.Sprint("device", i%32)})
	}
	l.Add("a", Event{Name: Ended})
	got := found(l, "call-a")[0]
	if n := len(got.Events); n != 34*maxPerDevice+1 || got.Events[n-1].Name != Ended || got.Omitted != 3000-34*maxPerDevice {
		t.Errorf("%d events, %d omitted, the last is %v", n, got.Omitted, got.Events[n-1])
	}
	for i := range 1000 {
		l.Add("a", Event{Name: Registered, Device: fmt.Sprint("stranger", i)})
		l.Add("a", Event{Name: Adopted})
	}
	if n := len(found(l, "call-a")[0].Events); n > maxPerDevice*maxDevices+maxOfCall {
		t.Errorf("%d events", n)
	}
}

// The memory of a forgotten timeline serves the next one, but not while it is being
// written or waits for that.
func TestLogReusesWhatIsWritten(t *testing.T) {
	l := NewLog(1)
	l.keep = true
	begin := func(id string) {
		l.Begin(head(id))
		l.Add(id, Event{Name: Held, Detail: id})
	}
	check := func(list []taken, want string) {
		t.Helper()
		got := ""
		for _, taken := range list {
			got += taken.ID + taken.Events[0].Detail + " "
		}
		if got != want {
			t.Errorf("writes %q, want %q", got, want)
		}
	}
	begin("a")
	first := l.take(nil, time.Now(), 9, true)
	begin("b") // forgets a, which is being written
	begin("c") // forgets b, which waits
	check(first, "aa ")
	l.wrote(first)
	second := l.take(nil, time.Now(), 9, true)
	check(second, "bb cc ")
	l.putBack(second)
	begin("d")
	third := l.take(nil, time.Now(), 9, true)
	begin("e")
	check(third, "cc dd ") // of forgotten ones, no more wait than the log holds
	l.wrote(third)
	if len(l.spare) != 2 { // c, and d in the place of a
		t.Errorf("%d entries can be used again", len(l.spare))
	}
	begin("f")
	if got := found(l, "call-f"); len(got) != 1 || len(got[0].Events) != 1 || got[0].Outcome != "" {
		t.Errorf("got %+v", got)
	}
}

func TestMerge(t *testing.T) {
	at := func(ms int, name EventName) Event {
		return Event{At: start.Add(time.Duration(ms) * time.Millisecond), Name: name}
	}
	later := head("b")
	later.StartedAt = start.Add(time.Second)
	got := Merge([]Timeline{
		{Head: later},
		{Head: head("a"), Outcome: "pushing", Events: []Event{at(0, Held), at(30, Accepted)}, Omitted: 1},
		{Head: head("a"), Reason: "answered", Events: []Event{at(20, Pushing), at(40, Ended)}, Omitted: 2},
	})
	want := []Timeline{
		{Head: head("a"), Outcome: "pushing", Reason: "answered", Omitted: 3,
			Events: []Event{at(0, Held), at(20, Pushing), at(30, Accepted), at(40, Ended)}},
		{Head: later},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}

// A device that gives itself no name is known by a hash of its push address. A timeline
// has not enough of it for anybody to find the address by, and is found by it all the same.
func TestDeviceName(t *testing.T) {
	const hash = "5e1f0c2f6a3b4d5e6f70"
	l := NewLog(10)
	begin(l, "a")
	l.Add("a", Event{At: time.Now(), Name: Pushing, Device: hash})
	l.Add("a", Event{At: time.Now(), Name: Pushing, Device: "urn:uuid:1"})
	for _, device := range []string{hash, "urn:uuid:1"} {
		found, _ := l.Find(Query{Device: DeviceName(device), Limit: 1})
		if len(found) != 1 || strings.Contains(fmt.Sprint(found), hash) {
			t.Errorf("%s: found %+v", device, found)
		}
	}
}
