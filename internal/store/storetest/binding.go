package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

func testStored(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	r := Registration(aor, 1)
	f.status(r, wake.StatusStored, 1)
	f.equal(f.bindings(aor), []wake.Binding{r.Binding})

	again := Registration(aor, 1)
	again.Contact = "sip:alice@[2001:db8::7]:5061;pn-prid=" + token64(1).Reveal()
	again.CallID, again.CSeq = "another", 7
	again.Source, again.Node, again.UserAgent = "wss:198.51.100.1:443", "edge-2", "Example Phone/5"
	again.RegisteredAt = r.RegisteredAt.Add(time.Minute)
	again.ExpiresAt = r.ExpiresAt.Add(time.Minute)
	again.CreatedAt = again.RegisteredAt
	f.status(again, wake.StatusRefreshed, 1)
	again.CreatedAt = r.CreatedAt
	f.equal(f.bindings(aor), []wake.Binding{again.Binding})
	f.equal(f.start(newWake(aor, "1")).Bindings, []wake.Binding{again.Binding})
	f.equal(f.bindings("bob@example.com"), []wake.Binding{})
}

func testAddressChanged(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	r := Registration(aor, 1)
	f.status(r, wake.StatusStored, 1)
	for name, change := range map[string]func(*pnparam.Address){
		"token":       func(a *pnparam.Address) { a.Tokens = []pnparam.Token{{Service: pnparam.VoIP, Value: token64(77)}} },
		"environment": func(a *pnparam.Address) { a.Environment = pnparam.Sandbox },
		"app":         func(a *pnparam.Address) { a.App = "com.example.other" },
		"service":     func(a *pnparam.Address) { a.Tokens = []pnparam.Token{{Service: pnparam.Remote, Value: token64(1)}} },
		"denied":      func(a *pnparam.Address) { a.Denied = pnparam.Denied{Messages: true} },
		"keys": func(a *pnparam.Address) {
			a.Keys = &pnparam.WebPushKeys{P256dh: secret.NewToken("BPoint"), Auth: secret.NewToken("abcd")}
		},
		"second token": func(a *pnparam.Address) {
			a.Tokens = append(a.Tokens[:1:1], pnparam.Token{Service: pnparam.Remote, Value: secret.NewToken("FCM:raw/TOKEN-é")})
		},
	} {
		changed := Registration(aor, 1)
		change(&changed.Address)
		if got := f.register(changed); got.Status != wake.StatusStored || got.Devices != 1 {
			t.Errorf("%s changed: %+v, want stored", name, got)
		}
		changed.CreatedAt = r.CreatedAt
		f.equal(f.bindings(aor), []wake.Binding{changed.Binding})
		f.status(changed, wake.StatusRefreshed, 1)
		f.status(r, wake.StatusStored, 1)
	}
	if got := f.byToken(token64(77)); len(got) != 0 {
		t.Errorf("a token that was replaced still finds %d bindings", len(got))
	}
}

func testDevices(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	var want []wake.Binding
	for n := range 5 {
		f.status(Registration(aor, 4-n), wake.StatusStored, n+1)
	}
	for n := range 5 {
		r := Registration(aor, n)
		f.status(r, wake.StatusRefreshed, 5)
		want = append(want, r.Binding)
	}
	got := f.bindings(aor)
	for i := range got {
		want[i].CreatedAt = got[i].CreatedAt
	}
	f.equal(got, want)
	f.status(Registration("bob@example.com", 9), wake.StatusStored, 1)
}

// A reinstalled app has a new instance ID and may have the same token.
func testDeviceReplaced(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	f.status(Registration(aor, 1), wake.StatusStored, 1)
	f.status(Registration(aor, 2), wake.StatusStored, 2)
	r := Registration(aor, 3)
	r.Address.Tokens = []pnparam.Token{{Service: pnparam.Remote, Value: token64(50)}, {Service: pnparam.VoIP, Value: token64(1)}}
	f.status(r, wake.StatusStored, 2)
	got := f.bindings(aor)
	if len(got) != 2 || got[0].Device != Registration(aor, 2).Device || got[1].Device != r.Device {
		t.Fatalf("bindings: %+v", got)
	}
	f.equal(f.byToken(token64(1)), []wake.Binding{r.Binding})
	// The same token for another user is another binding.
	f.status(Registration("bob@example.com", 1), wake.StatusStored, 1)
	f.equal(len(f.bindings(aor)), 2)
}

