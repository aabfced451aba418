// Package storetest contains the contract tests that every store must pass, and starts
// the real Redis servers that tests need.
package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// Options are settings that a test of the suite needs.
type Options struct {
	Recent    time.Duration // 0: the store's default, at least 2 s
	Retention time.Duration // 0: the store's default
	Outbox    int           // 0: the store's default, at least 2000
}

// Store is what the suite tests.
type Store = store.Backend

// Open returns an empty store that is closed with the test.
type Open func(t *testing.T, o Options) Store

// Run runs the suite: every promise of Store, and races between its methods. Each
// subtest opens its own store.
func Run(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		f    func(t *testing.T, s wake.Store)
	}{
		{"Stored", testStored},
		{"AddressChanged", testAddressChanged},
		{"Devices", testDevices},
		{"DeviceReplaced", testDeviceReplaced},
		{"DevicesBounded", testDevicesBounded},
		{"Unbind", testUnbind},
		{"GoneBind", testGoneBind},
		{"TwoAccounts", testTwoAccounts},
		{"AccountRunsOut", testAccountRunsOut},
		{"AccountForgotten", testAccountForgotten},
		{"AccountsBounded", testAccountsBounded},
		{"AccountsRace", testAccountsRace},
		{"Remove", testRemove},
		{"RemoveTokenOnly", testRemoveTokenOnly},
		{"Queries", testQueries},
		{"OddNames", testOddNames},
		{"Usage", testUsage},
		{"Context", testContext},
		{"RecentSeen", testRecentSeen},
		{"RecentGone", testRecentGone},
		{"RecentAllGone", testRecentAllGone},
		{"WakesReturned", testWakesReturned},
		{"WakeDeadline", testWakeDeadline},
		{"WakeRings", testWakeRings},
		{"WakeDuplicate", testWakeDuplicate},
		{"WakeForked", testWakeForked},
		{"WakeOfOneDevice", testWakeOfOneDevice},
		{"WakeFull", testWakeFull},
		{"WakesBounded", testWakesBounded},
		{"End", testEnd},
		{"EndsBounded", testEndsBounded},
		{"Invariant1RegisterBeforeStart", testRegisterBeforeStart},
		{"Invariant1EndBeforeStart", testEndBeforeStart},
		{"Invariant1OlderCSeqIsStale", testStale},
		{"Invariant1OlderCSeqNeverWins", testCSeqRace},
		{"Invariant1NoLostWakeRace", testNoLostWake},
		{"Invariant1NoLostWakeRandom", testRandom},
		{"LateOrder", testLateOrder},
		{"LateWakes", testLateWakes},
		{"Invariant2OneStartWins", testStartRace},
		{"Invariant4RemoveSparesNewToken", testRemoveRace},
		{"Invariant4TokenOnlySparesLater", testTokenOnlyRace},
		{"Invariant4NoBindingLost", testBindRace},
	} {
		t.Run(test.name, func(t *testing.T) { test.f(t, open(t, Options{})) })
	}
	runMore(t, open)
	t.Run("RecentEnds", func(t *testing.T) { testRecentEnds(t, open(t, Options{Recent: 50 * time.Millisecond})) })
	t.Run("RecentBounded", func(t *testing.T) { testRecentBounded(t, open(t, Options{Recent: time.Minute})) })
	t.Run("Retention", func(t *testing.T) { testRetention(t, open(t, Options{Retention: time.Hour})) })
}

// runMore runs the tests of wake.History, wake.Sweeper and outbox.Store.
func runMore(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		f    func(t *testing.T, s Store)
		o    Options
	}{
		{name: "History", f: testHistory},
		{name: "HistoryBounded", f: testHistoryBounded},
		{name: "Scan", f: testScan},
		{name: "ScanEnds", f: testScanEnds},
		{name: "ScanStallsNobody", f: testScanStallsNobody},
		{name: "ScanRetention", f: testScanRetention, o: Options{Retention: time.Hour}},
		{name: "Expiring", f: testExpiring},
		{name: "ExpiringEnded", f: testExpiringEnded},
		{name: "ExpiringFew", f: testExpiringFew},
		{name: "Claim", f: testClaim},
		{name: "ClaimRace", f: func(t *testing.T, s Store) { testClaimRace(t, s) }},
		{name: "Outbox", f: testOutbox},
		{name: "OutboxMessages", f: testMessages},
		{name: "OutboxDue", f: testDue},
		{name: "OutboxEnd", f: testOutboxEnd},
		{name: "OutboxUsage", f: testOutboxUsage},
		{name: "OutboxFull", f: testOutboxFull, o: Options{Outbox: outboxSmall}},
		{name: "OutboxShare", f: testOutboxShare, o: Options{Outbox: 12}},
		{name: "Upper", f: testUpper},
		{name: "UpperDue", f: testUpperDue},
		{name: "OutboxDueRace", f: func(t *testing.T, s Store) { testDueRace(t, s) }},
	} {
		t.Run(test.name, func(t *testing.T) { test.f(t, open(t, test.o)) })
	}
}

