package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

func testRegisterBeforeStart(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	f.register(seen(aor, 1))
	f.register(Registration(aor, 2))
	got := f.start(newWake(aor, "1"))
	if len(got.Recent) != 2 || len(got.Bindings) != 1 {
		t.Fatalf("recent %v, %d bindings: the phones that are awake are not found", recentDevices(got), len(got.Bindings))
	}
}

func testEndBeforeStart(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	f.register(Registration(aor, 1))
	w := newWake(aor, "1")
	f.equal(f.end(w), wake.Ended{})
	for range 2 {
		if got := f.start(w); !got.Ended {
			t.Fatalf("start after its end: %+v", got)
		}
	}
	f.equal(f.register(Registration(aor, 1)).Wakes, []wake.Wake{})
}

func testStale(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	f.start(newWake(aor, "1"))
	r := Registration(aor, 1)
	f.status(r, wake.StatusStored, 1)
	stale := func(r wake.Registration) {
		t.Helper()
		before := f.bindings(r.AOR)
		got := f.register(r)
		if got.Status != wake.StatusStale || len(got.Wakes) != 0 {
			t.Errorf("CSeq %d, action %d, gone %t: %s with %d wakes, want stale with none", r.CSeq, r.Action, r.Gone, got.Status, len(got.Wakes))
		}
		f.equal(f.bindings(r.AOR), before)
	}
	variants := func(r wake.Registration) []wake.Registration {
		var list []wake.Registration
		for _, a := range []wake.Action{wake.ActionBind, wake.ActionUnbind, wake.ActionSeen} {
			for _, gone := range []bool{false, true} {
				v := r
				v.Action, v.Gone, v.Contact = a, gone, "sip:late"
				v.Address.Tokens = []pnparam.Token{{Value: token64(99)}}
				list = append(list, v)
			}
		}
		return list
	}
	older := r
	older.CSeq--
	for _, v := range variants(older) {
		stale(v)
	}
	f.status(r, wake.StatusRefreshed, 1) // a retransmission
	other := older
	other.CallID = "another"
	f.status(other, wake.StatusRefreshed, 1)

	// The same without a binding: a late Bind must not undo an Unbind.
	un := other
	un.Action, un.CSeq = wake.ActionUnbind, 200
	f.status(un, wake.StatusRemoved, 0)
	late := other
	late.CSeq = 199
	stale(late)
	gone := late
	gone.Gone, gone.CSeq = true, 300
	f.status(gone, wake.StatusNone, 0)
	late.CSeq = 299
	for _, v := range variants(late) {
		stale(v)
	}
	sign := seen("carol@example.com", 3)
	f.register(sign)
	sign.CSeq--
	stale(sign)
}