func testUnbind(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	un := Registration(aor, 1)
	un.Action, un.Address = wake.ActionUnbind, pnparam.Address{}
	f.status(un, wake.StatusNone, 0)
	f.status(Registration(aor, 1), wake.StatusStored, 1)
	f.status(Registration(aor, 2), wake.StatusStored, 2)
	f.status(un, wake.StatusRemoved, 1)
	f.status(un, wake.StatusNone, 1)
	if got := f.byToken(token64(1)); len(got) != 0 {
		t.Errorf("its token still finds %d bindings", len(got))
	}
	f.status(Registration(aor, 1), wake.StatusStored, 2)
	gone := un
	gone.Gone = true
	f.status(gone, wake.StatusRemoved, 1)
	f.equal(len(f.bindings(aor)), 1)
}

func testGoneBind(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	gone := Registration(aor, 1)
	gone.Gone, gone.ExpiresAt = true, gone.RegisteredAt
	f.status(gone, wake.StatusNone, 0)
	f.equal(f.bindings(aor), []wake.Binding{})

	r := Registration(aor, 1)
	f.status(r, wake.StatusStored, 1)
	gone.CSeq, gone.CallID = 101, "a longer Call-ID than before, and another one"
	gone.Contact, gone.UserAgent, gone.Address.App = "sip:x", "x", "com.example.other"
	f.status(gone, wake.StatusRefreshed, 1)
	want := r.Binding
	want.CSeq, want.CallID, want.ExpiresAt = 101, gone.CallID, gone.ExpiresAt
	f.equal(f.bindings(aor), []wake.Binding{want})
	late := gone
	late.Gone, late.CSeq = false, 100
	f.status(late, wake.StatusStale, 1)
}

func testRemove(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	base := Registration(aor, 1).RegisteredAt
	fill := func() {
		f.remove(wake.Removal{AOR: aor})
		for n := 1; n <= 3; n++ {
			r := Registration(aor, n)
			r.RegisteredAt = base.Add(time.Duration(n) * time.Millisecond)
			f.status(r, wake.StatusStored, n)
		}
	}
	device := func(n int) string { return Registration(aor, n).Device }
	at := func(n int) time.Time { return base.Add(time.Duration(n) * time.Millisecond) }
	for name, c := range map[string]struct {
		removal wake.Removal
		want    int
	}{
		"all":                   {wake.Removal{}, 3},
		"device":                {wake.Removal{Device: device(2)}, 1},
		"unknown device":        {wake.Removal{Device: "x"}, 0},
		"token":                 {wake.Removal{Token: token64(2)}, 1},
		"unknown token":         {wake.Removal{Token: token64(9)}, 0},
		"token of another":      {wake.Removal{Device: device(1), Token: token64(2)}, 0},
		"device and token":      {wake.Removal{Device: device(2), Token: token64(2)}, 1},
		"not after":             {wake.Removal{NotAfter: at(2)}, 2},
		"just before":           {wake.Removal{NotAfter: at(2).Add(-time.Microsecond)}, 1},
		"device after":          {wake.Removal{Device: device(3), NotAfter: at(2)}, 0},
		"device token not late": {wake.Removal{Device: device(3), Token: token64(3), NotAfter: at(3)}, 1},
	} {
		fill()
		c.removal.AOR = aor
		if got := f.remove(c.removal); got != (wake.RemovalResult{Bindings: c.want}) {
			t.Errorf("%s: removed %+v, want %d", name, got, c.want)
		}
		if got := len(f.bindings(aor)); got != 3-c.want {
			t.Errorf("%s: %d left, want %d", name, got, 3-c.want)
		}
	}
	f.equal(f.remove(wake.Removal{AOR: "nobody@example.com"}), wake.RemovalResult{})
}

