package deadline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A Context is what context.WithDeadline returns, whatever is asked first.
func TestDeadlineContext(t *testing.T) {
	ways := map[string]func(d *Context) context.Context{
		"as it is": func(d *Context) context.Context { return d },
		"waited for": func(d *Context) context.Context {
			_ = d.Done()
			return d
		},
		"parent": func(d *Context) context.Context {
			ctx, cancel := context.WithCancel(d)
			t.Cleanup(cancel)
			return ctx
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := With(context.Background(), time.Now().Add(time.Second))
				ctx := way(d)
				if at, ok := ctx.Deadline(); !ok || !at.Equal(d.at) || ctx.Err() != nil {
					t.Error(at, ok, ctx.Err())
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					t.Error("late: ", ctx.Err())
				}
				<-ctx.Done()
				d.Release()
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					t.Error("late and released: ", ctx.Err())
				}

				d = With(context.Background(), time.Now().Add(time.Second))
				ctx = way(d)
				d.Release()
				synctest.Wait()
				if !errors.Is(ctx.Err(), context.Canceled) {
					t.Error("released: ", ctx.Err())
				}
				<-ctx.Done()
			})
		})
	}
}

// A Context ends with its parent, and has the parent's deadline if that is earlier.
func TestParent(t *testing.T) {
	type key struct{}
	parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	near := time.Now().Add(time.Hour)
	outer := With(parent, near)
	defer outer.Release()
	inner := With(outer, near.Add(time.Hour))
	defer inner.Release()
	if at, _ := inner.Deadline(); !at.Equal(near) || inner.Value(key{}) != "value" {
		t.Error(at, inner.Value(key{}))
	}
	cancel()
	if !errors.Is(inner.Err(), context.Canceled) {
		t.Error(inner.Err())
	}
	<-inner.Done()
	<-outer.Done()
}

// Split takes nested contexts apart, but not one that already waits or has ended: its
// timer, or its end, would be lost.
func TestSplit(t *testing.T) {
	at := time.Now().Add(time.Hour)
	outer := With(t.Context(), at)
	defer outer.Release()
	inner := With(outer, at.Add(time.Hour))
	if parent, until := Split(inner); parent != t.Context() || !until.Equal(at) {
		t.Error("nested: ", parent, until)
	}
	if parent, until := Split(t.Context()); parent != t.Context() || !until.IsZero() {
		t.Error("another: ", parent, until)
	}
	_ = outer.Done()
	if parent, until := Split(inner); parent != context.Context(outer) || !until.Equal(at) {
		t.Error("waiting parent: ", parent, until)
	}
	inner.Release()
	if parent, until := Split(inner); parent != context.Context(inner) || !until.IsZero() {
		t.Error("released: ", parent, until)
	}
}
