package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

func recentDevices(st wake.Started) []string {
	var list []string
	for _, r := range st.Recent {
		list = append(list, r.Device+"|"+r.Contact)
	}
	return list
}

func testRecentSeen(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	r := seen(aor, 1)
	f.status(r, wake.StatusNone, 0)
	f.status(r, wake.StatusNone, 0) // one for each device
	nameless := seen(aor, 2)
	nameless.Device = ""
	nameless.RegisteredAt = r.RegisteredAt.Add(time.Millisecond)
	f.status(nameless, wake.StatusNone, 0)
	bound := Registration(aor, 3)
	bound.RegisteredAt = r.RegisteredAt.Add(2 * time.Millisecond)
	f.status(bound, wake.StatusStored, 1)
	got := f.start(newWake(aor, "1"))
	r.CreatedAt, nameless.CreatedAt = time.Time{}, time.Time{}
	for i := range got.Recent {
		if got.Recent[i].Action == wake.ActionSeen {
			got.Recent[i].CreatedAt = time.Time{} // has no meaning here
		}
	}
	f.equal(got.Recent, []wake.Registration{r, nameless, bound})
	f.equal(got.Bindings, []wake.Binding{bound.Binding})

	// When a bound device is seen, that replaces its remembered REGISTER.
	alive := seen(aor, 3)
	alive.CallID, alive.CSeq = bound.CallID, bound.CSeq+1
	alive.RegisteredAt = bound.RegisteredAt.Add(time.Millisecond)
	f.status(alive, wake.StatusNone, 1)
	got = f.start(newWake(aor, "2"))
	if len(got.Recent) != 3 || got.Recent[2].Contact != alive.Contact || len(got.Bindings) != 1 {
		t.Errorf("recent %v, %d bindings", recentDevices(got), len(got.Bindings))
	}
	// And the other way round.
	bound.CSeq += 2
	f.status(bound, wake.StatusRefreshed, 1)
	got = f.start(newWake(aor, "3"))
	if len(got.Recent) != 3 || got.Recent[2].Contact != bound.Contact {
		t.Errorf("recent %v", recentDevices(got))
	}
	un := bound
	un.Action, un.CSeq, un.Address = wake.ActionUnbind, bound.CSeq+1, pnparam.Address{}
	f.status(un, wake.StatusRemoved, 0)
	if got = f.start(newWake(aor, "4")); len(got.Recent) != 3 || len(got.Bindings) != 0 {
		t.Errorf("after unbind: recent %v, %d bindings", recentDevices(got), len(got.Bindings))
	}
}

func testRecentGone(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	w := newWake(aor, "0")
	f.start(w)
	for n, r := range []wake.Registration{Registration(aor, 1), seen(aor, 2)} {
		if got := f.register(r); len(got.Wakes) != 1 {
			t.Errorf("%d: %d wakes, want 1", n, len(got.Wakes))
		}
		r.CSeq++
		r.Gone = true
		if got := f.register(r); len(got.Wakes) != 0 {
			t.Errorf("%d: gone was given %d wakes", n, len(got.Wakes))
		}
	}
	got := f.start(newWake(aor, "1"))
	if len(got.Recent) != 0 || len(got.Bindings) != 1 {
		t.Errorf("recent %v, %d bindings, want none and 1", recentDevices(got), len(got.Bindings))
	}
	back := Registration(aor, 1)
	back.CSeq += 2
	f.status(back, wake.StatusRefreshed, 1)
	if got := f.start(newWake(aor, "2")); len(got.Recent) != 1 {
		t.Errorf("recent %v, want the device that is back", recentDevices(got))
	}
}

