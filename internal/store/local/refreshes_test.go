package local_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

var shortly = storetest.Options{Recent: time.Nanosecond}

// again returns the phone's next REGISTER.
func again(r wake.Registration) wake.Registration {
	r.CSeq++
	r.RegisteredAt = r.RegisteredAt.Add(time.Minute)
	r.ExpiresAt = r.ExpiresAt.Add(time.Minute)
	return r
}

// crash opens what the disk has while the store goes on.
func crash(t *testing.T, path string) *local.Store {
	t.Helper()
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	copied := filepath.Join(t.TempDir(), "store.db")
	to, err := os.Create(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	return open(t, copied, shortly)
}

// A refresh of a phone that has left memory needs neither to read the binding's page nor
// to write it, and yet survives a crash.
func TestRefreshIsSmall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, shortly)
	r := storetest.Registration("alice@example.com", 1)
	register(t, s, r)
	local.Flush(t, s)
	if local.Active(s) != 0 || !local.Recalls(s, again(r)) {
		t.Fatalf("%d users in memory; its refresh reads the file", local.Active(s))
	}
	next := again(r)
	if got := register(t, s, next); got.Status != wake.StatusRefreshed || got.Devices != 1 {
		t.Error(got)
	}
	local.Flush(t, s)
	if at, numbers := local.Filed(t, s, r); !at.Equal(r.RegisteredAt) || numbers != 1 {
		t.Errorf("the binding's value is of %v, and there are %d numbers", at, numbers)
	}
	for name, s := range map[string]*local.Store{"running": s, "after a crash": crash(t, path)} {
		all := bindings(t, s, r.AOR)
		if len(all) != 1 || all[0].CSeq != next.CSeq || !all[0].RegisteredAt.Equal(next.RegisteredAt) ||
			!all[0].ExpiresAt.Equal(next.ExpiresAt) || !all[0].CreatedAt.Equal(r.CreatedAt) {
			t.Errorf("%s: %+v", name, all)
		}
		local.Flush(t, s)
		err := s.Scan(t.Context(), func(list []wake.Binding) error {
			if !reflect.DeepEqual(list, all) {
				t.Errorf("%s: a scan finds %+v", name, list)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if late := register(t, s, r); late.Status != wake.StatusStale {
			t.Errorf("%s: a REGISTER of before: %v", name, late.Status)
		}
	}
}

// What is more than a refresh is in the binding's value, and older times do not count
// beside it.
func TestRefreshThenChange(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(r *wake.Registration){
		"source":     func(r *wake.Registration) { r.Source = "udp:192.0.2.1:5060" },
		"call":       func(r *wake.Registration) { r.CallID, r.CSeq = "other", 1 },
		"unregister": func(r *wake.Registration) { r.Gone, r.ExpiresAt = true, time.Time{} },
		"token":      func(r *wake.Registration) { r.Address = storetest.Registration("", 77).Address },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store.db")
			s := open(t, path, shortly)
			r := storetest.Registration("alice@example.com", 1)
			register(t, s, r)
			local.Flush(t, s)
			r = again(r)
			register(t, s, r)
			local.Flush(t, s)
			r = again(r)
			change(&r)
			register(t, s, r)
			local.Flush(t, s)
			want := bindings(t, s, r.AOR)
			if len(want) != 1 || want[0].CSeq != r.CSeq || want[0].Source != r.Source && !r.Gone || !want[0].ExpiresAt.Equal(r.ExpiresAt) {
				t.Errorf("%+v", want)
			}
			if got := bindings(t, crash(t, path), r.AOR); !reflect.DeepEqual(got, want) {
				t.Errorf("after a crash %+v\nwant %+v", got, want)
			}
		})
	}
}

// A phone that comes back after its binding was removed is bound anew.
func TestRefreshAfterRemoval(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, shortly)
	r := storetest.Registration("alice@example.com", 1)
	for i := range 2 {
		if got := register(t, s, r); got.Status != wake.StatusStored {
			t.Error(got.Status)
		}
		local.Flush(t, s)
		r = again(r)
		register(t, s, r)
		if i == 0 {
			local.Flush(t, s)
		}
		if _, err := s.Remove(t.Context(), wake.Removal{AOR: r.AOR, Reason: "operator"}); err != nil {
			t.Fatal(err)
		}
		local.Flush(t, s)
		r = again(r)
	}
	register(t, s, r)
	if got := bindings(t, crash(t, path), r.AOR); len(got) != 1 || got[0].CSeq != r.CSeq {
		t.Errorf("%+v", got)
	}
}

