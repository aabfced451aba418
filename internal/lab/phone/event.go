package phone

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// ErrClosed is the error of waits and of every use of a phone after Close.
var ErrClosed = errors.New("phone closed")

// Kind says what happened to a phone.
type Kind string

// The kinds. A Got kind is recorded before the phone answers, so that the event exists when
// the answer arrives.
const (
	Opened   Kind = "opened"   // a socket or connection is open
	Slept    Kind = "slept"    // Sleep closed it
	Deafened Kind = "deafened" // SleepDeaf
	Heard    Kind = "hears"    // Hear
	Lost     Kind = "lost"     // the other side closed the connection; Err
	Woken    Kind = "woken"    // Wake is done: Code and Message of the REGISTER, or Err

	Registered Kind = "registered" // final answer to a REGISTER: Code, Message

	Ringing    Kind = "ringing"    // the phone sent 180: Incoming
	Answered   Kind = "answered"   // the phone sent a 2xx to an INVITE: Code, Incoming
	Rejected   Kind = "rejected"   // the phone sent 300 to 699 to an INVITE: Code, Incoming
	Terminated Kind = "terminated" // the phone sent 487 to a cancelled INVITE: Incoming

	Challenged  Kind = "challenged"  // 401 or 407, answered with the password: Code, Message
	Provisional Kind = "provisional" // 1xx to an INVITE of ours: Code, Message
	Final       Kind = "final"       // first final answer to an INVITE of ours: Code, Message
	Forked      Kind = "forked"      // 2xx of one more callee; it got ACK and BYE: Code, Message

	GotInvite  Kind = "got invite"  // Message, Incoming
	GotCancel  Kind = "got cancel"  // Message; Code is the answer to the CANCEL itself
	GotAck     Kind = "got ack"     // Message
	GotBye     Kind = "got bye"     // Message; Code is the answer
	GotMessage Kind = "got message" // a MESSAGE: Message; Code is the answer
	GotForeign Kind = "got foreign" // an INVITE or MESSAGE for another user over UDP: Message; Code is the answer
	GotOther   Kind = "got other"   // any other request: Message; Code is the answer
	GotAgain   Kind = "got again"   // retransmission of a request: Message
	GotStray   Kind = "got stray"   // a response that belongs to no request: Code, Message
	GotGarbage Kind = "got garbage" // not a SIP message: Raw, Err
	GotPush    Kind = "got push"    // OnPush: Payload
)

// Event is one thing that happened to a phone. The Kind decides which fields are set. Do
// not change what its pointers and slices refer to.
type Event struct {
	At       time.Time
	Kind     Kind
	Code     int    // status code
	CallID   string // of Message or of the call
	Message  *Message
	Incoming *Incoming
	Payload  []byte
	Raw      []byte
	Err      error
	Deaf     bool // received but not answered, because the phone was deaf
}

// String returns a short text of the event for people: its kind, code and error.
func (e Event) String() string {
	s := string(e.Kind)
	if e.Code != 0 {
		s += fmt.Sprintf(" %d", e.Code)
	}
	if e.Err != nil {
		s += " (" + e.Err.Error() + ")"
	}
	if e.Deaf {
		s += " deaf"
	}
	return s
}

// eventLog keeps the last events and lets callers wait for one. Safe for
// concurrent use.
type eventLog struct {
	keep int
	hook func(Event)

	mu     sync.Mutex
	first  int // number of events[0], counted from the phone's first event
	events []Event
	next   map[Kind]int  // where take continues its search
	more   chan struct{} // closed by the next event or by close; nil if nobody waits
	closed bool
}

