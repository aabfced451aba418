// Package outbox delivers the pushes of applications. It keeps each one until the
// push service has taken or refused it, or its time is over, also across restarts.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// ErrFull says that as many messages wait as the outbox holds.
var ErrFull = errors.New("outbox full")

// ErrShare is the ErrFull of a tenant that has its share of the outbox: no more of its
// messages may wait than there is room left.
var ErrShare = fmt.Errorf("%w for this tenant: as many of its messages wait as there is room left for others", ErrFull)

// Store keeps the pushes of applications until they are done. Times are kept to
// the microsecond. It is bounded: when it is full, done messages make room, those
// that would end soonest first. Safe for concurrent use.
type Store interface {
	// Put stores a new message, durably, before it returns. It needs an ID and a
	// Deadline. A message whose ID is known stays as it is, so that a Put can be
	// repeated. The error wraps ErrFull when there is no room, ErrShare when there is
	// none for its owner.
	Put(ctx context.Context, m Message) error
	// Update replaces the message with the same ID; one that is gone stays gone.
	Update(ctx context.Context, m Message) error
	// Message returns the message, false if there is none (any more).
	Message(ctx context.Context, id string) (Message, bool, error)
	// Due returns up to limit messages that are not done and whose NextTry is at
	// or before now, the oldest NextTry first, and sets their NextTry to
	// now+lease in the same atomic step, so that no other instance gets them
	// meanwhile. They are returned with the new NextTry.
	Due(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]Message, error)
	// Messages returns messages, done ones too, in no order and about limit of them
	// at a time. An empty cursor begins; each further call gets the cursor of the
	// one before, until it is empty. What is there all the time is returned; one may
	// be returned twice.
	Messages(ctx context.Context, cursor string, limit int) (list []Message, next string, err error)
}

// Message is a push of an application, and what has become of it.
type Message struct {
	ID        string
	AOR       string
	Kind      push.Kind
	From      string // who it is from: a URI, a number or a name; may be empty
	Display   string // how to show who it is from; may be empty
	Title     string
	Body      string
	Data      map[string]string
	CreatedAt time.Time
	// Deadline is when it is not worth delivering any more. The message itself
	// is kept a day longer, for those who ask.
	Deadline time.Time
	NextTry  time.Time
	Targets  []Target

	Owner string   // name of the tenant who sent it; empty: the operator
	Job   string   // ID of the push to many users that it belongs to, else empty
	Many  *Many    // of a push to many users itself, else nil
	Users []string // of a part of one, else nil
}

// Target is one device of a Message.
type Target struct {
	Device  string
	Address pnparam.Address
	State   TargetState
	Reason  push.Reason // why it failed, or why the last try did
	Detail  string      // the provider's own word
	Tries   int
}

// TargetState is what has become of a push to one device.
type TargetState string

// The states.
const (
	TargetQueued TargetState = "queued"
	TargetSent   TargetState = "sent"   // the provider accepted it
	TargetFailed TargetState = "failed" // finally refused, or too late
)

// Done reports whether nothing is left to try.
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