// Contact "*" with expires 0 ends every registration of the user: no device is awake.
func testRecentAllGone(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	bound, desk, nameless := Registration(aor, 1), seen(aor, 2), seen(aor, 3)
	nameless.Device = ""
	f.status(bound, wake.StatusStored, 1)
	f.status(desk, wake.StatusNone, 1)
	f.status(nameless, wake.StatusNone, 1)
	other := seen("bob@example.com", 1)
	f.status(other, wake.StatusNone, 0)
	w := newWake(aor, "1")
	f.equal(len(f.start(w).Recent), 3)
	star := wake.Registration{Gone: true, Binding: wake.Binding{AOR: aor, Contact: "*", CallID: "star", CSeq: 7, RegisteredAt: bound.RegisteredAt}}
	f.equal(len(f.status(star, wake.StatusNone, 1).Wakes), 0)
	got := f.start(newWake(aor, "2"))
	bound.ExpiresAt = time.Time{}
	f.equal(got.Recent, []wake.Registration{})
	f.equal(got.Bindings, []wake.Binding{bound.Binding})
	f.equal(f.bindings(aor), []wake.Binding{bound.Binding})
	f.equal(len(f.start(newWake("bob@example.com", "3")).Recent), 1)
	// Earlier registrations do not come back, and a device that registers again is awake.
	desk.CSeq--
	f.status(desk, wake.StatusStale, 1)
	desk.CSeq += 2
	f.equal(len(f.status(desk, wake.StatusNone, 1).Wakes), 2)
	bound.CSeq++
	bound.ExpiresAt = bound.RegisteredAt.Add(time.Hour)
	f.status(bound, wake.StatusRefreshed, 1)
	f.equal(len(f.start(newWake(aor, "4")).Recent), 2)
	// A device without a name that ends its own registration does not affect others.
	nameless.CSeq++
	nameless.Gone = true
	f.status(nameless, wake.StatusNone, 1)
	f.equal(len(f.start(newWake(aor, "5")).Recent), 2)
	star.Contact, star.CSeq = "", 8
	f.status(star, wake.StatusNone, 1)
	f.equal(len(f.start(newWake(aor, "6")).Recent), 0)
}

