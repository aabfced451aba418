package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sipwake/sipwake/internal/cluster"
	"github.com/sipwake/sipwake/internal/wake"
)

// PeerStore is what RunPeers tests.
type PeerStore interface {
	wake.Store
	cluster.Store
}

// RunPeers tests cluster.Store with two instances that share one empty store.
func RunPeers(t *testing.T, one, two PeerStore) {
	t.Run("Beat", func(t *testing.T) { testBeat(t, one, two) })
	t.Run("Adopt", func(t *testing.T) { testAdopt(t, one, two) })
	t.Run("AdoptRace", func(t *testing.T) { testAdoptRace(t, one, two) })
	t.Run("AdoptRings", func(t *testing.T) { testAdoptRings(t, one, two) })
	t.Run("AdoptFork", func(t *testing.T) { testAdoptFork(t, one, two) })
	t.Run("Reread", func(t *testing.T) { testReread(t, one, two) })
	t.Run("News", func(t *testing.T) { testNews(t, one, two) })
}

func beat(t *testing.T, s cluster.Store, instance string, ttl time.Duration) (living, dead []string) {
	t.Helper()
	living, dead, err := s.Beat(t.Context(), instance, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return living, dead
}

// has waits until an instance counts as alive or dead.
func has(t *testing.T, what string, s cluster.Store, id string, isDead bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		living, dead := beat(t, s, "watcher-"+id, time.Minute)
		if isDead && slices.Contains(dead, id) || !isDead && slices.Contains(living, id) {
			return
		}
	}
	t.Fatalf("%s: never", what)
}

func testBeat(t *testing.T, one, two PeerStore) {
	if living, dead := beat(t, one, "alpha", time.Minute); !slices.Equal(living, []string{"alpha"}) || len(dead) > 0 {
		t.Errorf("alone: %v live, %v are dead", living, dead)
	}
	beat(t, two, "beta", time.Millisecond)
	has(t, "one that fell silent is dead", one, "beta", true)
	beat(t, two, "beta", time.Minute)
	has(t, "one that beats again lives", one, "beta", false)
	if err := two.Leave(t.Context(), "beta"); err != nil {
		t.Fatal(err)
	}
	has(t, "one that left is dead", one, "beta", true)
	adopt(t, one, "beta", "alpha")
	if _, dead := beat(t, one, "alpha", time.Minute); slices.Contains(dead, "beta") {
		t.Error("one whose wakes are adopted is named again")
	}
	for _, id := range []string{"alpha", "watcher-beta"} {
		if err := one.Leave(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		adopt(t, one, id, "alpha")
	}
	// The store was away for all instances.
	beat(t, one, "alpha", time.Millisecond)
	time.Sleep(10 * time.Millisecond) // for its time to be over
	if living, dead := beat(t, two, "gamma", time.Minute); !slices.Contains(living, "alpha") || len(dead) > 0 {
		t.Errorf("nobody could beat, and %v are dead", dead)
	}
}

type adopted struct {
	wake    wake.Wake
	started wake.Started
}

func adopt(t *testing.T, s cluster.Store, dead, owner string) (all []adopted) {
	t.Helper()
	err := s.Adopt(t.Context(), dead, owner, func(w wake.Wake, st wake.Started) { all = append(all, adopted{w, st}) })
	if err != nil {
		t.Error(err)
	}
	return all
}

// adoptN repeats adopt until it has n wakes: a store may record the owner of a wake a
// moment after Start.
func adoptN(t *testing.T, s cluster.Store, dead, owner string, n int) (all []adopted) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); len(all) < n && time.Now().Before(end); {
		all = append(all, adopt(t, s, dead, owner)...)
	}
	return all
}

// sameMoment: two instances need not agree to the microsecond.
var sameMoment = cmpopts.EquateApproxTime(100 * time.Millisecond)