func (l *eventLog) add(e Event) {
	if e.Message != nil {
		e.CallID = e.Message.CallID()
	} else if e.Incoming != nil {
		e.CallID = e.Incoming.Request.CallID()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.At = time.Now()
	if len(l.events) >= 2*l.keep {
		// A new array: waiters read the old one without the lock.
		drop := len(l.events) - l.keep
		l.events = append(make([]Event, 0, 2*l.keep), l.events[drop:]...)
		l.first += drop
	}
	l.events = append(l.events, e)
	l.wakeLocked()
	if l.hook != nil {
		l.hook(e)
	}
}

func (l *eventLog) wakeLocked() {
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

func (l *eventLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wakeLocked()
}

// since returns the kept events from number n on, the number of the first of
// them, and a channel that is closed when there are more; nil after close.
func (l *eventLog) since(n int) ([]Event, int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(n, l.first)
	n = min(n, l.first+len(l.events))
	return l.events[n-l.first:], n, l.moreLocked()
}

func (l *eventLog) wait(ctx context.Context, from int, match func(Event) bool) (Event, error) {
	for {
		events, n, more := l.since(from)
		for _, e := range events {
			if match(e) {
				return e, nil
			}
		}
		if more == nil {
			return Event{}, ErrClosed
		}
		from = n + len(events)
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("cannot see event: %w; so far: %s", ctx.Err(), l.tail())
		}
	}
}

// take returns the oldest event of the kind that take has not returned yet.
func (l *eventLog) take(ctx context.Context, kind Kind) (Event, error) {
	for {
		e, ok, more := l.tryTake(kind)
		switch {
		case ok:
			return e, nil
		case more == nil:
			return Event{}, ErrClosed
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("cannot see event %q: %w; so far: %s", kind, ctx.Err(), l.tail())
		}
	}
}

func (l *eventLog) tryTake(kind Kind) (Event, bool, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := max(l.next[kind]-l.first, 0); i < len(l.events); i++ {
		if l.events[i].Kind == kind {
			l.next[kind] = l.first + i + 1
			return l.events[i], true, nil
		}
	}
	l.next[kind] = l.first + len(l.events)
	return Event{}, false, l.moreLocked()
}

// moreLocked returns a channel that is closed when there are more events; nil after close.
func (l *eventLog) moreLocked() <-chan struct{} {
	if l.more == nil && !l.closed {
		l.more = make(chan struct{})
	}
	return l.more
}

// tail describes the last events, for errors.
func (l *eventLog) tail() string {
	events := l.all()
	if n := len(events); n > 12 {
		events = events[n-12:]
	}
	if len(events) == 0 {
		return "nothing"
	}
	texts := make([]string, len(events))
	for i, e := range events {
		texts[i] = e.String()
	}
	return strings.Join(texts, ", ")
}

func (l *eventLog) all() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Event(nil), l.events...)
}

func (l *eventLog) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first + len(l.events)
}

// Events returns the events that are kept, oldest first.
func (p *Phone) Events() []Event { return p.log.all() }

// Wait returns the oldest event for which match is true, and waits for one if there is
// none. It fails when ctx ends, with the last events in the error's text, and with
// ErrClosed after Close.
func (p *Phone) Wait(ctx context.Context, match func(Event) bool) (Event, error) {
	return p.log.wait(ctx, 0, match)
}

// Mark returns the place of the next event, for WaitFrom.
func (p *Phone) Mark() int { return p.log.mark() }

// WaitFrom is like Wait, but ignores the events before mark.
func (p *Phone) WaitFrom(ctx context.Context, mark int, match func(Event) bool) (Event, error) {
	return p.log.wait(ctx, mark, match)
}

// Next returns the oldest event of the kind that no Next or other WaitX method
// has returned yet, and waits for it as Wait does.
func (p *Phone) Next(ctx context.Context, kind Kind) (Event, error) { return p.log.take(ctx, kind) }

// WaitInvite is like Next, but for an INVITE that is not a retransmission.
func (p *Phone) WaitInvite(ctx context.Context) (*Incoming, error) {
	e, err := p.Next(ctx, GotInvite)
	return e.Incoming, err
}

// WaitCancel is like Next, but for a CANCEL.
func (p *Phone) WaitCancel(ctx context.Context) (*Message, error) {
	e, err := p.Next(ctx, GotCancel)
	return e.Message, err
}

// WaitBye is like Next, but for a BYE.
func (p *Phone) WaitBye(ctx context.Context) (*Message, error) {
	e, err := p.Next(ctx, GotBye)
	return e.Message, err
}

// WaitMessage is like Next, but for a MESSAGE.
func (p *Phone) WaitMessage(ctx context.Context) (*Message, error) {
	e, err := p.Next(ctx, GotMessage)
	return e.Message, err
}

// Requests returns the requests with the method that the phone has heard, also
// while it was deaf, without retransmissions: one a server transaction
// (RFC 3261 section 17.2.3).
func (p *Phone) Requests(method string) []*Message {
	var out []*Message
	for _, e := range p.log.all() {
		switch e.Kind {
		case GotInvite, GotCancel, GotAck, GotBye, GotMessage, GotOther:
			if e.Message.Method() == method {
				out = append(out, e.Message)
			}
		}
	}
	return out
}