// If REGISTERs come in any order, the one with the highest CSeq stays.
func testCSeqRace(t *testing.T, s wake.Store) {
	const rounds, last = 20, 16
	f := fixture{t, s}
	for round := range rounds {
		name := fmt.Sprintf("cseq%d@example.com", round)
		var wg sync.WaitGroup
		for _, i := range rand.Perm(last) {
			wg.Go(func() {
				r := Registration(name, round)
				r.CSeq = uint32(1 + i)
				r.Contact = fmt.Sprintf("sip:%d", r.CSeq)
				if _, err := s.Register(f.ctx(), r); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got := f.bindings(name)
		if len(got) != 1 || got[0].CSeq != last || got[0].Contact != fmt.Sprintf("sip:%d", last) {
			t.Fatalf("bindings %+v, want CSeq %d", got, last)
		}
	}
}

// met reports whether a REGISTER and a wake found each other.
func met(w wake.Wake, started wake.Started, r wake.Registration, registered wake.Registered) (byRegister, byStart bool) {
	byRegister = slices.ContainsFunc(registered.Wakes, func(o wake.Wake) bool { return o.ID == w.ID })
	byStart = slices.ContainsFunc(started.Recent, func(o wake.Registration) bool {
		return o.Device == r.Device && o.CSeq == r.CSeq && o.Contact == r.Contact
	})
	return byRegister, byStart
}

// When a REGISTER and a wake of one AOR run at the same time, the REGISTER returns the
// wake, or the wake returns the registration, or both.
func testNoLostWake(t *testing.T, s wake.Store) {
	const workers, rounds = 8, 60
	ctx := fixture{t, s}.ctx()
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), uint64(time.Now().UnixNano())))
			for round := range rounds {
				n := worker*rounds + round
				name := fmt.Sprintf("race%d@example.com", n)
				r := Registration(name, n)
				switch rnd.IntN(3) {
				case 0:
					r = seen(name, n)
				case 1: // a known binding
					if _, err := s.Register(ctx, r); err != nil {
						t.Error(err)
						return
					}
					r.CSeq++
				}
				w := newWake(name, "1")
				r.RegisteredAt = w.StartedAt
				var started wake.Started
				var startErr error
				var pair sync.WaitGroup
				pair.Go(func() { started, startErr = s.Start(ctx, w) })
				registered, err := s.Register(ctx, r)
				pair.Wait()
				if err != nil || startErr != nil {
					t.Error(err, startErr)
					return
				}
				if a, b := met(w, started, r, registered); !a && !b {
					t.Errorf("lost wake: action %d was given %d wakes, the start saw %d recent", r.Action, len(registered.Wakes), len(started.Recent))
					return
				}
			}
		})
	}
	wg.Wait()
}

type start struct {
	wake.Wake
	got   wake.Started
	ended time.Time // when its End was called
}

type register struct {
	wake.Registration
	got  wake.Registered
	done time.Time
}

// The same, while all other operations run on the same AORs.
func testRandom(t *testing.T, s wake.Store) {
	const aors, workers, steps = 8, 12, 60
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var mu sync.Mutex
	var starts []start
	var registers []register
	var wg sync.WaitGroup
	began := time.Now()
	for worker := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 7))
			for step := range steps {
				name := fmt.Sprintf("busy%d@example.com", rnd.IntN(aors))
				noise := Registration(name, 1000*(1+rnd.IntN(aors))+worker)
				var err error
				switch rnd.IntN(10) {
				case 0, 1, 2:
					w := newWake(name, fmt.Sprintf("%d-%d", worker, step))
					st := start{Wake: w}
					if st.got, err = s.Start(ctx, w); err == nil && rnd.IntN(2) == 0 { // keep some room
						st.ended = time.Now()
						_, err = s.End(ctx, name, w.Node, w.Call)
					}
					if !st.got.Full {
						mu.Lock()
						starts = append(starts, st)
						mu.Unlock()
					}
				case 3, 4, 5, 6:
					// Every device registers once, so that nothing replaces it, and there are
					// so few that an AOR has room for all.
					r := Registration(name, worker*steps+step+10_000)
					if rnd.IntN(5) > 0 {
						r = seen(name, worker*steps+step+10_000)
					}
					var got wake.Registered
					if got, err = s.Register(ctx, r); err == nil {
						mu.Lock()
						registers = append(registers, register{r, got, time.Now()})
						mu.Unlock()
					}
				case 7:
					noise.Action = wake.Action(rnd.IntN(3))
					noise.Gone = rnd.IntN(2) == 0
					noise.CSeq = rnd.Uint32N(20)
					_, err = s.Register(ctx, noise)
				case 8:
					_, err = s.Remove(ctx, wake.Removal{AOR: name, Device: noise.Device})
				case 9:
					_, err = s.End(ctx, name, "edge-1", fmt.Sprint("never", rnd.IntN(100)))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if time.Since(began) > 2*time.Second {
		t.Logf("took %s: only the start of it is remembered, checking less", time.Since(began))
	}
	checkMet(t, starts, registers)
}

// checkMet fails if neither a start nor a register found the other.
func checkMet(t *testing.T, starts []start, registers []register) {
	t.Helper()
	lost, checked := 0, 0
	for _, w := range starts {
		for _, r := range registers {
			if w.AOR != r.AOR {
				continue
			}
			// A start long after the REGISTER need not see it, and a wake that ended
			// before the REGISTER was done need not be returned by it.
			if w.StartedAt.Sub(r.RegisteredAt) > 1500*time.Millisecond || !w.ended.IsZero() && !r.done.Before(w.ended) {
				continue
			}
			checked++
			if a, b := met(w.Wake, w.got, r.Registration, r.got); !a && !b {
				lost++
			}
		}
	}
	t.Logf("%d pairs checked", checked)
	if lost > 0 || checked == 0 {
		t.Fatalf("%d of %d pairs found each other in neither way", lost, checked)
	}
}

// If many start the same request concurrently, exactly one is the first.
func testStartRace(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	for round := range 30 {
		name := fmt.Sprintf("start%d@example.com", round)
		var mu sync.Mutex
		first, plain := 0, 0
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				w := newWake(name, "1")
				w.ID = fmt.Sprint(i)
				if i%2 == 1 {
					w.Node = fmt.Sprint("fork-", i)
				}
				got, err := s.Start(f.ctx(), w)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if i%2 == 0 && !got.Duplicate {
					first++
				}
				if !got.Duplicate && !got.Forked {
					plain++
				}
			})
		}
		wg.Wait()
		if first != 1 || plain != 1 {
			t.Fatalf("%d of one wake were no duplicate, %d of its forks were the first; want 1 and 1", first, plain)
		}
	}
}

