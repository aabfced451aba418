// Package upper keeps users registered at the PBX behind a gateway while their apps
// sleep. It holds the state and the timing; the node only speaks SIP. The password
// never reaches the node: the node forwards the PBX's challenge and gets the
// response.
package upper

import (
	"context"
	"errors"
	"time"
)

// ErrChanged means that a registration has changed since it was read.
var ErrChanged = errors.New("registration changed meanwhile")

// ErrAway means that no gateway could be told to send a request to the PBX.
var ErrAway = errors.New("no gateway can ask the PBX")

// ErrRefused means that a node does not send requests to the server of a Request.
var ErrRefused = errors.New("the node does not know that PBX")

// Store keeps one registration per AOR. Times are kept to the microsecond. Safe for
// concurrent use.
type Store interface {
	// PutUpper durably stores a registration, replacing that of its AOR. If r has a
	// Stamp, it replaces only the one read with that Stamp; otherwise the error wraps
	// ErrChanged.
	PutUpper(ctx context.Context, r Registration) error
	// Upper returns the registration of an AOR, or false if there is none.
	Upper(ctx context.Context, aor string) (Registration, bool, error)
	// RemoveUpper removes the registration of an AOR, if there is one.
	RemoveUpper(ctx context.Context, aor string) error
	// DueUppers returns up to limit registrations whose Due is at or before now,
	// oldest Due first. In the same atomic step it sets their Due to now+lease, so
	// that no other instance gets them meanwhile.
	DueUppers(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Registration, error)
	// Uppers returns up to limit registrations and the next cursor, "" at the end.
	// The first cursor is "". One that changes meanwhile may be returned twice.
	Uppers(ctx context.Context, cursor string, limit int) (list []Registration, next string, err error)
}

// Node is a SIP proxy that can register a user at a PBX.
type Node interface {
	// RegisterUpper makes the node send a REGISTER. The PBX's response arrives as a
	// Result. The error wraps ErrRefused if the node is up but is no gateway to that
	// server.
	RegisterUpper(ctx context.Context, r Request) error
}

// Registration is a user's registration at a PBX, as the PBX granted it to the
// phone.
type Registration struct {
	AOR    string
	Node   string // the gateway at which the PBX has the user's contact
	Server string // SIP URI of the PBX server that was asked last
	Set    int    `json:",omitempty"` // the set in the gateway's list that contains the PBX; 0 if unknown
	URI    string // Request-URI of the phone's REGISTERs
	// Contact is the URI that Node gave the PBX, if Node needs it back; else empty.
	Contact string `json:",omitempty"`
	To      string // its To URI
	User    string // of the credentials
	Realm   string
	// Secret is the HA1 of user and realm (RFC 2617 section 3.2.2.2), sealed by a Key.
	Secret  []byte
	Granted time.Duration
	LastOK  time.Time
	Due     time.Time // time of the next refresh
	State   State
	Why     string // reason for a state other than StateOK
	Tries   int    // consecutive attempts without success
	Silent  int    `json:",omitempty"` // how many of the latest Tries the PBX did not answer

	// Stamp changes with each PutUpper.
	Stamp uint64 `json:"-"`
}

// State is the result of the last refresh.
type State string

// The states.
const (
	StateOK       State = "ok"
	StateRetrying State = "retrying" // no response, or the PBX cannot serve it now
	StateFailed   State = "failed"   // the PBX refuses: retried hourly
)

// Request is a REGISTER to send.
type Request struct {
	Node          string `json:"-"`    // the node with the registration, not always the one asked
	Key           string `json:"call"` // returned in the Result
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

// Result is the PBX's response to a Request.
type Result struct {
	Node    string
	AOR     string
	Key     string
	Server  string   // the server that was asked; may be empty
	Code    int      // 408 if there was no response
	Granted int      // seconds, with a 2xx
	Headers []string // of the response; only WWW-Authenticate matters
}
