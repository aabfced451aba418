package upper

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// through are the nodes that a refresh now asks.
func (r rig) through() string {
	r.t.Helper()
	r.asked()
	if _, err := r.s.Refresh(r.t.Context(), bob); err != nil {
		return fmt.Sprint(r.asked(), err)
	}
	return fmt.Sprint(r.asked())
}

// TestOtherNode: a refresh goes through another node of the gateway when its own one is
// away or unknown, and from then on through that one; one that does not know the PBX is
// passed over.
func TestOtherNode(t *testing.T) {
	inTime(t, Config{}, func(r rig) {
		s := r.s.settings.Load()
		nodes := func(ids ...string) {
			all := make(map[string]Node)
			for _, id := range ids {
				all[id] = gateway{r.memory, id}
			}
			r.s.Configure(s.Config, s.Files, all)
		}
		is := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		nodes("edge", "gw", "gw2")
		r.nodeFails("edge", fmt.Errorf("no: %w", ErrRefused))
		is("its own lives", r.through(), "[gw]")
		r.fails(errors.New("connection refused"))
		is("its own is away", r.through(), "[gw edge gw2]")
		is("its own is not asked again at once", r.through(), "[edge gw2]")
		r.fails(nil)
		time.Sleep(awayFor)
		is("its own is back", r.through(), "[gw]")

		r.fails(errors.New("connection refused"))
		_ = r.through()
		first := r.last()
		answer := func(q Request, node string, code int, headers ...string) {
			t.Helper()
			if err := r.s.Result(t.Context(), Result{Node: node, AOR: bob, Key: q.Key, Server: "sip:192.0.2.31", Code: code, Granted: 3600, Headers: headers}); err != nil {
				t.Error(err)
			}
		}
		r.asked()
		answer(first, "stranger", 401, challenge)
		is("a node that nobody knows", fmt.Sprint(r.asked()), "[]")
		answer(first, "gw2", 401, challenge)
		is("what brought the challenge is asked", fmt.Sprint(r.asked()), "[gw2]")
		is("the PBX that asked", r.last().Server, "sip:192.0.2.31")
		answer(r.last(), "gw2", 200)
		u, _, _ := r.Upper(t.Context(), bob)
		is("the PBX knows the contact there", u.Node+" "+u.Server, "gw2 sip:192.0.2.31")

		nodes("edge", "gw")
		r.fails(nil)
		is("its own is gone", r.through(), "[edge gw]")
		r.fails(fmt.Errorf("neither: %w", ErrRefused))
		r.asked()
		if _, err := r.s.Refresh(t.Context(), bob); !errors.Is(err, ErrRefused) {
			t.Errorf("nobody knows the PBX: %v", err)
		}
		nodes()
		is("no node at all", r.through(), `[] no gateway can ask the PBX: no node can register users, not even "gw2"`)
	})
}