// An iPhone whose remote token is dead keeps its voip token.
func testRemoveTokenOnly(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	r := Registration(aor, 1)
	r.Address.Tokens = []pnparam.Token{{Service: pnparam.Remote, Value: token64(1)}, {Service: pnparam.VoIP, Value: token64(2)}}
	r.Contact += ":voip&" + token64(2).Reveal() + ":remote" // names both
	f.status(r, wake.StatusStored, 1)
	f.status(Registration(aor, 3), wake.StatusStored, 2)
	other := f.bindings(aor)[1]
	for name, removal := range map[string]wake.Removal{
		"another device":   {Token: token64(1), Device: other.Device},
		"an unknown token": {Token: token64(9)},
		"too late":         {Token: token64(1), NotAfter: r.RegisteredAt.Add(-time.Microsecond)},
	} {
		removal.AOR, removal.TokenOnly = aor, true
		if got := f.remove(removal); got != (wake.RemovalResult{}) {
			t.Errorf("%s: %+v went", name, got)
		}
	}
	remove := func(n int) wake.RemovalResult {
		return f.remove(wake.Removal{AOR: aor, Device: r.Device, Token: token64(n), TokenOnly: true, NotAfter: r.RegisteredAt})
	}
	f.equal(remove(1), wake.RemovalResult{Tokens: 1})
	f.equal(remove(1), wake.RemovalResult{})
	left := r.Binding
	left.Address.Tokens = left.Address.Tokens[1:]
	f.equal(f.bindings(aor), []wake.Binding{left, other})
	f.equal(f.start(newWake(aor, "1")).Bindings, []wake.Binding{left, other})
	f.equal(len(f.byToken(token64(1))), 0)
	f.equal(f.byToken(token64(2)), []wake.Binding{left})
	if got := f.start(newWake(aor, "2")).Recent; len(got) != 2 {
		t.Errorf("%d are awake, want both", len(got))
	}

	again := r
	again.CSeq--
	f.status(again, wake.StatusStale, 2)
	again.CSeq += 2
	f.status(again, wake.StatusStored, 2) // as its REGISTER says
	f.equal(f.byToken(token64(1))[0].Address, r.Address)

	f.equal(remove(2), wake.RemovalResult{Tokens: 1})
	f.equal(remove(1), wake.RemovalResult{Bindings: 1})
	f.equal(f.bindings(aor), []wake.Binding{other})
	f.equal(len(f.byToken(token64(1))), 0)
	f.equal(f.remove(wake.Removal{AOR: aor, Token: token64(3), TokenOnly: true}), wake.RemovalResult{Bindings: 1})
}

func testQueries(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	r := Registration(aor, 1)
	r.Address.Tokens = []pnparam.Token{
		{Service: pnparam.Remote, Value: token64(1)},
		{Service: pnparam.VoIP, Value: token64(2)},
	}
	f.status(r, wake.StatusStored, 1)
	f.status(Registration(aor, 3), wake.StatusStored, 2)
	f.equal(f.byToken(token64(1)), []wake.Binding{r.Binding})
	f.equal(f.byToken(token64(2)), []wake.Binding{r.Binding})
	f.equal(f.byToken(token64(4)), []wake.Binding{})
	f.equal(f.byToken(secret.NewToken("AB")), []wake.Binding{})
}

// Names come from SIP: no character in them may break a key or a value.
func testOddNames(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	names := []string{"}x@example.com", "{x}@example.com", "a{b}c}@e", "%7Dx@example.com", "ü\u00e9 \"'@例え.jp",
		"a\x00b@e", "a@e", "a", "a@", strings.Repeat("x", 300) + "@example.com", "*?[a]@e", "\xff\xfe@e"}
	for i, name := range names {
		r := Registration(name, i)
		r.Device = "dev\x00\xff{}" + strings.Repeat("d", i)
		r.Contact = strings.Repeat("c;pn-prid="+r.Address.Tokens[0].Value.Reveal()+"com.example.phone", 20+i)
		r.CallID, r.UserAgent, r.Source = "\x00\xff", "ü\n", ""
		f.status(r, wake.StatusStored, 1)
		f.status(r, wake.StatusRefreshed, 1)
		w := newWake(name, "c\x00"+name)
		f.equal(f.start(w).Bindings, []wake.Binding{r.Binding})
		f.equal(f.register(r).Wakes, []wake.Wake{w})
		f.equal(f.byToken(token64(i)), []wake.Binding{r.Binding})
		f.equal(f.end(w), wake.Ended{Known: true, Wake: w})
	}
	for i, name := range names {
		got := f.bindings(name)
		if len(got) != 1 || got[0].Address.Tokens[0].Value != token64(i) {
			t.Errorf("%q: %d bindings", name, len(got))
		}
	}
}

