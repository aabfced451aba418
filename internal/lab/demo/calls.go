package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

const (
	callsKept   = 100
	callsOpen   = 20
	callLasts   = time.Minute     // after this the caller hangs up
	demoTalks   = time.Second     // length of an answered call in the first round
	hangUpWaits = 5 * time.Second // how long to wait for the answer to CANCEL or BYE
)

// labCall is a call of the control or the demo. Safe for concurrent use.
type labCall struct {
	*phone.Call
	number   int
	from, to string
	at       time.Time
	heard    chan struct{} // closed when the caller has the final answer

	mu   sync.Mutex
	said string
}

func (c *labCall) state() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said
}

func (c *labCall) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = text
}

// hangUp cancels the call, or ends it if it was answered.
func (c *labCall) hangUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hangUpWaits)
	defer cancel()
	_, err := c.Cancel(ctx)
	if errors.Is(err, phone.ErrNotUp) {
		<-c.heard
		if _, err = c.Bye(ctx); err == nil {
			c.say("answered, and the caller hung up")
		}
	}
	return err
}

// callBook has the last calls. The zero callBook is empty and ready for use. Safe for
// concurrent use.
type callBook struct {
	mu     sync.Mutex
	list   []*labCall // the oldest first
	made   int
	open   int
	closed bool
	work   sync.WaitGroup
	stop   []context.CancelFunc
}

// dial makes a user of the lab call another one, or anybody.
func (l *lab) dial(ctx context.Context, from, to string) (*labCall, error) {
	caller := l.phone(from)
	if caller == nil {
		return nil, fmt.Errorf("no phone %q in the lab", from)
	}
	b := &l.calls
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.open == callsOpen {
		return nil, fmt.Errorf("%d calls are going on, hang up first", b.open)
	}
	call, err := caller.Invite(ctx, to, phone.InviteOptions{Display: []byte(`"` + from + `"`)})
	if err != nil {
		return nil, fmt.Errorf("%s cannot call: %w", from, err)
	}
	b.made++
	b.open++
	c := &labCall{Call: call, number: b.made, from: from, to: to, at: time.Now(), heard: make(chan struct{}), said: "calling"}
	b.list = append(b.list, c)
	if len(b.list) > callsKept {
		b.list = b.list[1:]
	}
	end, cancel := context.WithTimeout(context.Background(), callLasts)
	b.stop = append(b.stop[max(0, len(b.stop)-callsOpen):], cancel)
	b.work.Go(func() {
		defer cancel()
		c.follow(end)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.open--
	})
	return c, nil
}

// follow records how the call ends, and hangs up when ctx ends.
func (c *labCall) follow(ctx context.Context) {
	defer close(c.heard)
	res, err := c.Final(ctx)
	if ctx.Err() != nil {
		end, cancel := context.WithTimeout(context.Background(), hangUpWaits)
		defer cancel()
		_, _ = c.Cancel(end) // the final answer shows the result
		res, err = c.Final(end)
	}
	switch {
	case err != nil:
		c.say("ended: " + err.Error())
	case res.Code < 300:
		c.say("answered, goes on")
	default:
		c.say(fmt.Sprintf("ended: the caller heard %d after %.1f s", res.Code, res.After.Seconds()))
	}
}

// hangUpSoon ends an answered call of the demo.
func (l *lab) hangUpSoon(c *labCall) {
	if c.state() != "answered, goes on" {
		return
	}
	time.Sleep(demoTalks)
	_ = c.hangUp(context.Background()) // the call shows the result
}

func (l *lab) phone(name string) *resident {
	for _, r := range l.phones {
		if r.name == name {
			return r
		}
	}
	return nil
}

// last returns the last calls, the oldest first.
func (b *callBook) last() []*labCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*labCall(nil), b.list...)
}

// call returns the call with the number, nil if the book no longer has it.
func (b *callBook) call(number string) *labCall {
	for _, c := range b.last() {
		if fmt.Sprint(c.number) == number {
			return c
		}
	}
	return nil
}

// close ends the current calls and waits for them.
func (b *callBook) close() {
	b.mu.Lock()
	b.closed = true
	for _, cancel := range b.stop {
		cancel()
	}
	b.mu.Unlock()
	b.work.Wait()
}
