package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

const work = "work@example.com"

// moved removes what the rules would remove after the REGISTER.
func (f fixture) moved(r wake.Registration, previous []string) (went int) {
	for _, aor := range previous {
		went += f.remove(wake.Removal{AOR: aor, Token: r.Address.Tokens[0].Value, NotAfter: r.RegisteredAt, Unregistered: true}).Bindings
	}
	return went
}

// One phone with one token has two accounts, and both stay.
func testTwoAccounts(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	home, office := Registration(aor, 1), Registration(work, 1)
	if got := f.status(home, wake.StatusStored, 1); len(got.PreviousAORs) > 0 {
		t.Fatalf("previous AORs %q of a new token", got.PreviousAORs)
	}
	f.equal(f.byToken(token64(1)), []wake.Binding{home.Binding})
	got := f.status(office, wake.StatusStored, 1)
	f.equal(got.PreviousAORs, []string{aor})
	f.equal(f.moved(office, got.PreviousAORs), 0)
	both := []wake.Binding{home.Binding, office.Binding}
	for range 3 {
		got = f.status(home, wake.StatusRefreshed, 1)
		f.equal(got.PreviousAORs, []string{work})
		f.equal(f.moved(home, got.PreviousAORs), 0)
		got = f.status(office, wake.StatusRefreshed, 1)
		f.equal(got.PreviousAORs, []string{aor})
		f.equal(f.moved(office, got.PreviousAORs), 0)
		f.equal(f.byToken(token64(1)), both)
	}
	// Un-REGISTERs move nothing. The other account's REGISTER reports this one.
	gone := home
	gone.Gone, gone.ExpiresAt, gone.CSeq = true, time.Time{}, home.CSeq+1
	f.equal(len(f.status(gone, wake.StatusRefreshed, 1).PreviousAORs), 0)
	got = f.status(office, wake.StatusRefreshed, 1)
	f.equal(f.moved(office, got.PreviousAORs), 1)
	f.equal(f.byToken(token64(1)), []wake.Binding{office.Binding})
	f.equal(f.bindings(aor), []wake.Binding{})
	f.equal(len(f.status(office, wake.StatusRefreshed, 1).PreviousAORs), 0)
	// And back.
	home.CSeq += 2
	f.equal(f.status(home, wake.StatusStored, 1).PreviousAORs, []string{work})
	f.equal(f.remove(wake.Removal{AOR: work}), wake.RemovalResult{Bindings: 1})
	f.equal(len(f.status(home, wake.StatusRefreshed, 1).PreviousAORs), 0)
	f.equal(f.byToken(token64(1)), []wake.Binding{home.Binding})
}

// A registration that has expired is moved by the next REGISTER of another account.
func testAccountRunsOut(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	home, office := Registration(aor, 1), Registration(work, 1)
	home.RegisteredAt = home.RegisteredAt.Add(-time.Hour)
	home.ExpiresAt = home.RegisteredAt.Add(59 * time.Minute)
	f.status(home, wake.StatusStored, 1)
	late := home
	late.AOR, late.Late = "late@example.com", true // comes before those that are there
	f.equal(f.status(late, wake.StatusStored, 1).PreviousAORs, []string{aor})
	f.equal(len(f.byToken(token64(1))), 2)
	got := f.status(office, wake.StatusStored, 1)
	f.equal(got.PreviousAORs, []string{"late@example.com", aor})
	before := office
	before.RegisteredAt = home.RegisteredAt.Add(-time.Second)
	f.equal(f.moved(before, got.PreviousAORs), 0)
	f.equal(f.moved(office, got.PreviousAORs), 2)
	f.equal(f.byToken(token64(1)), []wake.Binding{office.Binding})
	f.equal(len(f.status(office, wake.StatusRefreshed, 1).PreviousAORs), 0)
}

// If an account has another token by now, a lookup removes its outdated index entry.
func testAccountForgotten(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	r := Registration(aor, 1)
	r.Address.Tokens = []pnparam.Token{{Service: pnparam.VoIP, Value: token64(1)}, {Service: pnparam.Remote, Value: token64(2)}}
	other := r
	other.AOR = work
	f.status(r, wake.StatusStored, 1)
	f.equal(f.status(other, wake.StatusStored, 1).PreviousAORs, []string{aor})
	r.Address.Tokens = []pnparam.Token{{Service: pnparam.VoIP, Value: token64(3)}}
	f.status(r, wake.StatusStored, 1)
	f.equal(len(f.status(other, wake.StatusRefreshed, 1).PreviousAORs), 0)
	f.equal(f.byToken(token64(2)), []wake.Binding{other.Binding})
	f.equal(f.byToken(token64(3)), []wake.Binding{r.Binding})
	// Only one of two tokens is removed.
	r.Address.Tokens = other.Address.Tokens
	f.equal(f.status(r, wake.StatusStored, 1).PreviousAORs, []string{work})
	f.equal(f.remove(wake.Removal{AOR: work, Token: token64(1), TokenOnly: true}), wake.RemovalResult{Tokens: 1})
	f.equal(len(f.byToken(token64(1))), 1)
	f.equal(len(f.byToken(token64(2))), 2)
}

// A token is found under a bounded number of AORs: those that registered last.
func testAccountsBounded(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	account := func(n int) wake.Registration { return Registration(fmt.Sprintf("account%02d@example.com", n), 1) }
	for n := range store.MaxAORs + 3 {
		f.status(account(n), wake.StatusStored, 1)
	}
	f.equal(len(f.byToken(token64(1))), store.MaxAORs)
	f.equal(f.byToken(token64(1))[0].AOR, account(3).AOR)
	f.status(account(3), wake.StatusRefreshed, 1) // so another one is the oldest
	f.equal(len(f.status(account(0), wake.StatusRefreshed, 1).PreviousAORs) >= store.MaxAORs-1, true)
	f.equal(len(f.status(account(90), wake.StatusStored, 1).PreviousAORs), store.MaxAORs)
	f.equal(f.byToken(token64(1))[0].AOR, account(0).AOR)
	f.equal(f.byToken(token64(1))[1].AOR, account(3).AOR)
	f.equal(len(f.bindings(account(1).AOR)), 1) // it is still bound
}

// Accounts that register at the same time are all found.
func testAccountsRace(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	for round := range 20 {
		var wg sync.WaitGroup
		for n := range store.MaxAORs {
			wg.Go(func() {
				for range 3 {
					r := Registration(fmt.Sprintf("race%d-%d@example.com", round, n), 1000+round)
					if _, err := s.Register(f.ctx(), r); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := len(f.byToken(token64(1000 + round))); got != store.MaxAORs {
			t.Fatalf("%d of %d accounts are found", got, store.MaxAORs)
		}
	}
}
