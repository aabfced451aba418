package push

import (
	"context"
	"errors"
)

// Ended returns the Reply of a try whose context has ended, by cancellation or
// timeout. ended is false while the context lasts.
func Ended(ctx context.Context) (r Reply, ended bool) {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return Reply{Reason: Dropped, Detail: "cancelled"}, true
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Reply{Reason: Timeout, Detail: "no answer in time"}, true
	}
	return Reply{}, false
}
