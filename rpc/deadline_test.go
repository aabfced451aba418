package rpc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A deadlineContext is what context.WithDeadline returns, whatever is asked first.
func TestDeadlineContext(t *testing.T) {
	ways := map[string]func(d *deadlineContext) context.Context{
		"as it is": func(d *deadlineContext) context.Context { return d },
		"waited for": func(d *deadlineContext) context.Context {
			_ = d.Done()
			return d
		},
		"parent": func(d *deadlineContext) context.Context {
			ctx, cancel := context.WithCancel(d)
			t.Cleanup(cancel)
			return ctx
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &deadlineContext{at: time.Now().Add(time.Second)}
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
				d.release()
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					t.Error("late and released: ", ctx.Err())
				}

				d = &deadlineContext{at: time.Now().Add(time.Second)}
				ctx = way(d)
				d.release()
				synctest.Wait()
				if !errors.Is(ctx.Err(), context.Canceled) {
					t.Error("released: ", ctx.Err())
				}
				<-ctx.Done()
			})
		})
	}
}
