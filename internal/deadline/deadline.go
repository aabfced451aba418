// Package deadline has a context with a deadline that costs almost nothing until
// something waits for it. context.WithDeadline starts a timer and enters itself in its
// parent, which a request that is answered from memory, or over a connection with a
// deadline of its own, never needs.
package deadline

import (
	"context"
	"sync"
	"time"
)

// Context is a context.Context that ends at a time, with its parent or by Release. It has
// no timer until Done is called. Safe for concurrent use.
type Context struct {
	parent context.Context
	at     time.Time

	mu       sync.Mutex
	ctx      context.Context // set once something waits
	cancel   context.CancelFunc
	released bool
}

var _ context.Context = (*Context)(nil)

// With returns a Context that ends at the given time, or at its parent's deadline if that
// is earlier. Release must be called.
func With(parent context.Context, at time.Time) *Context {
	if before, ok := parent.Deadline(); ok && before.Before(at) {
		at = before
	}
	return &Context{parent: parent, at: at}
}

// Within is With for a time that is counted from now.
func Within(parent context.Context, d time.Duration) *Context { return With(parent, time.Now().Add(d)) }

// Split returns a context and a deadline that together are ctx, for those who can wait for
// a time in another way. The deadline is zero if ctx has none that can be split off.
func Split(ctx context.Context) (parent context.Context, at time.Time) {
	for parent = ctx; ; {
		d, ok := parent.(*Context)
		if !ok || !d.unwaited() {
			return parent, at
		}
		if at.IsZero() {
			at = d.at // it is the earliest one, by With
		}
		parent = d.parent
	}
}

// unwaited reports whether the context is nothing but its parent and its deadline.
func (d *Context) unwaited() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ctx == nil && !d.released
}

// Release ends the context. It must be called.
func (d *Context) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released = true
	if d.cancel != nil {
		d.cancel()
	}
}

// Deadline implements context.Context.
func (d *Context) Deadline() (time.Time, bool) { return d.at, true }

// Err implements context.Context.
func (d *Context) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx != nil {
		return d.ctx.Err()
	}
	if err := d.parent.Err(); err != nil || d.released || !time.Now().Before(d.at) {
		return d.waited().Err() // which remembers why it ended
	}
	return nil
}

// Done implements context.Context.
func (d *Context) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waited().Done()
}

// waited returns a context with a timer. The caller holds the lock.
func (d *Context) waited() context.Context {
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithDeadline(d.parent, d.at)
		if d.released {
			d.cancel()
		}
	}
	return d.ctx
}

// Value implements context.Context. Once something waits it asks the context with the
// timer, so that derived contexts need no goroutine: they find it by a key that package
// context uses internally.
func (d *Context) Value(key any) any {
	d.mu.Lock()
	ctx := d.ctx
	d.mu.Unlock()
	if ctx == nil {
		ctx = d.parent
	}
	return ctx.Value(key)
}
