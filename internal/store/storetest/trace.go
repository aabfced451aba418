package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
)

// OpenTraces returns an empty store of traces that is closed with the test.
type OpenTraces func(t *testing.T, c trace.Config) trace.Store

// RunTraces runs the suite that every trace.Store passes.
func RunTraces(t *testing.T, open OpenTraces) {
	for _, test := range []struct {
		name string
		f    func(t *testing.T, s trace.Store)
		c    trace.Config
	}{
		{name: "Parts", f: testTraceParts},
		{name: "Terms", f: testTraceTerms},
		{name: "Pages", f: testTracePages},
		{name: "Look", f: testTraceLook},
		{name: "Users", f: testTraceUsers},
		{name: "Random", f: testTraceRandom},
		{name: "Usage", f: testTraceUsage},
		{name: "Retention", f: testTraceRetention, c: trace.Config{Retention: 500 * time.Millisecond}},
		{name: "Calls", f: testTraceCalls, c: trace.Config{Calls: 5}},
		{name: "CallBytes", f: testTraceBytes, c: trace.Config{CallBytes: 2048}},
	} {
		t.Run(test.name, func(t *testing.T) { test.f(t, open(t, test.c)) })
	}
}

// Timeline returns one instance's part of the n-th call, which began n milliseconds
// after the first one.
func Timeline(n int, instance string) trace.Timeline {
	at := time.Now().UTC().Truncate(time.Hour).Add(time.Duration(n) * time.Millisecond)
	return trace.Timeline{
		Head: trace.Head{ID: fmt.Sprintf("0f2a-%06d", n), AOR: aor, Node: "edge-1", CallID: fmt.Sprintf("call-%d@192.0.2.1", n), Kind: "call",
			StartedAt: at},
		Instance: instance, Outcome: "pushing",
		Events: []trace.Event{
			{At: at, Name: trace.Held, Detail: "edge-1"},
			{At: at.Add(time.Millisecond), Name: trace.Pushing, Device: fmt.Sprintf("device-%d", n), Detail: "apns", Provider: "apns", App: "com.example.phone"},
			{At: at.Add(50 * time.Millisecond), Name: trace.Accepted, Device: fmt.Sprintf("device-%d", n), Detail: "apns", Provider: "apns",
				App: "com.example.phone", ID: "EC1BF194-B3B2-424A-89A9-5A918A6E6B5D", Tries: 2, SentAt: at.Add(20 * time.Millisecond)},
		},
	}
}

type traceFixture struct {
	t *testing.T
	s trace.Store
}

func (f traceFixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	f.t.Cleanup(cancel)
	return ctx
}

func (f traceFixture) put(parts ...trace.Timeline) int {
	f.t.Helper()
	n, err := f.s.Put(f.ctx(), parts)
	return must(f.t, n, err)
}

// page returns the calls of one Find, merged.
func (f traceFixture) page(q trace.Query) ([]trace.Timeline, trace.Cursor) {
	f.t.Helper()
	if q.Limit == 0 {
		q.Limit = 100
	}
	parts, next, err := f.s.Find(f.ctx(), q)
	if err != nil {
		f.t.Fatal(err)
	}
	calls := trace.Merge(parts)
	slices.Reverse(calls)
	if len(calls) > q.Limit {
		f.t.Errorf("%d calls, the limit is %d", len(calls), q.Limit)
	}
	return calls, next
}

// find returns the IDs of the calls of all pages, by their numbers.
func (f traceFixture) find(q trace.Query) string {
	f.t.Helper()
	var ids []string
	for {
		calls, next := f.page(q)
		for _, c := range calls {
			ids = append(ids, strings.TrimLeft(strings.TrimPrefix(c.ID, "0f2a-"), "0"))
		}
		if next.IsZero() {
			return strings.Join(ids, " ")
		}
		q.Before = next
	}
}

func (f traceFixture) want(got, want string) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("found %q, want %q", got, want)
	}
}

// Each instance's part replaces its previous one. The parts are found together.
func testTraceParts(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	one := Timeline(1, "one")
	f.put(one, Timeline(2, "one"))
	two := trace.Timeline{Head: one.Head, Instance: "two", Reason: "answered", Omitted: 3,
		Events: []trace.Event{{At: one.StartedAt.Add(time.Second), Name: trace.Ended, Detail: "answered", Code: 200}}}
	f.put(two)
	one.Events = append(one.Events, trace.Event{At: one.StartedAt.Add(500 * time.Millisecond), Name: trace.Registered, Device: "device-9", Detail: "tls:192.0.2.7:1"})
	if n := f.put(one); n != 2 {
		t.Errorf("%d calls are kept", n)
	}
	parts, _, err := s.Find(f.ctx(), trace.Query{CallID: one.CallID, Limit: 1})
	slices.SortFunc(parts, func(a, b trace.Timeline) int { return strings.Compare(a.Instance, b.Instance) })
	if diff := cmp.Diff([]trace.Timeline{one, two}, must(t, parts, err)); diff != "" {
		t.Errorf("want - got +\n%s", diff)
	}
	f.want(f.find(trace.Query{Device: "device-9", Reason: "answered"}), "1") // of two parts
	f.want(f.find(trace.Query{Device: "device-9", Reason: "cancelled"}), "")
}

