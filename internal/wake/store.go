package wake

import (
	"context"
	"errors"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

// ErrUnavailable wraps every error of a Store that comes from the store being
// out of reach, as opposed to being used wrongly.
var ErrUnavailable = errors.New("store unavailable")

// Store keeps bindings, open wakes and the registrations of the last seconds.
// Every method is atomic per AOR against every other, across all instances that
// share the store; this is what makes "no lost wake" true. Safe for concurrent
// use. Every method returns by the time its context ends.
type Store interface {
	// Register applies a REGISTER and returns the AOR's open wakes.
	//
	// A registration whose Call-ID equals that of the device's last one and
	// whose CSeq is lower is Stale: nothing changes and no wake is returned. An
	// equal CSeq is a retransmission and is applied again.
	// Unless Gone, the registration is remembered for the store's recent time,
	// so that a Start that comes after it still sees it; when Gone, the memory
	// of the device is dropped and no wake is returned; with GoneAll that of every
	// device, and every binding's ExpiresAt is zero. Gone with Bind refreshes
	// nothing but the order (Call-ID, CSeq) and ExpiresAt of a known binding and
	// stores no unknown one (Status None).
	// A store keeps a bounded number of devices of an AOR: one more replaces the
	// one that has not registered for the longest time.
	// With an error that wraps ErrUnavailable, the wakes that are known on this
	// machine are returned nevertheless.
	Register(ctx context.Context, r Registration) (Registered, error)

	// Start stores the wake, then reads the AOR's bindings and recent
	// registrations. A wake that was ended before it started (End left a
	// tombstone) is not stored. A Start repeated with the same ID is no Duplicate:
	// it is answered as the first one was.
	// The wake is kept until its End, or until MaxRing after its deadline. A store
	// keeps a bounded number of wakes of an AOR: those past their deadline make room
	// for new ones, the oldest first, and count for nothing else.
	Start(ctx context.Context, w Wake) (Started, error)

	// End removes the wake of (aor, node, call), also one past its deadline, or,
	// when there is none, leaves a tombstone so that a Start that comes later does
	// nothing. A bounded number of tombstones of an AOR is kept, the youngest.
	End(ctx context.Context, aor, node, call string) (Ended, error)

	// Remove deletes what the removal matches and returns what went.
	Remove(ctx context.Context, r Removal) (RemovalResult, error)

	// Bindings returns what the query matches, ordered by AOR and Device.
	Bindings(ctx context.Context, q Query) ([]Binding, error)
}

// Registered is the result of Store.Register.
type Registered struct {
	Status  Status // of the rules: Stored, Refreshed, Removed, None or Stale
	Devices int    // bindings of the AOR afterwards
	Wakes   []Wake // open and not past their deadline, oldest first
	// PreviousAORs are the other AORs under which one of the tokens is bound, that
	// which registered longest ago first: one phone with several accounts, or one
	// that has gone from one to another. Told with Stored, and with Refreshed for as
	// long as there are any. A bounded number is known, and what is known may be out
	// of date: remove by Token.
	PreviousAORs []string
}

// Started is the result of Store.Start.
type Started struct {
	// Ended: the wake had already ended. Duplicate: the same wake was already
	// open (a retransmission). Nothing was stored in either case.
	Ended, Duplicate bool
	// Forked: another wake with the same Call-ID, that Covers this one, was open for
	// this AOR when it started first, so its devices have been pushed. The wake was stored.
	Forked bool
	// Full: as many wakes are open for the AOR as the store keeps. Nothing was
	// stored and nothing is returned.
	Full bool
	// Cached: the store is away; this is what was remembered on this machine.
	Cached   bool
	Bindings []Binding
	// Recent are the registrations of the last seconds, one per device, that
	// were not Gone; devices without push among them.
	Recent []Registration
}

// Ended is the result of Store.End.
type Ended struct {
	Known bool // the wake had not ended
	Wake  Wake // as it was stored, if Known
}

// Removal says which bindings to remove. All conditions given must hold.
type Removal struct {
	AOR string // required
	// Device limits it to one device; empty means every device of the AOR.
	Device string
	// Token limits it to bindings that still have this token.
	Token secret.Token
	// TokenOnly takes nothing but the Token: it goes out of the address, and the
	// binding with its last token. The binding stays as it is otherwise.
	TokenOnly bool
	// NotAfter limits it to bindings whose RegisteredAt is at or before it.
	NotAfter time.Time
	// Unregistered limits it to bindings whose registration was ended (ExpiresAt is
	// zero) or has run out, by the store's clock where it has one.
	Unregistered bool
	// Reason is why, in one word, such as "token_dead": see History.
	Reason string
}

// RemovalResult is the result of Store.Remove.
type RemovalResult struct {
	Bindings int // that went
	Tokens   int // that went out of bindings that stay
}

// History is what a store tells of bindings that went. Safe for concurrent use.
type History interface {
	// Removals returns what is noted of the AOR's bindings that were removed, the
	// oldest first: of the last 30 days, and of a bounded number the last. That a
	// binding's retention ran out need not be noted.
	Removals(ctx context.Context, aor string) ([]RemovalNote, error)
}

// RemovalNote says why a binding went.
type RemovalNote struct {
	Device   string
	Provider pnparam.Provider
	App      string
	Reason   string // that of the Removal, or one of a store's own
	At       time.Time
}

// Why a store itself removes a binding.
const (
	RemovedUnbind    = removedUnbind      // the app asked for it
	RemovedReplaced  = "replaced"         // another device registered with its token
	RemovedTooMany   = "too_many_devices" // the AOR had as many as a store keeps
	RemovedRetention = "retention"        // it had not registered for too long
)

// Query says which bindings to return: those of an AOR, or those of every AOR that
// have a token. Exactly one field is set.
type Query struct {
	AOR   string
	Token secret.Token
}

// Sweeper is what a store offers for work on all bindings: refresh wake-ups and
// lists. Safe for concurrent use.
type Sweeper interface {
	// Scan calls f with every binding, some at a time, until all were seen, f
	// fails or ctx ends. A binding that changes meanwhile is seen as it was or
	// as it is; one may be seen twice. The slice is f's to keep.
	Scan(ctx context.Context, f func([]Binding) error) error
	// Expiring calls f with the bindings whose time has come by then, one after the
	// other. The time of a binding is its ExpiresAt, from the REGISTER on that set it,
	// then what f returns, which is after by, or zero for never. It costs as much as f
	// has bindings, apart from the first call. A binding that registers while f runs has
	// the time of that REGISTER. After an error of f the binding keeps its time, and one
	// without ExpiresAt may be handed out once. Of several callers that share the store
	// each may be given a binding: see Claim.
	Expiring(ctx context.Context, by time.Time, f func(Binding) (next time.Time, err error)) error
	// Claim tells one caller, of all that share the store, that the key is its
	// own until ttl has passed; a restart of the caller or the store does not
	// give it to another.
	Claim(ctx context.Context, key string, ttl time.Duration) (bool, error)
	// Release ends the claim of whoever has the key, so that another one may claim it.
	// A key that nobody has is no error.
	Release(ctx context.Context, key string) error
}
