package wake

import (
	"context"
	"errors"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

// ErrUnavailable is wrapped by every Store error that means the store is
// unreachable, as opposed to misused.
var ErrUnavailable = errors.New("store unavailable")

// Store keeps bindings, open wakes and the registrations of the last seconds. For
// each AOR, all methods are atomic with respect to each other, across all instances
// that share the store; this guarantees that no wake is lost. Safe for concurrent
// use. Every method returns when its context ends, if not before.
type Store interface {
	// Register applies a REGISTER and returns the AOR's open wakes.
	//
	// A registration is Stale if its Call-ID equals that of the device's last one and
	// its CSeq is lower: nothing changes and no wake is returned. An equal CSeq is a
	// retransmission and is applied again.
	//
	// Unless Gone, the registration is remembered for the store's recent time, so
	// that a later Start still sees it. When Gone, the device's remembered
	// registration is dropped and no wake is returned. GoneAll does this for every
	// device, and sets every binding's ExpiresAt to zero. Gone with Bind updates only
	// the order (Call-ID, CSeq) and ExpiresAt of a known binding; an unknown binding
	// is not stored (Status None).
	//
	// A store keeps a bounded number of devices per AOR. One more replaces the one
	// that has not registered for the longest time.
	//
	// Even with an error that wraps ErrUnavailable, the wakes known on this machine
	// are returned.
	Register(ctx context.Context, r Registration) (Registered, error)

	// Start stores the wake, then reads the AOR's bindings and recent registrations.
	// A wake that was ended before it started (End left a tombstone) is not stored. A
	// repeated Start with the same ID is not a Duplicate: it gets the same answer as
	// the first.
	//
	// The wake is kept until its End, or until MaxRing after its deadline. A store
	// keeps a bounded number of wakes per AOR. Those past their deadline make room
	// for new ones, oldest first, and otherwise do not count.
	Start(ctx context.Context, w Wake) (Started, error)

	// End removes the wake of (aor, node, call), even one past its deadline. If there
	// is none, End leaves a tombstone, so that a later Start does nothing. A bounded
	// number of tombstones per AOR is kept, the newest.
	End(ctx context.Context, aor, node, call string) (Ended, error)

	// Remove deletes what the removal matches and returns what was deleted.
	Remove(ctx context.Context, r Removal) (RemovalResult, error)

	// Bindings returns what the query matches, ordered by AOR and Device.
	Bindings(ctx context.Context, q Query) ([]Binding, error)
}

// Registered is the result of Store.Register.
type Registered struct {
	Status  Status // Stored, Refreshed, Removed, None or Stale
	Devices int    // bindings of the AOR afterwards
	Wakes   []Wake // open and not past their deadline, oldest first
	// PreviousAORs are the other AORs that one of the tokens is bound to, least
	// recently registered first: a phone with several accounts, or one that moved
	// between accounts. Set with Stored, and with Refreshed while there are any. The
	// list is bounded and may be out of date: remove by Token.
	PreviousAORs []string
}

// Started is the result of Store.Start.
type Started struct {
	// Ended means that the wake had already ended, Duplicate that the same wake was
	// already open (a retransmission). Nothing was stored in either case.
	Ended, Duplicate bool
	// Forked means that another wake with the same Call-ID, which Covers this one,
	// was open for this AOR when this one first started, so its devices have been
	// pushed. The wake was stored.
	Forked bool
	// Full means that the AOR has as many open wakes as the store keeps. Nothing was
	// stored and nothing is returned.
	Full bool
	// Cached means that the store is unavailable and this is what this machine
	// remembers.
	Cached   bool
	Bindings []Binding
	// Recent are the registrations of the last seconds that were not Gone, one per
	// device. They include devices without push.
	Recent []Registration
}

// Ended is the result of Store.End.
type Ended struct {
	Known bool // the wake had not already ended
	Wake  Wake // as stored, if Known
}

// Removal selects the bindings to remove. All conditions given must hold.
type Removal struct {
	AOR string // required
	// Device limits it to one device; empty means every device of the AOR.
	Device string
	// Token limits it to bindings that still have this token.
	Token secret.Token
	// TokenOnly removes only the Token from the address, and the binding if that was
	// its last token. The binding is otherwise unchanged.
	TokenOnly bool
	// NotAfter limits it to bindings whose RegisteredAt is at or before it.
	NotAfter time.Time
	// Unregistered limits it to bindings whose registration was ended (ExpiresAt is
	// zero) or has expired, by the store's clock if it has one.
	Unregistered bool
	// Reason is the cause in one word, such as "token_dead": see History.
	Reason string
}

// RemovalResult is the result of Store.Remove.
type RemovalResult struct {
	Bindings int // removed
	Tokens   int // removed from bindings that stay
}

// History is a store's record of removed bindings. Safe for concurrent use.
type History interface {
	// Removals returns the notes on the AOR's removed bindings, oldest first. It
	// covers the last 30 days and at most a bounded number of the latest removals.
	// Removals by retention need not be noted.
	Removals(ctx context.Context, aor string) ([]RemovalNote, error)
}

// RemovalNote says why a binding was removed.
type RemovalNote struct {
	Device   string
	Provider pnparam.Provider
	App      string
	Reason   string // from the Removal, or one of the store's own
	At       time.Time
}

// Reasons for which a store itself removes a binding.
const (
	RemovedUnbind    = removedUnbind      // requested by the app
	RemovedReplaced  = "replaced"         // another device registered with its token
	RemovedTooMany   = "too_many_devices" // the AOR had the maximum number of devices
	RemovedRetention = "retention"        // it had not registered for too long
)

// Query selects the bindings to return: those of an AOR, or those of any AOR that
// have a token. Exactly one field is set.
type Query struct {
	AOR   string
	Token secret.Token
}

// Sweeper is a store's interface for work on all bindings: refresh wake-ups and
// lists. Safe for concurrent use.
type Sweeper interface {
	// Scan calls f with all bindings, in batches, until it has seen all, f fails or
	// ctx ends. A binding that changes during the scan is seen in its old or new
	// state; a binding may be seen twice. f may keep the slice.
	Scan(ctx context.Context, f func([]Binding) error) error
	// Expiring calls f with each binding that is due at by, one at a time. A REGISTER
	// makes its binding due at the binding's ExpiresAt. After that it is due at the
	// time that f returns, which is after by, or zero for never. The cost is
	// proportional to the bindings passed to f, except on the first call. A binding
	// that registers while f runs keeps the due time set by that REGISTER. After an
	// error of f the due time is unchanged; a binding without ExpiresAt may be passed
	// once. Several callers that share the store may each get the same binding: see
	// Claim.
	Expiring(ctx context.Context, by time.Time, f func(Binding) (next time.Time, err error)) error
	// Claim returns true to one of all the callers that share the store: that caller
	// owns the key until ttl has passed. If the caller or the store restarts, the key
	// is not given to another.
	Claim(ctx context.Context, key string, ttl time.Duration) (bool, error)
	// Release ends the claim on the key, whoever holds it, so that another caller may
	// claim it. Releasing an unclaimed key is not an error.
	Release(ctx context.Context, key string) error
}
