// Package outbox delivers the pushes of applications. It keeps each push until the push
// service has accepted or refused it, or its deadline has passed, also across restarts.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// ErrFull says that the outbox holds as many waiting messages as it may.
var ErrFull = errors.New("outbox full")

// ErrShare is the ErrFull of a tenant that has its share of the outbox: no more of its
// messages may wait than there is room left for others.
var ErrShare = fmt.Errorf("%w for this tenant: as many of its messages wait as there is room left for others", ErrFull)

// Store keeps the pushes of applications until they are done. Times have a resolution of
// a microsecond. Its size is limited: when it is full, done messages make room, those
// that expire soonest first. Safe for concurrent use.
type Store interface {
	// Put stores a new message durably before it returns. The message needs an ID and
	// a Deadline. Put does not change a message whose ID is already stored, so it can
	// be repeated. The error wraps ErrFull if there is no room, ErrShare if there is
	// none for its owner.
	Put(ctx context.Context, m Message) error
	// Update replaces the message with the same ID. It does nothing if there is none.
	Update(ctx context.Context, m Message) error
	// Message returns the message, false if there is none (any more).
	Message(ctx context.Context, id string) (Message, bool, error)
	// Due returns up to limit messages that are not done and whose NextTry is at or
	// before now, the oldest NextTry first. In the same atomic step it sets their
	// NextTry to now+lease, so that no other instance gets them during the lease. The
	// result has the new NextTry.
	Due(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Message, error)
	// Messages returns about limit messages, including done ones, in no order. The
	// first call has an empty cursor, each further call the cursor that the call
	// before returned, until that is empty. Messages that exist all the time are all
	// returned; some may be returned twice.
	Messages(ctx context.Context, cursor string, limit int) (list []Message, next string, err error)
}

// Message is a push of an application and its state.
type Message struct {
	ID        string
	AOR       string
	Kind      push.Kind
	From      string // the sender: a URI, a number or a name; may be empty
	Display   string // the sender's display name; may be empty
	Title     string
	Body      string
	Data      map[string]string
	CreatedAt time.Time
	// Deadline is when delivery ends. The message itself is kept a day longer, for
	// push.status.
	Deadline time.Time
	NextTry  time.Time
	Targets  []Target

	Owner string   // name of the tenant who sent it; empty: the operator
	Job   string   // ID of the push to many users that it belongs to; empty: none
	Many  *Many    // set for a push to many users itself
	Users []string // set for a part of a push to many users
}

// Target is one device of a Message.
type Target struct {
	Device  string
	Address pnparam.Address
	State   TargetState
	Reason  push.Reason // why it failed, or why the last try did
	Detail  string      // the push service's own word
	Tries   int
}

// TargetState is the state of the push to one device.
type TargetState string

// The states.
const (
	TargetQueued TargetState = "queued"
	TargetSent   TargetState = "sent"   // the provider accepted it
	TargetFailed TargetState = "failed" // finally refused, or too late
)

// Done reports whether no target is left to try.
func (m Message) Done() bool {
	if m.Many != nil && !m.Many.Ended || len(m.Users) > 0 {
		return false
	}
	for _, t := range m.Targets {
		if t.State == TargetQueued {
			return false
		}
	}
	return true
}
