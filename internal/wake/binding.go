package wake

import (
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Binding is a pushable device of an AOR.
type Binding struct {
	AOR string // user@domain, lower case
	// Device identifies the device within its AOR: the +sip.instance if the
	// client sends one (RFC 5626 section 4.1), else a hash of the push address.
	Device  string
	Address pnparam.Address
	// Contact is the Contact URI of the last REGISTER exactly as sent, with its push
	// parameters. A node finds the registration by it.
	Contact   string
	CallID    string // Call-ID of the last REGISTER
	CSeq      uint32 // its CSeq number
	Node      string // the node it came through
	Source    string // its flow, transport:ip:port
	UserAgent string
	// RegisteredAt is when the last REGISTER arrived, ExpiresAt when that
	// registration expires. The binding itself outlives it.
	RegisteredAt time.Time
	ExpiresAt    time.Time
	CreatedAt    time.Time
}

// Action is what a REGISTER requests with regard to push.
type Action int

// The actions.
const (
	ActionSeen   Action = iota // no push data: a sign of life, and only that is stored
	ActionBind                 // store or refresh the binding
	ActionUnbind               // remove the device's binding
)

// Registration is one REGISTER that a node has accepted.
type Registration struct {
	// Binding holds what is stored. For ActionSeen only AOR, Device, Contact, CallID,
	// CSeq, Node, Source, RegisteredAt and ExpiresAt are used.
	Binding
	Action Action
	// Gone means that the REGISTER ended the registration (expires 0): the device is
	// now unreachable by SIP, and no wake is signalled.
	Gone bool
	// Late means that the REGISTER arrived some time ago, at RegisteredAt. It is also
	// Stale if the device has registered since, under any Call-ID. It is no sign of
	// life now: the device counts as asleep. The only wakes returned are those that
	// had started when it arrived and are not past their deadline.
	Late bool
	// Value is the Binding as package store encodes it, or nil. A store that wraps another
	// sets it, so that both need not encode a binding that is bound. No store keeps it.
	Value []byte
}

// GoneAll reports whether the REGISTER ended every registration of its AOR: Contact
// "*" with expires 0 (RFC 3261 section 10.2.2), which names no device.
func (r *Registration) GoneAll() bool {
	return r.Gone && r.Device == "" && (r.Contact == "*" || r.Contact == "")
}

// Status is the result of a REGISTER's push data.
type Status string

// The statuses of binding.register.
const (
	StatusStored    Status = "stored"    // new device, or its push address changed
	StatusRefreshed Status = "refreshed" // known device, same push address
	StatusRemoved   Status = "removed"   // the binding was removed
	StatusQueried   Status = "queried"   // capability query, RFC 8599 section 4.1.1
	StatusNone      Status = "none"      // no push data, nothing to store
	StatusRefused   Status = "refused"   // the provider or app is not served here
	StatusStale     Status = "stale"     // a newer REGISTER of the same Call-ID was seen
)