// TestKeep: no registration is refreshed, those of phones that sleep, or all.
func TestKeep(t *testing.T) {
	f := func(keep string, want int) {
		t.Helper()
		inTime(t, Config{Keep: keep}, func(r rig) {
			answered := 0
			for n := range 4 * 3600 / 10 {
				if n%120 == 119 { // the phone is awake
					r.registers(time.Hour)
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if n := len(r.requests()); n > answered {
					answered = n
					r.says(r.last(), 200, 3600)
				}
			}
			if n := len(r.requests()); n != want {
				t.Errorf("keep: %s: %d refreshes in four hours, want %d", keep, n, want)
			}
			time.Sleep(2 * time.Hour) // the phone sleeps
			if n := len(r.requests()) - want; (n > 0) != (keep != KeepNo) {
				t.Errorf("keep: %s: %d refreshes while the phone slept", keep, n)
			}
		})
	}
	f(KeepNo, 0)
	f(KeepAuto, 0)
	f(KeepAlways, 4)
}

// TestFailureTimeout: a PBX that says nothing until the registration's end has failed,
// if that is wanted, and not when it is asked for the first time after a long while.
func TestFailureTimeout(t *testing.T) {
	inTime(t, Config{Failure: FailureTimeout}, func(r rig) {
		u, _, _ := r.Upper(t.Context(), bob)
		end := u.LastOK.Add(u.Granted)
		for r.bindings() == 1 {
			q, _ := r.next()
			r.says(q, 408, 0)
			if time.Now().Before(end) {
				r.is(StateRetrying, "the PBX said 408")
			}
			if time.Since(end) > time.Hour {
				t.Fatal("the PBX says nothing, and the phone is bound")
			}
		}
		if time.Now().Before(end) {
			t.Errorf("failed %s before the end", time.Until(end))
		}
		if _, ok, _ := r.Upper(t.Context(), bob); ok {
			t.Error("it is still there")
		}
		r.binds(1)
		r.registers(time.Hour)
		u, _, _ = r.Upper(t.Context(), bob)
		u.LastOK, u.Due = u.LastOK.Add(-24*time.Hour), time.Now()
		_ = r.PutUpper(t.Context(), u)
		q, _ := r.next()
		r.says(q, 408, 0)
		r.is(StateRetrying, "the PBX said 408")
	})
}

// TestFailureTimeoutIsSilence: only silence of the PBX counts, and of three tries in a row.
// Gateways of ours that are away, and a PBX that cannot just now, send nobody away.
func TestFailureTimeoutIsSilence(t *testing.T) {
	inTime(t, Config{Failure: FailureTimeout}, func(r rig) {
		over := func() {
			u, _, _ := r.Upper(t.Context(), bob)
			u.LastOK, u.Due = u.LastOK.Add(-24*time.Hour), time.Now()
			_ = r.PutUpper(t.Context(), u)
		}
		over()
		for _, code := range []int{503, 503, 503, 503, 408, 408, 500, 408, 408} {
			q, _ := r.next()
			r.says(q, code, 0)
			r.is(StateRetrying, fmt.Sprintf("the PBX said %d", code))
		}
		r.fails(errors.New("connection refused"))
		time.Sleep(2 * time.Hour)
		r.fails(nil)
		if r.bindings() != 1 {
			t.Fatal("the gateways were away, and the user's phone is not bound any more")
		}
		r.registers(time.Hour)
		over()
		r.fails(errors.New("connection refused"))
		time.Sleep(2 * time.Hour)
		r.fails(nil)
		q, _ := r.next()
		r.says(q, 408, 0)
		r.is(StateRetrying, "the PBX said 408")
		for range 2 {
			q, _ = r.next()
			r.says(q, 408, 0)
		}
		if r.bindings() != 0 {
			t.Error("the PBX was silent three times, and the phone is bound")
		}
	})
}

// TestReturned: the users of a PBX that is back are refreshed, at half the rate; those of
// other ones, and those that were refreshed since, are not. Who has told it twice is one.
func TestReturned(t *testing.T) {
	inTime(t, Config{Rate: 20}, func(r rig) {
		add := func(user int, server string, lastOK time.Time) {
			t.Helper()
			u, _, _ := r.Upper(t.Context(), bob)
			u.AOR, u.Stamp, u.Server, u.LastOK, u.Due = fmt.Sprintf("user%d@example.com", user), 0, server, lastOK, time.Now().Add(time.Hour)
			if err := r.PutUpper(t.Context(), u); err != nil {
				t.Fatal(err)
			}
		}
		then := time.Now().Add(-time.Minute)
		for n := range 100 {
			add(n, "sip:back", then)
		}
		add(100, "sip:other", then)
		add(101, "sip:back", time.Now().Add(time.Hour))
		tell := func(server string) {
			t.Helper()
			if err := r.s.Returned(t.Context(), "gw", server); err != nil {
				t.Error(err)
			}
		}
		before := r.reads
		tell("sip:back")
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		if n := r.reads - before; n != 0 {
			t.Errorf("%d registrations were read again", n)
		}
		if n := len(r.requests()); n != 50 {
			t.Errorf("%d refreshes in 5 s, want 50", n)
		}
		tell("sip:back")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		var users []string
		for _, q := range r.requests() {
			users = append(users, q.AOR)
		}
		slices.Sort(users)
		if n := len(slices.Compact(users)); n != 100 || slices.Contains(users, "user100@example.com") || slices.Contains(users, "user101@example.com") {
			t.Errorf("%d users were refreshed, want 100: %v", n, users)
		}
		if err := r.s.Returned(t.Context(), "stranger", "sip:back"); !errors.Is(err, ErrNode) {
			t.Errorf("an unknown node: %v", err)
		}
		for n := range maxReturns {
			tell(fmt.Sprint("sip:", n))
		}
		if err := r.s.Returned(t.Context(), "gw", "sip:more"); !errors.Is(err, ErrBusy) {
			t.Errorf("one too many: %v", err)
		}
	})
}
