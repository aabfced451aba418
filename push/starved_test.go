package push_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/push"
)

// starved is a service to which no connection can be opened for that long.
func starved(period time.Duration) *service {
	lacks := &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	began := time.Now()
	return &service{answer: func(context.Context, *push.Notification) push.Reply {
		if time.Since(began) < period {
			return push.Reply{Reason: push.Unavailable, Starved: push.Starved(lacks)}
		}
		return push.Reply{Reason: push.Accepted}
	}}
}

// A call for which there was no file or port is tried until there is one.
func TestRetryWhileStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := newRig(t, fcmApp(starved(5*time.Second))) // whose breaker stays closed
		defer r.stop()
		if o := r.send(request(push.Call)); o.Reason != push.Accepted || o.Tries != 1 || time.Since(began) > 6*time.Second {
			t.Errorf("after %s: %+v", time.Since(began), o)
		}
	})
}

// What is no call backs off, so that it does not keep calls from the files there are,
// and ends after as many tries as any.
func TestStarvedOthersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := starved(time.Hour)
		r := newRig(t, fcmApp(s))
		defer r.stop()
		began := time.Now()
		req := request(push.Custom)
		req.Deadline = began.Add(time.Hour)
		o := r.send(req)
		if o.Reason != push.Unavailable || !o.Starved || o.Tries != 0 || s.tries.Load() != 5 || time.Since(began) < 3*time.Second {
			t.Errorf("after %s and %d tries: %+v", time.Since(began), s.tries.Load(), o)
		}
		if o := r.send(request(push.Call)); o.Reason == push.BreakerOpen {
			t.Errorf("the breaker has counted it: %+v", o)
		}
	})
}

func TestStarvedErrors(t *testing.T) {
	dial := func(ip string, errno syscall.Errno) error {
		return fmt.Errorf("post: %w", &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 443}, Err: os.NewSyscallError("connect", errno)})
	}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"no port":          {dial("192.0.2.1", syscall.EADDRNOTAVAIL), true},
		"IPv6 is off":      {dial("2001:db8::1", syscall.EADDRNOTAVAIL), false},
		"unknown":          {syscall.EADDRNOTAVAIL, false},
		"no file, IPv6":    {dial("2001:db8::1", syscall.EMFILE), true},
		"no file in all":   {fmt.Errorf("open: %w", &os.PathError{Op: "open", Err: syscall.ENFILE}), true},
		"no buffer":        {dial("192.0.2.1", syscall.ENOBUFS), true},
		"no memory":        {dial("192.0.2.1", syscall.ENOMEM), true},
		"refused":          {dial("192.0.2.1", syscall.ECONNREFUSED), false},
		"unreachable":      {dial("192.0.2.1", syscall.ENETUNREACH), false},
		"something else":   {errors.New("x"), false},
		"there is no such": {nil, false},
	} {
		if got := push.Starved(c.err); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