// A dead token is removed while the app registers with a new one.
func testRemoveRace(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	for round := range 60 {
		name := fmt.Sprintf("remove%d@example.com", round)
		old := Registration(name, 1)
		f.status(old, wake.StatusStored, 1)
		fresh := old
		fresh.CSeq++
		fresh.Address.Tokens = []pnparam.Token{{Service: pnparam.VoIP, Value: token64(1_000_000 + round)}}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := s.Remove(f.ctx(), wake.Removal{AOR: name, Device: old.Device, Token: token64(1), TokenOnly: round%2 == 1})
			if err != nil {
				t.Error(err)
			}
		})
		f.register(fresh)
		wg.Wait()
		got := f.bindings(name)
		if len(got) != 1 || got[0].Address.Tokens[0].Value != token64(1_000_000+round) {
			t.Fatalf("the binding with the new token is gone: %d left", len(got))
		}
	}
}

// A token is removed from an address while its device registers: neither change is lost.
func testTokenOnlyRace(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	for round := range 60 {
		name := fmt.Sprintf("token%d@example.com", round)
		r := Registration(name, 1)
		r.Address.Tokens = append(r.Address.Tokens, pnparam.Token{Service: pnparam.Remote, Value: token64(2)})
		f.status(r, wake.StatusStored, 1)
		var wg sync.WaitGroup
		for n := range 2 {
			wg.Go(func() {
				removal := wake.Removal{AOR: name, Token: token64(1 + n), TokenOnly: true, NotAfter: r.RegisteredAt}
				if _, err := s.Remove(f.ctx(), removal); err != nil {
					t.Error(err)
				}
			})
		}
		fresh := r
		fresh.CSeq++
		fresh.RegisteredAt = r.RegisteredAt.Add(time.Microsecond)
		f.register(fresh)
		wg.Wait()
		got := f.bindings(name)
		if len(got) != 1 || got[0].CSeq != fresh.CSeq || len(got[0].Address.Tokens) != 2 {
			t.Fatalf("the later REGISTER did not win: %+v", got)
		}
	}
}

func testBindRace(t *testing.T, s wake.Store) {
	const devices = store.MaxDevices
	f := fixture{t, s}
	var wg sync.WaitGroup
	for n := range devices {
		wg.Go(func() {
			if _, err := s.Register(f.ctx(), Registration(aor, n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(f.bindings(aor)); got != devices {
		t.Fatalf("%d bindings of %d devices that were acknowledged", got, devices)
	}
}
