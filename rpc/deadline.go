package rpc

import (
	"context"
	"sync"
	"time"
)

// deadlineContext is a context with a deadline, like context.WithDeadline. It has no
// timer until something waits for it: most requests are answered from memory.
type deadlineContext struct {
	at time.Time

	mu       sync.Mutex
	ctx      context.Context // set once something waits
	cancel   context.CancelFunc
	released bool
}

var _ context.Context = (*deadlineContext)(nil)

// release ends the context. It must be called.
func (d *deadlineContext) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released = true
	if d.cancel != nil {
		d.cancel()
	}
}

// Deadline implements context.Context.
func (d *deadlineContext) Deadline() (time.Time, bool) { return d.at, true }

// Err implements context.Context.
func (d *deadlineContext) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.ctx != nil:
		return d.ctx.Err()
	case d.released:
		return context.Canceled
	case !time.Now().Before(d.at):
		return d.waited().Err()
	}
	return nil
}

// Done implements context.Context.
func (d *deadlineContext) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waited().Done()
}

// waited returns a context with a timer. The caller holds the lock.
func (d *deadlineContext) waited() context.Context {
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithDeadline(context.Background(), d.at)
		if d.released {
			d.cancel()
		}
	}
	return d.ctx
}

// Value implements context.Context. For the key that package context uses internally
// it returns the context with the timer, so that derived contexts need no goroutine.
func (d *deadlineContext) Value(key any) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil {
		return nil
	}
	return d.ctx.Value(key)
}