// ownedWake returns the n-th wake of an AOR, with everything that its pushes contain.
func ownedWake(aor, owner string, n int) wake.Wake {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return wake.Wake{ID: fmt.Sprintf("0193e1c4-0000-7000-8000-%012x", n), AOR: aor, Node: "edge-1", Call: fmt.Sprintf("%d:1", n),
		CallID: fmt.Sprintf("call-%d@pc33", n), Kind: "call", StartedAt: now, Deadline: now.Add(time.Minute), Owner: owner,
		From: "sip:bob@example.com", Display: "Bob \"B\" <b>", Media: "audio", Body: "\x00\xff", Urgent: true}
}

func startOwned(t *testing.T, s wake.Store, w wake.Wake) {
	t.Helper()
	if st, err := s.Start(t.Context(), w); err != nil || st.Ended || st.Duplicate {
		t.Fatalf("%+v, %v", st, err)
	}
}

func testAdopt(t *testing.T, one, two PeerStore) {
	const aor = "adopt@example.com"
	r := Registration(aor, 1)
	if _, err := one.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	open, over, other := ownedWake(aor, "dead", 1), ownedWake(aor, "dead", 2), ownedWake(aor, "alive", 3)
	for _, w := range []wake.Wake{open, over, other} {
		startOwned(t, one, w)
	}
	one.Pushed(open, r.Device)
	if _, err := one.End(t.Context(), aor, over.Node, over.Call); err != nil {
		t.Fatal(err)
	}
	got := adoptN(t, two, "dead", "heir", 1)
	if len(got) != 1 {
		t.Fatalf("adopted %+v", got)
	}
	want := open
	want.Owner, want.Pushed = "heir", []string{r.Device}
	if diff := cmp.Diff(want, got[0].wake, sameMoment); diff != "" {
		t.Errorf("the wake (-want +got):\n%s", diff)
	}
	if b := got[0].started.Bindings; len(b) != 1 || b[0].Device != r.Device {
		t.Errorf("its bindings: %+v", b)
	}
	if again := adopt(t, two, "dead", "another"); len(again) > 0 {
		t.Errorf("adopted twice: %+v", again)
	}
	// The heir's own end.
	if got := adoptN(t, one, "heir", "next", 1); len(got) != 1 || got[0].wake.Owner != "next" {
		t.Errorf("not adopted from the heir: %+v", got)
	}
	if ended, err := one.End(t.Context(), aor, open.Node, open.Call); err != nil || !ended.Known || ended.Wake.Owner != "next" {
		t.Errorf("end: %+v, %v", ended, err)
	}
}

// testAdoptRings: a call that rings past its deadline is adopted like any other.
func testAdoptRings(t *testing.T, one, two PeerStore) {
	w := ownedWake("rings@example.com", "silent", 2000)
	w.StartedAt, w.Deadline = w.StartedAt.Add(-time.Minute), w.StartedAt.Add(-20*time.Second)
	startOwned(t, one, w)
	beat(t, one, "silent", time.Minute)
	if st, err := one.Reread(t.Context(), w); err != nil || st.Ended {
		t.Errorf("reread: %+v, %v", st, err)
	}
	got := adoptN(t, two, "silent", "heir", 1)
	w.Owner = "heir"
	if len(got) != 1 || !cmp.Equal(got[0].wake, w, sameMoment) {
		t.Fatalf("adopted %+v", got)
	}
	if ended, err := one.End(t.Context(), w.AOR, w.Node, w.Call); err != nil || !ended.Known {
		t.Errorf("end: %+v, %v", ended, err)
	}
}