func testUsage(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	check := func(name string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, wake.ErrUnavailable) {
			t.Errorf("%s: error %v, want one that is not ErrUnavailable", name, err)
		}
	}
	_, err := s.Register(f.ctx(), wake.Registration{})
	check("Register without AOR", err)
	r := Registration(aor, 1)
	r.Device = ""
	_, err = s.Register(f.ctx(), r)
	check("Bind without device", err)
	r = Registration(aor, 1)
	r.CallID = strings.Repeat("x", 70_000)
	_, err = s.Register(f.ctx(), r)
	check("Bind with a Call-ID of 70 kB", err)
	_, err = s.Start(f.ctx(), wake.Wake{})
	check("Start without AOR", err)
	_, err = s.Remove(f.ctx(), wake.Removal{})
	check("Remove without AOR", err)
	_, err = s.Remove(f.ctx(), wake.Removal{AOR: aor, TokenOnly: true})
	check("Remove of a token without one", err)
	_, err = s.Bindings(f.ctx(), wake.Query{})
	check("empty query", err)
	_, err = s.Bindings(f.ctx(), wake.Query{AOR: aor, Token: token64(1)})
	check("query for both", err)
}

func testContext(t *testing.T, s wake.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	calls := map[string]func() error{
		"Register": func() error { _, err := s.Register(ctx, Registration(aor, 1)); return err },
		"Start":    func() error { _, err := s.Start(ctx, newWake(aor, "1")); return err },
		"End":      func() error { _, err := s.End(ctx, aor, "n", "c"); return err },
		"Remove":   func() error { _, err := s.Remove(ctx, wake.Removal{AOR: aor}); return err },
		"Bindings": func() error { _, err := s.Bindings(ctx, wake.Query{AOR: aor}); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, wake.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v, want ErrUnavailable and Canceled", name, err)
		}
	}
}

func testRetention(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	old := Registration(aor, 1)
	old.RegisteredAt = old.RegisteredAt.Add(-2 * time.Hour)
	f.register(old)
	f.status(Registration(aor, 2), wake.StatusStored, 1)
	if got := f.bindings(aor); len(got) != 1 || got[0].Device == old.Device {
		t.Errorf("%d bindings, want the one that is not past its retention", len(got))
	}
	if got := f.start(newWake(aor, "1")).Bindings; len(got) != 1 {
		t.Errorf("Start returned %d bindings, want 1", len(got))
	}
	f.status(Registration(aor, 1), wake.StatusStored, 2)
	for n := range 3 { // nothing is left to find
		f.register(Registration(fmt.Sprintf("user%d@example.com", n), 10+n))
	}
	f.equal(f.byToken(token64(11))[0].AOR, "user1@example.com")
}

// One device too many replaces the device that registered the longest time ago.
func testDevicesBounded(t *testing.T, s wake.Store) {
	f := fixture{t, s}
	began := Registration(aor, 0).RegisteredAt
	bind := func(n int, age time.Duration) wake.Registration {
		r := Registration(aor, n)
		r.RegisteredAt = began.Add(-age)
		return r
	}
	for n := range store.MaxDevices {
		f.status(bind(n, time.Duration(n)*time.Minute), wake.StatusStored, n+1)
	}
	oldest := store.MaxDevices - 1
	f.status(bind(oldest, 0), wake.StatusRefreshed, store.MaxDevices) // so another device is the oldest now
	f.status(bind(oldest+1, time.Hour), wake.StatusStored, store.MaxDevices)
	f.equal(len(f.bindings(aor)), store.MaxDevices)
	f.equal(len(f.byToken(token64(oldest-1))), 0)
	f.equal(len(f.byToken(token64(oldest))), 1)
	f.equal(len(f.byToken(token64(oldest+1))), 1)
}