// A user's second phone is not forgotten over the refreshes of the first.
func TestRefreshOfTwoPhones(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "store.db"), shortly)
	one, two := storetest.Registration("alice@example.com", 1), storetest.Registration("alice@example.com", 2)
	for i, r := range []wake.Registration{one, again(one), two, again(again(one)), again(two)} {
		if got, want := register(t, s, r).Devices, min(1+i/2, 2); got != want {
			t.Errorf("REGISTER %d: %d devices, want %d", i, got, want)
		}
		local.Flush(t, s)
	}
	if got := bindings(t, s, one.AOR); len(got) != 2 {
		t.Errorf("%+v", got)
	}
}

// Once there are many refreshes, they go to their bindings.
func TestFold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, shortly)
	const users = 300
	list := make([]wake.Registration, users)
	for i := range list {
		list[i] = storetest.Registration(user(i), i)
		register(t, s, list[i])
	}
	local.Flush(t, s)
	for n := 0; !local.FoldDue(s); n++ {
		if n > 100 {
			t.Fatal("refreshes are never too many")
		}
		for i := range list {
			list[i] = again(list[i])
			register(t, s, list[i])
		}
		local.Flush(t, s)
	}
	want := make([][]wake.Binding, users)
	for i := range list {
		want[i] = bindings(t, s, list[i].AOR)
	}
	local.Flush(t, s)
	local.Fold(t, s)
	if at, numbers := local.Filed(t, s, list[7]); !at.Equal(list[7].RegisteredAt) || numbers != 0 || local.FoldDue(s) {
		t.Errorf("the binding's value is of %v, want %v; %d numbers are left", at, list[7].RegisteredAt, numbers)
	}
	list[0] = again(list[0])
	register(t, s, list[0])
	want[0] = bindings(t, s, list[0].AOR)
	local.Flush(t, s)
	for name, s := range map[string]*local.Store{"running": s, "after a crash": crash(t, path)} {
		for i := range list {
			if got := bindings(t, s, list[i].AOR); !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("%s: %+v\nwant %+v", name, got, want[i])
			}
		}
	}
}

// A pass takes longer steps while writes wait, and short ones while they do not.
func TestFoldSteps(t *testing.T) {
	t.Parallel()
	const slow, fast = time.Second, 10 * time.Millisecond
	want := []int{1000, 2000, 4000, 8000, 16000, 32000, 32000, 16000}
	if got := local.FoldSteps(fast, slow, slow, slow, slow, slow, slow, fast); !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}

// No more bindings are kept than there is room for; those that are not cost a read.
func TestKeptBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, shortly)
	const room, users = 640, 2000
	local.SetMostKept(s, room)
	list := make([]wake.Registration, users)
	for i := range list {
		list[i] = storetest.Registration(user(i), i)
	}
	for range 3 {
		errs := make(chan error)
		for i := range list {
			list[i] = again(list[i])
			go func() {
				_, err := s.Register(context.Background(), list[i])
				errs <- err
			}()
		}
		for range list {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		local.Flush(t, s)
		if n := local.Kept(s); n > room || n < room/2 {
			t.Fatalf("%d are kept", n)
		}
	}
	after := crash(t, path)
	for _, r := range list {
		for _, s := range []*local.Store{s, after} {
			if got := bindings(t, s, r.AOR); len(got) != 1 || got[0].CSeq != r.CSeq || !got[0].RegisteredAt.Equal(r.RegisteredAt) {
				t.Fatalf("%+v", got)
			}
		}
	}
}

