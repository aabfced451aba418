package tests

import (
	"errors"
	"fmt"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// call is a call to the scenario's user.
type call struct {
	*phone.Call
	s      *scenario
	caller *phone.Phone
}

// caller creates the phone of a stranger who calls.
func (s *scenario) caller(options ...option) *phone.Phone {
	s.t.Helper()
	if s.callAt != "" {
		options = append([]option{func(c *phone.Config) { c.Proxy = s.callAt }}, options...)
	}
	return s.phoneOf(fmt.Sprintf("caller%d", s.users.Add(1)), options...)
}

// calls makes a stranger call the user.
func (s *scenario) calls() *call {
	s.t.Helper()
	return s.callsFrom(s.caller(), phone.InviteOptions{})
}

func (s *scenario) callsFrom(caller *phone.Phone, o phone.InviteOptions) *call {
	s.t.Helper()
	return &call{must(caller.Invite(s.ctx, s.user, o))(s), s, caller}
}

// ends waits for the caller's final answer.
func (c *call) ends(code int) phone.Result {
	c.s.t.Helper()
	res := must(c.Final(c.s.ctx))(c.s)
	if res.Code != code {
		if c.s.url != "" {
			c.s.t.Logf("%+v", *c.s.timeline(c.CallID()))
		}
		c.s.t.Fatalf("the caller got %d, want %d, after %s", res.Code, code, res.After)
	}
	return res
}

// talks waits until the callee has answered, then hangs up.
func (c *call) talks(callee *phone.Phone) {
	c.s.t.Helper()
	c.ends(200)
	c.talksOn(callee, must(callee.WaitInvite(c.s.ctx))(c.s))
}

// talksOn is like talks, for an INVITE that the test has already seen.
func (c *call) talksOn(callee *phone.Phone, in *phone.Incoming) {
	c.s.t.Helper()
	c.ends(200)
	if err := in.Acked(c.s.ctx); err != nil {
		c.s.t.Fatal(err)
	}
	if m := must(c.Bye(c.s.ctx))(c.s); m.Code() != 200 {
		c.s.t.Errorf("BYE got %d", m.Code())
	}
	must(callee.WaitBye(c.s.ctx))(c.s)
}

// timeline is sipwake's trace of a held request.
type timeline struct {
	Outcome, Reason string
	Events          []struct{ Event, Device, Detail string }
}

// count returns how often something happened.
func (l *timeline) count(event string) int {
	n := 0
	for _, e := range l.Events {
		if e.Event == event {
			n++
		}
	}
	return n
}

// timeline returns the timeline of a call, empty if there is none yet.
func (s *scenario) timeline(callID string) *timeline {
	s.t.Helper()
	var res struct{ Wakes []timeline }
	s.call("wake.trace", obj{"call_id": callID}, &res)
	switch len(res.Wakes) {
	case 0:
		return &timeline{}
	case 1:
		return &res.Wakes[0]
	}
	s.t.Fatalf("one call was held %d times: %+v", len(res.Wakes), res.Wakes)
	return nil
}

// happens waits until sipwake has recorded an event of the call n times.
func (c *call) happens(event string, n int) {
	c.s.t.Helper()
	var l *timeline
	defer func() {
		if l.count(event) < n {
			c.s.t.Logf("only this happened: %+v", *l)
		}
	}()
	eventually(c.s.t, event, func() bool {
		l = c.s.timeline(c.CallID())
		return l.count(event) >= n
	})
}

// over waits until sipwake has been told how the call ended.
func (c *call) over(reason string) {
	c.s.t.Helper()
	c.s.over(c.CallID(), reason)
}

func (s *scenario) over(callID, reason string) {
	s.t.Helper()
	var l *timeline
	eventually(s.t, "told of the end", func() bool {
		l = s.timeline(callID)
		return l.Reason != ""
	})
	if l.Reason != reason || l.count("ended") != 1 {
		s.t.Errorf("ended as %q, want %q: %+v", l.Reason, reason, l)
	}
}

// cancels hangs up before the call is answered.
func (c *call) cancels() {
	c.s.t.Helper()
	if m := must(c.Cancel(c.s.ctx))(c.s); m.Code() != 200 {
		c.s.t.Errorf("CANCEL got %d", m.Code())
	}
	c.ends(487)
}

// gone ignores the error of a call that was already over.
func gone(err error) bool { return errors.Is(err, phone.ErrNotUp) }
