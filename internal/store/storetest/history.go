package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

func (f fixture) removals(s wake.History, aor string) []wake.RemovalNote {
	f.t.Helper()
	list, err := s.Removals(f.ctx(), aor)
	return must(f.t, list, err)
}

// Everything that removes a binding leaves a note, and nothing else does.
func testHistory(t *testing.T, s Store) {
	f := fixture{t, s}
	began := time.Now().Add(-time.Second)
	var want []wake.RemovalNote
	noted := func(device, reason string) {
		t.Helper()
		want = append(want, wake.RemovalNote{Device: device, Provider: pnparam.APNs, App: "com.example.phone", Reason: reason})
		got := f.removals(s, aor)
		for i := range got {
			if at := got[i].At; at.Before(began) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("%s: at %s", got[i].Reason, at)
			}
			got[i].At = time.Time{}
		}
		f.equal(got, want)
	}
	f.equal(len(f.removals(s, aor)), 0)
	r := Registration(aor, 1)
	un := r
	un.Action = wake.ActionUnbind
	f.status(un, wake.StatusNone, 0)
	f.status(r, wake.StatusStored, 1)
	f.status(un, wake.StatusRemoved, 0)
	noted(r.Device, wake.RemovedUnbind)

	r.Address.Tokens = append(r.Address.Tokens, pnparam.Token{Service: pnparam.Remote, Value: token64(9)})
	f.status(r, wake.StatusStored, 1)
	f.equal(f.remove(wake.Removal{AOR: aor, Token: token64(8), Reason: "nobody"}), wake.RemovalResult{})
	f.equal(f.remove(wake.Removal{AOR: aor, Token: token64(9), TokenOnly: true, Reason: "token_dead"}), wake.RemovalResult{Tokens: 1})
	f.equal(len(f.removals(s, aor)), 1)
	f.equal(f.remove(wake.Removal{AOR: aor, Token: token64(1), TokenOnly: true, Reason: "token_dead"}), wake.RemovalResult{Bindings: 1})
	noted(r.Device, "token_dead")
	f.equal(f.remove(wake.Removal{AOR: aor, Token: token64(1), TokenOnly: true, Reason: "token_dead"}), wake.RemovalResult{})

	f.status(r, wake.StatusStored, 1)
	r.Address.Environment = pnparam.Sandbox
	f.status(r, wake.StatusStored, 1)
	gone := r
	gone.Gone = true
	f.status(gone, wake.StatusRefreshed, 1)
	again := r
	again.Device = "installed anew"
	f.status(again, wake.StatusStored, 1)
	noted(r.Device, wake.RemovedReplaced)
	late := late(Registration(aor, 2), -time.Minute, "late")
	late.Address.Tokens = again.Address.Tokens
	f.status(late, wake.StatusStored, 1)
	noted(again.Device, wake.RemovedReplaced)
	late.Action, late.CSeq = wake.ActionUnbind, late.CSeq+1
	f.status(late, wake.StatusRemoved, 0)
	noted(late.Device, wake.RemovedUnbind)
	f.equal(len(f.removals(s, "bob@example.com")), 0)
}

func testHistoryBounded(t *testing.T, s Store) {
	f := fixture{t, s}
	for n := range store.MaxDevices + 3 {
		r := Registration(aor, n)
		r.RegisteredAt = r.RegisteredAt.Add(time.Duration(n) * time.Millisecond)
		f.register(r)
	}
	got := f.removals(s, aor)
	f.equal(len(got), 3)
	for n := range got {
		f.equal(got[n].Device, Registration(aor, n).Device)
		f.equal(got[n].Reason, wake.RemovedTooMany)
	}
	parallel(t, 4, 3*store.MaxNotes, func(n int) error {
		r := Registration(fmt.Sprintf("user%d@example.com", n%2), n)
		if _, err := s.Register(f.ctx(), r); err != nil {
			return err
		}
		_, err := s.Remove(f.ctx(), wake.Removal{AOR: r.AOR, Device: r.Device, Reason: "moved"})
		return err
	})
	f.equal(len(f.removals(s, "user0@example.com")), store.MaxNotes)
	f.equal(f.remove(wake.Removal{AOR: aor, Reason: "operator"}), wake.RemovalResult{Bindings: store.MaxDevices})
	got = f.removals(s, aor)
	f.equal(len(got), store.MaxNotes)
	for _, n := range got {
		f.equal(n.Reason, "operator")
	}
	// Odd or long names are returned, in full or in part.
	r := Registration("}{\x00\xff@example.com", 1)
	r.Device = "dev\x00\xff{}"
	f.status(r, wake.StatusStored, 1)
	f.remove(wake.Removal{AOR: r.AOR, Reason: "x"})
	f.equal(f.removals(s, r.AOR)[0].Device, r.Device)
}