// A phone whose page was lost is bound anew by its next REGISTER, although its refreshes
// did not read the page.
func TestRefreshOfLostPage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, damageFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, shortly)
	local.Flush(t, s)
	for n := range damageUsers { // brings them to memory, and lets them go
		bindings(t, s, user(n))
	}
	local.Flush(t, s)
	lost := local.DamageLeaf(t, s, user(700), func(string) {})
	if len(lost) < 2 {
		t.Fatal(lost)
	}
	// Their refreshes do not notice.
	list := make(map[string]wake.Registration)
	for n := range damageUsers {
		r := storetest.Registration(user(n), n)
		if r.CSeq = 200; lost[r.AOR] {
			list[r.AOR] = r
			if got := register(t, s, r); got.Status != wake.StatusRefreshed {
				t.Fatal(got)
			}
		}
	}
	local.Flush(t, s)
	mended(t, s)
	for aor, r := range list {
		if local.Recalls(s, again(r)) {
			t.Errorf("%s needs nothing from the file, which has lost it", aor)
		}
		if got := register(t, s, again(r)); got.Status != wake.StatusStored {
			t.Errorf("%s: %v", aor, got.Status)
		}
	}
	local.Flush(t, s)
	wantCSeq(t, crash(t, path), maps.Keys(list), 201)
}

// mended has the store find damage to its file, and returns when that has been made anew.
func mended(t *testing.T, s *local.Store) {
	t.Helper()
	if _, _, err := s.Backup(t.Context()); err == nil { // it reads every page
		t.Error("the damage is not found")
	}
	for end := time.Now().Add(20 * time.Second); s.Notice() == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the file is not mended")
		}
	}
	local.Flush(t, s)
}

// wantCSeq checks that each user has one binding, of the REGISTER with that CSeq.
func wantCSeq(t *testing.T, s *local.Store, users iter.Seq[string], cseq uint32) {
	t.Helper()
	for aor := range users {
		if got := bindings(t, s, aor); len(got) != 1 || got[0].CSeq != cseq {
			t.Errorf("%s: %+v", aor, got)
		}
	}
}

// A phone in memory whose page was lost is in the new file.
func TestLostPageInMemory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, damageFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, storetest.Options{Recent: time.Hour})
	lost := local.DamageLeaf(t, s, user(700), func(aor string) {
		for n := range damageUsers {
			if r := storetest.Registration(user(n), n); r.AOR == aor {
				r.CSeq = 200
				register(t, s, r)
			}
		}
	})
	mended(t, s)
	wantCSeq(t, crash(t, path), maps.Keys(lost), 200)
}

// Whatever happens in whatever order, the file has what is in memory.
func TestRefreshesModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 5))
			path := filepath.Join(t.TempDir(), "store.db")
			s := open(t, path, shortly)
			cseq := uint32(1)
			for range 60 {
				for range 1 + random.IntN(8) {
					cseq++
					modelStep(t, s, random, cseq)
				}
				all := func(s *local.Store) (list [][]wake.Binding) {
					for u := range 6 {
						list = append(list, bindings(t, s, user(u)))
					}
					return list
				}
				want := all(s)
				local.Flush(t, s)
				if got := all(s); !reflect.DeepEqual(got, want) {
					t.Fatalf("from the file %+v\nwant %+v", got, want)
				}
				switch random.IntN(6) {
				case 0:
					local.Fold(t, s)
				case 1:
					if got := all(crash(t, path)); !reflect.DeepEqual(got, want) {
						t.Fatalf("after a crash %+v\nwant %+v", got, want)
					}
				case 2:
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, path, shortly)
				}
			}
		})
	}
}

// modelStep does something to one of a few phones.
func modelStep(t *testing.T, s *local.Store, random *rand.Rand, cseq uint32) {
	n := random.IntN(8)
	of := n
	if n >= 4 { // they have two phones
		of = 2 + n/2
	}
	r := storetest.Registration(user(of), n)
	r.CSeq = cseq
	switch random.IntN(14) {
	case 0:
		r.Source = fmt.Sprintf("tls:192.0.2.1:%d", random.IntN(3))
	case 1:
		r.CallID = fmt.Sprint("call", random.IntN(2))
	case 2:
		r.Gone, r.ExpiresAt = true, time.Time{}
		if random.IntN(2) == 0 {
			r.CallID = fmt.Sprint("call", random.IntN(2))
		}
	case 3:
		r.Address = storetest.Registration("", 100+random.IntN(3)).Address
	case 4:
		r.Action = wake.ActionUnbind
	case 5:
		if _, err := s.Remove(t.Context(), wake.Removal{AOR: r.AOR, Reason: "operator"}); err != nil {
			t.Fatal(err)
		}
		return
	}
	register(t, s, r)
}
