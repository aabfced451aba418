// Package upper keeps users registered at the PBX behind a gateway while their apps
// sleep. It has the state and the clock; the node only speaks SIP. The password never
// goes there: the node brings the PBX's challenge, and is given the response.
package upper

import (
	"context"
	"errors"
	"time"
)

// ErrChanged says that a registration is another one than it was when it was read.
var ErrChanged = errors.New("registration changed meanwhile")

// ErrAway says that no gateway could be told to ask the PBX.
var ErrAway = errors.New("no gateway can ask the PBX")

// ErrRefused says that a node sends nothing to the server of a Request.
var ErrRefused = errors.New("the node does not know that PBX")

// Store keeps the registrations, one for each AOR. Times are kept to the microsecond.
// Safe for concurrent use.
type Store interface {
	// PutUpper stores a registration, durably, in the place of that of its AOR. If r
	// has a Stamp, only in the place of the one that was read with it: else the error
	// wraps ErrChanged.
	PutUpper(ctx context.Context, r Registration) error
	// Upper returns the registration of an AOR, false if there is none.
	Upper(ctx context.Context, aor string) (Registration, bool, error)
	// RemoveUpper removes the registration of an AOR, if there is one.
	RemoveUpper(ctx context.Context, aor string) error
	// DueUppers returns up to limit registrations whose Due is at or before now, the
	// oldest Due first, and sets their Due to now+lease in the same atomic step, so
	// that no other instance gets them meanwhile.
	DueUppers(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Registration, error)
	// Uppers returns up to limit registrations and where to go on, "" at the end. The
	// first cursor is "". One that changes meanwhile may be seen twice.
	Uppers(ctx context.Context, cursor string, limit int) (list []Registration, next string, err error)
}

// Node is a SIP proxy that can register a user at a PBX.
type Node interface {
	// RegisterUpper has a REGISTER sent. What the PBX says comes as a Result. The error
	// wraps ErrRefused if the node lives but is no gateway to that server.
	RegisterUpper(ctx context.Context, r Request) error
}

// Registration is that of a user at a PBX, as the PBX granted it to the phone.
type Registration struct {
	AOR    string
	Node   string // the gateway that the PBX knows the user's contact at
	Server string // SIP URI of the PBX, the one that was asked last
	Set    int    `json:",omitempty"` // of the gateway's list that the PBX is in; 0 if it is not known
	URI    string // Request-URI of the phone's REGISTERs
	// Contact is the URI that Node gave the PBX, if it wants to be told; else empty.
	Contact string `json:",omitempty"`
	To      string // its To URI
	User    string // of the credentials
	Realm   string
	// Secret is the HA1 of user and realm (RFC 2617 section 3.2.2.2), sealed by a Key.
	Secret  []byte
	Granted time.Duration
	LastOK  time.Time
	Due     time.Time // when it is refreshed next
	State   State
	Why     string // of a state that is not StateOK
	Tries   int    // that came to nothing, in a row
	Silent  int    `json:",omitempty"` // the last of them to which the PBX said nothing

	// Stamp changes with each PutUpper.
	Stamp uint64 `json:"-"`
}

// State is how the last refresh ended.
type State string

// The states.
const (
	StateOK       State = "ok"
	StateRetrying State = "retrying" // the PBX said nothing, or that it cannot now
	StateFailed   State = "failed"   // the PBX refuses: tried once an hour
)

// Request is a REGISTER to send.
type Request struct {
	Node          string `json:"-"`    // that the registration is at, not always the one that is asked
	Key           string `json:"call"` // comes back with the Result
	AOR           string `json:"aor"`
	Server        string `json:"server"`
	Set           int    `json:"set,omitempty"`
	URI           string `json:"uri"`
	To            string `json:"to"`
	Contact       string `json:"contact,omitempty"`
	CallID        string `json:"call_id"`
	CSeq          uint32 `json:"cseq"`
	Expires       int    `json:"expires"` // seconds; 0 ends the registration
	Authorization string `json:"authorization,omitempty"`
}

// Result is what the PBX has said to a Request.
type Result struct {
	Node    string
	AOR     string
	Key     string
	Server  string   // that was asked; may be empty
	Code    int      // 408 if it said nothing
	Granted int      // seconds, with a 2xx
	Headers []string // of the answer: the WWW-Authenticate among them count
}