// testAdoptFork: the adopter of the second branch of a call knows that it is forked.
func testAdoptFork(t *testing.T, one, two PeerStore) {
	first, second := ownedWake("fork@example.com", "one", 3000), ownedWake("fork@example.com", "one", 3001)
	second.CallID, second.Node = first.CallID, "edge-2"
	second.Instance = "urn:uuid:1"
	startOwned(t, one, first)
	if st, err := one.Start(t.Context(), second); err != nil || !st.Forked {
		t.Fatalf("second branch: %+v, %v", st, err)
	}
	one.Pushed(second, "another device")
	owner := "one"
	for _, heir := range []string{"two", "three"} {
		all := adoptN(t, two, owner, heir, 2)
		for _, a := range all {
			if is := a.wake.ID == second.ID; a.started.Forked != is || a.wake.Forked != is {
				t.Errorf("%s: forked %t, %t", a.wake.ID, a.started.Forked, a.wake.Forked)
			}
		}
		if len(all) != 2 {
			t.Fatalf("%d adopted", len(all))
		}
		owner = heir
	}
	for _, w := range []wake.Wake{first, second} {
		w.Owner = owner
		if st, err := two.Reread(t.Context(), w); err != nil || st.Forked != (w.ID == second.ID) {
			t.Errorf("reread %s: %+v, %v", w.ID, st, err)
		}
		if st, err := two.Start(t.Context(), w); err != nil || st.Forked != (w.ID == second.ID) {
			t.Errorf("repeated %s: %+v, %v", w.ID, st, err)
		}
	}
	// The end of the first branch does not turn the second into a first one.
	if _, err := two.End(t.Context(), first.AOR, first.Node, first.Call); err != nil {
		t.Fatal(err)
	}
	if got := adoptN(t, one, owner, "four", 1); len(got) != 1 || !got[0].started.Forked {
		t.Errorf("adopted %+v", got)
	}
}

// testAdoptRace: each wake goes to one of two heirs.
func testAdoptRace(t *testing.T, one, two PeerStore) {
	const wakes = 300
	for n := range wakes {
		startOwned(t, one, ownedWake(fmt.Sprintf("race%d@example.com", n), "late", 1000+n))
	}
	var mu sync.Mutex
	heirs := make(map[string][]string)
	var wg sync.WaitGroup
	for i, s := range []PeerStore{one, two, one, two} {
		wg.Go(func() {
			id := fmt.Sprint("heir", i)
			for _, a := range adopt(t, s, "late", id) {
				mu.Lock()
				heirs[a.wake.AOR] = append(heirs[a.wake.AOR], id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(heirs) != wakes {
		t.Errorf("%d of %d wakes adopted", len(heirs), wakes)
	}
	for aor, ids := range heirs {
		if len(ids) != 1 {
			t.Errorf("%s was adopted by %v", aor, ids)
		}
	}
}

func testReread(t *testing.T, one, two PeerStore) {
	const aor = "reread@example.com"
	w := ownedWake(aor, "owner", 5000)
	startOwned(t, one, w)
	r := Registration(aor, 7)
	if _, err := two.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	st, err := one.Reread(t.Context(), w)
	if err != nil || len(st.Bindings) != 1 || len(st.Recent) != 1 || st.Recent[0].Device != r.Device {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := two.End(t.Context(), aor, w.Node, w.Call); err != nil {
		t.Fatal(err)
	}
	if st, err := one.Reread(t.Context(), w); err != nil || !st.Ended {
		t.Errorf("after its end: %+v, %v", st, err)
	}
}

func testNews(t *testing.T, one, two PeerStore) {
	ctx, cancel := context.WithCancel(t.Context())
	news := make(chan cluster.Message, 1000)
	done := make(chan error, 1)
	go func() { done <- two.Listen(ctx, func(n cluster.Message) { news <- n }) }()
	want := cluster.Message{Event: wake.Event{Type: wake.EventEnded, Node: "edge-1", Call: "1:1", AOR: aor, Detail: "cancelled \x01\""}}
	timeout := time.After(30 * time.Second)
	for heard := false; !heard; {
		one.Publish(want) // until it listens
		select {
		case n := <-news:
			if diff := cmp.Diff(want, n); diff != "" {
				t.Errorf("news (-want +got):\n%s", diff)
			}
			heard = true
		case <-time.After(10 * time.Millisecond):
		case <-timeout:
			t.Fatal("never heard")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