func testTraceTerms(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	other := Timeline(2, "one")
	other.AOR, other.Outcome, other.Reason = "zoë}%@example.org", "none", "timeout"
	other.Events[1].Provider, other.Events[2].Provider, other.Events[1].App, other.Events[2].App = "fcm", "fcm", "p", "p"
	other.CallID = "odd\x00\xff%{}"
	f.put(Timeline(1, "one"), other, Timeline(3, "one"))
	at := Timeline(2, "").StartedAt
	for _, c := range []struct {
		q    trace.Query
		want string
	}{
		{trace.Query{}, "3 2 1"},
		{trace.Query{AOR: aor}, "3 1"},
		{trace.Query{AOR: other.AOR}, "2"},
		{trace.Query{AOR: "alice"}, ""},
		{trace.Query{CallID: other.CallID}, "2"},
		{trace.Query{Device: "device-3"}, "3"},
		{trace.Query{Provider: "apns"}, "3 1"},
		{trace.Query{App: "p"}, "2"},
		{trace.Query{Outcome: "pushing"}, "3 1"},
		{trace.Query{Reason: "timeout"}, "2"},
		{trace.Query{Reason: "timeout", Outcome: "pushing"}, ""},
		{trace.Query{Since: at}, "3 2"},
		{trace.Query{Until: at}, "1"},
		{trace.Query{AOR: aor, Since: at}, "3"},
		{trace.Query{AOR: aor, Until: at}, "1"},
		{trace.Query{Since: at, Until: at.Add(time.Millisecond)}, "2"},
	} {
		if got := f.find(c.q); got != c.want {
			t.Errorf("%+v: found %q, want %q", c.q, got, c.want)
		}
	}
}

// A page continues where the last one ended, even among calls with the same start time.
func testTracePages(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	want := ""
	for n := 1; n <= 9; n++ {
		c := Timeline(n, "one")
		if n > 3 && n < 8 {
			c.StartedAt = Timeline(4, "").StartedAt
		}
		f.put(c)
		want = strings.TrimSpace(fmt.Sprint(n, " ", want))
	}
	for limit := 1; limit <= 10; limit++ {
		f.want(f.find(trace.Query{Limit: limit}), want)
		f.want(f.find(trace.Query{Limit: limit, AOR: aor}), want)
	}
	if calls, next := f.page(trace.Query{Limit: 9}); len(calls) != 9 || !next.IsZero() {
		t.Errorf("%d calls, next %v", len(calls), next)
	}
}

// One Find reads a limited number of calls.
func testTraceLook(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	var parts []trace.Timeline
	for n := 1; n <= trace.MaxLook+1; n++ {
		c := Timeline(n, "one")
		if c.Reason = "answered"; n == 1 {
			c.Reason = "timeout"
		}
		c.Events[1].Provider = "fcm"
		parts = append(parts, c)
	}
	f.put(parts...)
	q := trace.Query{AOR: aor, Reason: "timeout"}
	f.want(f.find(q), "1")
	calls, next := f.page(trace.Query{Reason: "answered", AOR: aor, Provider: "none"})
	if len(calls) != 0 || next.IsZero() {
		t.Errorf("%d calls, next %v", len(calls), next)
	}
	f.want(f.find(trace.Query{AOR: aor, Provider: "none"}), "")
}

func testTraceUsers(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	for n, user := range []string{"lin@example.com", "+493012345@example.com", "berlin@example.org", "linda@example.com"} {
		c := Timeline(n+1, "one")
		c.AOR = user
		f.put(c)
	}
	for part, want := range map[string]string{
		"lin": "berlin@example.org lin@example.com linda@example.com", "lin@example.com": "lin@example.com",
		"12345": "+493012345@example.com", "+49": "+493012345@example.com", "in@": "berlin@example.org lin@example.com",
		"carol": "", "@example.org": "berlin@example.org", "linx": "", "\xff": "",
	} {
		found, err := s.Users(f.ctx(), part, 9)
		slices.Sort(found)
		if got := strings.Join(must(t, found, err), " "); got != want {
			t.Errorf("%q found %q, want %q", part, got, want)
		}
	}
	if found, err := s.Users(f.ctx(), "lin", 2); len(must(t, found, err)) != 2 {
		t.Errorf("found %v", found)
	}
}

