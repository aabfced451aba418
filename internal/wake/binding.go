package wake

import (
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Binding is a device of an AOR that can be pushed.
type Binding struct {
	AOR string // user@domain, lower case
	// Device identifies the device within its AOR: the +sip.instance if the
	// client sends one (RFC 5626 section 4.1), else a hash of the push address.
	Device  string
	Address pnparam.Address
	// Contact is the Contact URI of the last REGISTER as it was sent, with its
	// push parameters: the key under which a node finds the registration.
	Contact   string
	CallID    string // Call-ID of the last REGISTER
	CSeq      uint32 // its CSeq number
	Node      string // the node it came through
	Source    string // its flow, transport:ip:port
	UserAgent string
	// RegisteredAt is when the last REGISTER came, ExpiresAt when that
	// registration ends. The binding itself outlives it.
	RegisteredAt time.Time
	ExpiresAt    time.Time
	CreatedAt    time.Time
}

// Action is what a REGISTER asks for, as regards push.
type Action int

// The actions.
const (
	ActionSeen   Action = iota // no push data: a sign of life, nothing is stored but the sign
	ActionBind                 // store or refresh the binding
	ActionUnbind               // remove the device's binding
)

// Registration is one REGISTER that a node has accepted.
type Registration struct {
	// Binding holds what is stored; for ActionSeen only AOR, Device, Contact, CallID,
	// CSeq, Node, Source, RegisteredAt and ExpiresAt count.
	Binding
	Action Action
	// Gone says that the REGISTER ended the registration (expires 0): the
	// device is not reachable by SIP now, and wakes nobody.
	Gone bool
	// Late says that the REGISTER came some time ago, at RegisteredAt. It is Stale
	// as well if the device has registered since, under whatever Call-ID, and
	// it is no sign of life now: the device counts as asleep, and only wakes are
	// returned that had started when it came and are not past their deadline.
	Late bool
}

// GoneAll reports whether the REGISTER ended every registration of its AOR: Contact
// "*" with expires 0 (RFC 3261 section 10.2.2), which names no device.
func (r *Registration) GoneAll() bool {
	return r.Gone && r.Device == "" && (r.Contact == "*" || r.Contact == "")
}

// Status is what became of a REGISTER's push data.
type Status string

// The statuses of binding.register.
const (
	StatusStored    Status = "stored"    // new device, or its push address changed
	StatusRefreshed Status = "refreshed" // known device, same push address
	StatusRemoved   Status = "removed"   // the binding is gone
	StatusQueried   Status = "queried"   // capability query, RFC 8599 section 4.1.1
	StatusNone      Status = "none"      // no push data, nothing to store
	StatusRefused   Status = "refused"   // the provider or app is not served here
	StatusStale     Status = "stale"     // a newer REGISTER of the same Call-ID was seen
)