func testRecentEnds(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	f.status(Registration(aor, 1), wake.StatusStored, 1)
	f.status(seen(aor, 2), wake.StatusNone, 1)
	for n := 0; ; n++ {
		w := newWake(aor, fmt.Sprint(n))
		got := f.start(w)
		f.end(w)
		if len(got.Bindings) != 1 {
			t.Fatalf("%d bindings, want 1", len(got.Bindings))
		}
		if len(got.Recent) == 0 {
			return
		}
		if n == 1000 {
			t.Fatalf("still remembered: %v", recentDevices(got))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func testWakesReturned(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	a, b, c := newWake(aor, "a"), newWake(aor, "b"), newWake(aor, "c")
	b.StartedAt = b.StartedAt.Add(-2 * time.Second)
	c.StartedAt = c.StartedAt.Add(-time.Second)
	for _, w := range []wake.Wake{a, b, c, newWake("bob@example.com", "d")} {
		if got := f.start(w); got.Ended || got.Duplicate || got.Forked || got.Full {
			t.Fatalf("start of %s: %+v", w.Call, got)
		}
	}
	for n, r := range []wake.Registration{Registration(aor, 1), Registration(aor, 1), seen(aor, 2)} {
		if got := f.register(r).Wakes; len(got) != 3 {
			t.Fatalf("%d: %d wakes, want 3", n, len(got))
		} else {
			f.equal(got, []wake.Wake{b, c, a})
		}
	}
	f.end(c)
	f.equal(f.register(seen(aor, 2)).Wakes, []wake.Wake{b, a})
	f.equal(f.register(Registration("carol@example.com", 3)).Wakes, []wake.Wake{})
}

func testWakeDeadline(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	short, long := newWake(aor, "short"), newWake(aor, "long")
	short.Deadline = short.StartedAt.Add(5 * time.Second)
	long.StartedAt = short.StartedAt.Add(time.Millisecond) // the order is theirs
	f.start(short)
	f.start(long)
	r := Registration(aor, 1)
	r.RegisteredAt = short.Deadline
	f.equal(f.register(r).Wakes, []wake.Wake{short, long})
	r.RegisteredAt = short.Deadline.Add(time.Millisecond)
	f.equal(f.register(r).Wakes, []wake.Wake{long})
	fork := newWake(aor, "fork")
	fork.CallID, fork.StartedAt = short.CallID, short.Deadline.Add(time.Millisecond)
	if got := f.start(fork); got.Forked {
		t.Error("forked from a wake past its deadline")
	}
	again := short
	again.ID, again.StartedAt, again.Deadline = "again", fork.StartedAt, fork.Deadline
	if got := f.start(again); got.Duplicate {
		t.Error("duplicate of a wake past its deadline")
	}
}

// A call continues to ring past its deadline, and its end finds it.
func testWakeRings(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	w := newWake(aor, "rings")
	w.StartedAt, w.Deadline = w.StartedAt.Add(-40*time.Second), w.StartedAt.Add(-10*time.Second)
	first := f.start(w)
	f.equal(f.register(Registration(aor, 1)).Wakes, []wake.Wake{})
	if got := f.start(w); got.Duplicate || got.Forked != first.Forked {
		t.Errorf("the same Start again: %+v", got)
	}
	f.equal(f.end(w), wake.Ended{Known: true, Wake: w})
	f.equal(f.end(w), wake.Ended{})
}

func testWakeDuplicate(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	f.register(Registration(aor, 1))
	w := newWake(aor, "1")
	first := f.start(w)
	again := w
	again.ID = "another"
	if got := f.start(again); !got.Duplicate || got.Ended || got.Forked {
		t.Errorf("retransmission: %+v, want a duplicate", got)
	}
	again = w // another instance gives the request the same ID
	again.Owner = "another"
	if got := f.start(again); !got.Duplicate || got.Ended || got.Forked {
		t.Errorf("another owner: %+v, want a duplicate", got)
	}
	f.equal(f.start(w), first) // the same Start, asked again
	f.equal(f.register(Registration(aor, 1)).Wakes, []wake.Wake{w})
	f.equal(f.end(w), wake.Ended{Known: true, Wake: w})
}

func testWakeForked(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	w := newWake(aor, "1")
	f.start(w)
	node, call, other := newWake(aor, "1"), newWake(aor, "2"), newWake(aor, "3")
	node.ID, node.Node = "x", "edge-2"
	call.CallID = w.CallID
	if got := f.start(node); !got.Forked || got.Duplicate {
		t.Errorf("same Call-ID at another node: %+v, want forked", got)
	}
	if got := f.start(call); !got.Forked || got.Duplicate {
		t.Errorf("same Call-ID with another call: %+v, want forked", got)
	}
	if got := f.start(other); got.Forked {
		t.Error("another Call-ID is forked")
	}
	if f.start(w).Forked || !f.start(node).Forked {
		t.Error("a Start that is repeated is answered in another way")
	}
	if got := len(f.register(seen(aor, 1)).Wakes); got != 4 {
		t.Errorf("%d wakes, want all 4", got)
	}
	bob := newWake("bob@example.com", "1")
	if got := f.start(bob); got.Forked || got.Duplicate {
		t.Errorf("the same call for another user: %+v", got)
	}
}

// A wake for one device keeps it, and forks only from one that has pushed that device.
func testWakeOfOneDevice(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	of := func(call, instance string) wake.Wake {
		w := newWake(aor, call)
		w.CallID, w.Instance = "same", instance
		return w
	}
	one, two, longer := of("1", "urn:uuid:1"), of("2", "urn:uuid:2"), of("3", "urn:uuid:12")
	all := []wake.Wake{one, two, longer}
	for _, w := range all {
		if f.start(w).Forked {
			t.Errorf("the first wake for %s is forked", w.Instance)
		}
	}
	whole := of("4", "")
	if f.start(whole).Forked {
		t.Error("a wake for all devices is forked from those for one")
	}
	all = append(all, whole)
	got := f.register(seen(aor, 1)).Wakes
	slices.SortFunc(got, func(a, b wake.Wake) int { return cmp.Compare(a.Call, b.Call) })
	f.equal(got, all)
	if !f.start(of("5", "urn:uuid:9")).Forked || f.start(one).Forked {
		t.Error("forked from a wake for all devices: a new one is, the first is not")
	}
	f.end(whole)
	if !f.start(of("6", "urn:uuid:12")).Forked || f.start(of("7", "urn:uuid:123")).Forked {
		t.Error("forked from a wake for the same device, and not from that for another")
	}
}

func testWakeFull(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	for n := range store.MaxWakes {
		if got := f.start(newWake(aor, fmt.Sprint(n))); got.Full {
			t.Fatalf("full with %d wakes", n)
		}
	}
	if got := f.start(newWake(aor, "more")); !got.Full {
		t.Error("not full")
	}
	if got := len(f.register(seen(aor, 1)).Wakes); got != store.MaxWakes {
		t.Errorf("%d wakes, want %d", got, store.MaxWakes)
	}
	f.end(newWake(aor, "3"))
	if got := f.start(newWake(aor, "more")); got.Full {
		t.Error("full with room for one")
	}
	if got := f.start(newWake("bob@example.com", "1")); got.Full {
		t.Error("full for another user")
	}
}

func testEnd(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	w := newWake(aor, "1")
	f.start(w)
	f.equal(f.end(newWake(aor, "2")), wake.Ended{})
	f.equal(f.end(newWake("bob@example.com", "1")), wake.Ended{})
	other := w
	other.Node = "edge-2"
	f.equal(f.end(other), wake.Ended{})
	f.equal(f.end(w), wake.Ended{Known: true, Wake: w})
	f.equal(f.end(w), wake.Ended{})
	f.equal(f.register(seen(aor, 1)).Wakes, []wake.Wake{})
}