// Every query returns the same as checking every call.
func testTraceRandom(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	random := rand.New(rand.NewPCG(1, 2))
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	var all []trace.Timeline
	for n := 1; n <= 120; n++ {
		for _, instance := range []string{"one", "two"}[:1+random.IntN(2)] {
			c := Timeline(n, instance)
			c.AOR = "u" + fmt.Sprint(n%5) + "@example.com"
			c.Outcome, c.Reason = one("pushing", "awake", ""), one("answered", "cancelled", "")
			c.Events = c.Events[:random.IntN(4)]
			for i := range c.Events {
				c.Events[i].Device, c.Events[i].Provider = one("", "d1", "d2"), one("", "apns", "fcm")
			}
			all = append(all, c)
		}
	}
	shuffled := slices.Clone(all)
	random.Shuffle(len(all), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for part := range slices.Chunk(shuffled, 30) {
		f.put(part...)
	}
	all = trace.Merge(all)
	slices.Reverse(all)
	for range 150 {
		q := trace.Query{Limit: 1 + random.IntN(20), AOR: one("", "u1@example.com"), Outcome: one("", "", "awake"),
			Reason: one("", "", "answered"), Device: one("", "", "d1"), Provider: one("", "", "fcm")}
		if random.IntN(3) == 0 {
			q.Since, q.Until = Timeline(30, "").StartedAt, Timeline(90, "").StartedAt
		}
		var want []string
		for i := range all {
			if q.Match(&all[i]) {
				want = append(want, strings.TrimLeft(strings.TrimPrefix(all[i].ID, "0f2a-"), "0"))
			}
		}
		if got := f.find(q); got != strings.Join(want, " ") {
			// The outcome of a merged call depends on the order of its parts.
			if q.Outcome == "" && q.Reason == "" {
				t.Errorf("%+v\nfound %s\nwant  %s", q, got, strings.Join(want, " "))
			}
		}
	}
}

func testTraceUsage(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	nameless, nobodys, never, odd := Timeline(1, "one"), Timeline(2, ""), Timeline(3, "one"), Timeline(4, "one")
	nameless.ID, never.StartedAt, odd.ID = "", time.Time{}, "a\x00b"
	for _, bad := range []trace.Timeline{nameless, nobodys, never, odd} {
		if _, err := s.Put(f.ctx(), []trace.Timeline{bad}); err == nil {
			t.Errorf("taken: %+v", bad.Head)
		}
	}
	f.want(f.find(trace.Query{}), "")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err1 := s.Put(ctx, nil)
	_, _, err2 := s.Find(ctx, trace.Query{Limit: 1})
	_, err3 := s.Users(ctx, "a", 1)
	for i, err := range []error{err1, err2, err3} {
		if !errors.Is(err, wake.ErrUnavailable) {
			t.Errorf("cancelled %d: %v", i, err)
		}
	}
}

// A call that is too old is removed, with its user.
func testTraceRetention(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	young := Timeline(1, "one")
	young.StartedAt = time.Now()
	f.put(Timeline(2, "one"), young) // the one began long ago
	f.want(f.find(trace.Query{}), "1")
	for end := time.Now().Add(20 * time.Second); f.put() > 0; {
		if time.Now().After(end) {
			t.Fatal("a trace does not end")
		}
	}
	f.want(f.find(trace.Query{}), "")
	f.want(f.find(trace.Query{AOR: aor}), "")
	if found, err := s.Users(f.ctx(), "alice", 9); len(must(t, found, err)) > 0 {
		t.Errorf("users %v", found)
	}
}

// The oldest calls make room.
func testTraceCalls(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	for n := 1; n <= 8; n++ {
		c := Timeline(n, "one")
		c.AOR = fmt.Sprintf("u%d@example.com", n)
		if kept := f.put(c); kept != min(n, 5) {
			t.Errorf("%d calls, %d are kept", n, kept)
		}
	}
	f.want(f.find(trace.Query{}), "8 7 6 5 4")
	f.want(f.find(trace.Query{Provider: "apns"}), "8 7 6 5 4")
	found, err := s.Users(f.ctx(), "u", 9)
	if got := strings.Join(must(t, found, err), " "); got != "u4@example.com u5@example.com u6@example.com u7@example.com u8@example.com" {
		t.Errorf("users %s", got)
	}
}

// A call that is too long keeps its beginning and its end.
func testTraceBytes(t *testing.T, s trace.Store) {
	f := traceFixture{t, s}
	c := Timeline(1, "one")
	for i := range 500 {
		c.Events = append(c.Events, trace.Event{At: c.StartedAt.Add(time.Duration(i) * time.Second), Name: trace.Registered, Device: "d"})
	}
	c.Events = append(c.Events, trace.Event{At: c.StartedAt.Add(time.Hour), Name: trace.Ended})
	f.put(c)
	calls, _ := f.page(trace.Query{})
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	n := len(calls[0].Events)
	if n < 10 || n+calls[0].Omitted != len(c.Events) || calls[0].Events[0].Name != trace.Held || calls[0].Events[n-1].Name != trace.Ended {
		t.Errorf("%d events, %d omitted", n, calls[0].Omitted)
	}
}
