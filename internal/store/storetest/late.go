package storetest

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// late returns the registration as one that came some time ago, with its own Call-ID
// and CSeq.
func late(r wake.Registration, ago time.Duration, callID string) wake.Registration {
	r.Late, r.CallID = true, callID
	r.RegisteredAt = r.RegisteredAt.Add(-ago)
	r.ExpiresAt = r.ExpiresAt.Add(-ago)
	r.CreatedAt = r.RegisteredAt
	return r
}

// A REGISTER that is stored late never replaces a later one.
func testLateOrder(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	now := Registration(aor, 1)
	f.status(now, wake.StatusStored, 1)
	before := f.bindings(aor)
	old := late(now, time.Minute, "another dialog")
	f.status(old, wake.StatusStale, 1)
	old.Action = wake.ActionUnbind
	f.status(old, wake.StatusStale, 1)
	other := late(Registration(aor, 1), time.Minute, "of another device")
	other.Device = "<urn:uuid:another>" // the app has been reinstalled since
	f.status(other, wake.StatusStale, 1)
	lower := late(now, -time.Minute, now.CallID)
	lower.CSeq = now.CSeq - 1
	f.status(lower, wake.StatusStale, 1)
	f.equal(f.bindings(aor), before)

	higher := late(now, time.Second, now.CallID)
	higher.CSeq = now.CSeq + 1
	f.status(higher, wake.StatusRefreshed, 1)
	newer := late(now, -time.Second, "another dialog")
	newer.Address.Tokens = Registration(aor, 2).Address.Tokens
	f.status(newer, wake.StatusStored, 1)
	f.equal(f.bindings(aor)[0].Address, newer.Address)
	f.equal(len(f.byToken(token64(2))), 1)
	gone := late(newer, -time.Second, newer.CallID)
	gone.CSeq++
	gone.Gone, gone.ExpiresAt = true, time.Time{}
	f.status(gone, wake.StatusRefreshed, 1)
	f.equal(f.bindings(aor)[0].ExpiresAt.IsZero(), true)
	f.status(newer, wake.StatusStale, 1)
	unbind := late(gone, -time.Second, "a fourth")
	unbind.Action, unbind.Gone = wake.ActionUnbind, false
	f.status(unbind, wake.StatusRemoved, 0)
}

// A REGISTER that is stored late does not show that the device is awake, except for
// wakes that were held when it came.
func testLateWakes(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	earlier, later := newWake(aor, "earlier"), newWake(aor, "later")
	earlier.StartedAt = earlier.StartedAt.Add(-10 * time.Second)
	over := newWake(aor, "over")
	over.StartedAt, over.Deadline = over.StartedAt.Add(-20*time.Second), over.StartedAt.Add(-2*time.Second)
	for _, w := range []wake.Wake{earlier, later, over} {
		f.start(w)
	}
	r := late(Registration(aor, 1), 5*time.Second, "x")
	got := f.status(r, wake.StatusStored, 1)
	f.equal(got.Wakes, []wake.Wake{earlier})
	f.equal(f.status(r, wake.StatusRefreshed, 1).Wakes, []wake.Wake{earlier})
	st := f.start(newWake(aor, "next"))
	if len(st.Bindings) != 1 || len(st.Recent) != 0 {
		t.Errorf("after a late REGISTER: %d bindings, recent %v", len(st.Bindings), st.Recent)
	}
	r.Gone = true
	f.equal(len(f.register(r).Wakes), 0)
}
