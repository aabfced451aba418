package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// A pushed phone that comes back after the end of its call gets an INVITE of that call and
// its CANCEL.
func TestLatePhones(t *testing.T) {
	t.Parallel()
	onEveryProxy(t, lateTable(), awayTable())
}

func lateTable() table {
	return table{name: "late", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"answered elsewhere, over UDP": func(s *scenario) { lateAnswered(s) },
		"answered elsewhere, over TCP": func(s *scenario) { lateAnswered(s, tcp) },
		"several, at the same time":    lateTogether,
		"declined elsewhere":           lateDeclined,
		"at the address that was rung": lateSameAddress,
		"it answers at once":           lateAnswers,
		"it had rung":                  lateRang,
		"it answered, and has moved":   lateMoved,
		"out of reach for a while":     awayAWhile,
	}}
}

// hears waits until the phone has got the call and its end. A phone that answers at once is
// hung up on.
func (s *scenario) hears(c *call, p *phone.Phone, reason string) {
	s.t.Helper()
	in := must(p.WaitInvite(s.ctx))(s)
	if in.Request.CallID() != c.CallID() {
		s.t.Errorf("the phone heard of the call %q, want %q", in.Request.CallID(), c.CallID())
	}
	if from := in.Request.Header("From"); !strings.Contains(from, "caller") {
		s.t.Errorf("the phone shows %q", from)
	}
	end := must(p.Wait(s.ctx, func(e phone.Event) bool { return e.Kind == phone.Terminated || e.Kind == phone.GotBye }))(s)
	c.happens("late", 1)
	if end.Kind == phone.GotBye {
		return
	}
	cancel := must(p.WaitCancel(s.ctx))(s)
	got := strings.Join(cancel.Headers("Reason"), ",")
	if cancel.CallID() != c.CallID() || reason == "" && strings.Contains(got, "cause=200") || !strings.Contains(got, reason) {
		s.t.Errorf("the CANCEL is %s, want the Reason %q", cancel.Raw, reason)
	}
}

func lateAnswered(s *scenario, options ...option) {
	desk, d := s.phone(), s.iphone(append([]option{stubborn}, options...)...)
	s.asleep(d)
	s.registered(desk)
	c := s.calls()
	in := must(desk.WaitInvite(s.ctx))(s)
	s.pushed(d)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	c.over("answered")
	s.wakes(d)
	s.hears(c, d.Phone, "cause=200")
	heard := len(c.caller.Events())
	// Only once: the phone gets no call that it already knows.
	then := time.Now()
	s.wakes(d)
	s.reported(then)
	s.rung(d.Phone, 1)
	s.rung(desk, 1)
	if e := c.caller.Events()[heard:]; len(e) != 0 {
		s.t.Errorf("the caller heard of it: %v", e)
	}
}

// lateTogether: each phone gets the end of its own INVITE, although all belong to one call.
func lateTogether(s *scenario) {
	desk := s.phone()
	var late []*device
	for range 5 {
		late = append(late, s.iphone(stubborn))
	}
	s.asleep(late...)
	s.registered(desk)
	c := s.calls()
	in := must(desk.WaitInvite(s.ctx))(s)
	for _, d := range late {
		s.pushed(d)
	}
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	c.over("answered")
	for _, d := range late {
		s.wakes(d)
	}
	for _, d := range late {
		s.hears(c, d.Phone, "cause=200")
	}
	c.happens("late", len(late))
}

func lateDeclined(s *scenario) {
	d, e := s.iphone(behaves(phone.Reject(603, 0))), s.iphone(stubborn)
	s.asleep(d, e)
	c := s.calls()
	s.pushed(e)
	c.ends(603)
	c.over("declined")
	s.wakes(e)
	s.hears(c, e.Phone, "cause=") // 603 or, as OpenSIPS knows no other, 200
}

// lateSameAddress: the phone slept at the address that was rung, so it did not get the call.
func lateSameAddress(s *scenario) {
	d := s.iphone(stubborn)
	s.registered(d.Phone)
	s.forgotten(1)
	d.SleepDeaf()
	c := s.calls()
	s.pushed(d)
	c.cancels()
	c.over("cancelled")
	eventually(s.t, "the proxy repeats its INVITE no more", func() bool {
		n := len(d.Requests("INVITE"))
		time.Sleep(1500 * time.Millisecond)
		return len(d.Requests("INVITE")) == n
	})
	d.Hear()
	s.wakes(d)
	must(d.WaitCancel(s.ctx))(s)
	c.happens("late", 1)
}

// lateAnswers: the user answers the call that the push shows before the phone learns that it
// is over. The phone is hung up on.
func lateAnswers(s *scenario) {
	d := s.iphone(stubborn, answers)
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	c.cancels()
	c.over("cancelled")
	s.wakes(d)
	in := must(d.WaitInvite(s.ctx))(s)
	if in.Request.CallID() != c.CallID() {
		s.t.Errorf("the phone heard of %q", in.Request.CallID())
	}
	must(d.Wait(s.ctx, func(e phone.Event) bool { return e.Kind == phone.Terminated || e.Kind == phone.GotBye }))(s)
	s.rung(d.Phone, 1)
}

// lateRang: a phone that had the call gets its end in that call, and nothing later.
func lateRang(s *scenario) {
	d := s.iphone()
	s.asleep(d)
	c := s.calls()
	must(d.Next(s.ctx, phone.Ringing))(s)
	c.cancels()
	must(d.WaitCancel(s.ctx))(s)
	c.over("cancelled")
	then := time.Now()
	s.wakes(d)
	s.reported(then)
	time.Sleep(700 * time.Millisecond) // longer than sipwake waits for news that overtake each other
	s.rung(d.Phone, 1)
}

// lateMoved: the phone sleeps again as soon as it has answered. When sipwake hears that it
// has registered, it has done so at another address, for the next call.
func lateMoved(s *scenario) {
	d := s.iphone(answers)
	s.asleep(d)
	for range 6 {
		c := s.calls()
		c.ends(200)
		s.falls(d)
	}
	calls := map[string]int{}
	for _, m := range d.Requests("INVITE") {
		calls[m.CallID()]++
	}
	for id, n := range calls {
		if n != 1 {
			s.t.Errorf("%d INVITEs of one call: %+v", n, *s.timeline(id))
		}
	}
}

// awayAWhile: Apple cannot reach the phone when the call comes. Apple stores the push as long
// as the call is held.
func awayAWhile(s *scenario) {
	d := s.iphone(answers)
	s.asleep(d)
	s.apns.SetAway(d.token, true)
	c := s.calls()
	c.happens("accepted", 1)
	s.apns.SetAway(d.token, false)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
}

// awayTable: scenarios that need the end of the hold time, which is 1 s here.
func awayTable() table {
	return table{name: "away", proxy: proxyConfig{Hold: time.Second}, scenarios: scenarios{
		"out of reach until the hold time is over": func(s *scenario) {
			d := s.iphone(answers)
			s.asleep(d)
			s.apns.SetAway(d.token, true)
			c := s.calls()
			c.ends(480)
			c.over("timeout")
			time.Sleep(2 * time.Second) // apns-expiration is in whole seconds
			s.apns.SetAway(d.token, false)
			if n := len(find(d.Events(), phone.GotPush)); n != 0 {
				s.t.Errorf("%d pushes for a call that is over", n)
			}
			s.wakes(d)
			must(d.Wait(s.ctx, func(e phone.Event) bool { return e.Kind == phone.Terminated || e.Kind == phone.GotBye }))(s)
		},
	}}
}