// RunShared runs the races between instances that share one empty store.
func RunShared(t *testing.T, instances ...Store) {
	t.Run("ClaimRace", func(t *testing.T) { testClaimRace(t, instances...) })
	t.Run("OutboxDueRace", func(t *testing.T) { testDueRace(t, instances...) })
}

const aor = "alice@example.com"

// token64 returns a token in the form that APNs uses.
func token64(n int) secret.Token { return secret.NewToken(fmt.Sprintf("%064x", n+0xabc000)) }

// Registration returns the REGISTER of the n-th device of an AOR, with push
// parameters as an iOS client sends them (RFC 8599).
func Registration(aor string, n int) wake.Registration {
	now := time.Now().UTC().Truncate(time.Microsecond)
	tok := token64(n)
	user, _, _ := strings.Cut(aor, "@")
	return wake.Registration{Action: wake.ActionBind, Binding: wake.Binding{
		AOR:    aor,
		Device: fmt.Sprintf("<urn:uuid:f81d4fae-7dec-11d0-a765-%012x>", n),
		Address: pnparam.Address{Provider: pnparam.APNs, App: "com.example.phone", Team: "ABCDE12345",
			Tokens: []pnparam.Token{{Service: pnparam.VoIP, Value: tok}}},
		Contact: "sip:" + user + "@10.20.30.40:51234;transport=tls;pn-provider=apns;pn-param=ABCDE12345.com.example.phone.voip;pn-prid=" +
			tok.Reveal(),
		CallID: fmt.Sprintf("f81d4fae-7dec-11d0-a765-%012x", n), CSeq: 100,
		Node: "edge-1", Source: "tls:203.0.113.77:51234", UserAgent: "Example Phone/4.2.1 (iOS 18.1)",
		RegisteredAt: now, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}}
}

func seen(aor string, n int) wake.Registration {
	r := Registration(aor, n)
	r.Action, r.Address, r.UserAgent = wake.ActionSeen, pnparam.Address{}, ""
	r.Contact = fmt.Sprintf("sip:desk%d@10.0.0.9:5060", n)
	return r
}

// newWake returns a wake that is held for 30 s.
func newWake(aor, call string) wake.Wake {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return wake.Wake{ID: "id-" + call, AOR: aor, Node: "edge-1", Call: call, CallID: "callid-" + call,
		Kind: push.Call, StartedAt: now, Deadline: now.Add(30 * time.Second)}
}

// fixture calls a store and fails the test on errors.
type fixture struct {
	t *testing.T
	s wake.Store
}

func (f fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	f.t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (f fixture) register(r wake.Registration) wake.Registered {
	f.t.Helper()
	v, err := f.s.Register(f.ctx(), r)
	return must(f.t, v, err)
}

func (f fixture) start(w wake.Wake) wake.Started {
	f.t.Helper()
	v, err := f.s.Start(f.ctx(), w)
	return must(f.t, v, err)
}

func (f fixture) end(w wake.Wake) wake.Ended {
	f.t.Helper()
	v, err := f.s.End(f.ctx(), w.AOR, w.Node, w.Call)
	return must(f.t, v, err)
}

func (f fixture) remove(r wake.Removal) wake.RemovalResult {
	f.t.Helper()
	v, err := f.s.Remove(f.ctx(), r)
	return must(f.t, v, err)
}

func (f fixture) bindings(aor string) []wake.Binding {
	f.t.Helper()
	v, err := f.s.Bindings(f.ctx(), wake.Query{AOR: aor})
	return must(f.t, v, err)
}

func (f fixture) byToken(token secret.Token) []wake.Binding {
	f.t.Helper()
	v, err := f.s.Bindings(f.ctx(), wake.Query{Token: token})
	return must(f.t, v, err)
}

func (f fixture) status(r wake.Registration, want wake.Status, devices int) wake.Registered {
	f.t.Helper()
	got := f.register(r)
	if got.Status != want || got.Devices != devices {
		f.t.Fatalf("Register: %s with %d devices, want %s with %d", got.Status, got.Devices, want, devices)
	}
	return got
}

func (f fixture) equal(got, want any) {
	f.t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b secret.Token) bool { return a == b })); diff != "" {
		f.t.Fatalf("want - got +\n%s", diff)
	}
}
