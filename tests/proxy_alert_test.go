package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

// The caller hears something while a phone is being woken.
func TestCallerHears(t *testing.T) {
	t.Parallel()
	queued := table{name: "182", sipwake: rigOptions{wake: "  linger: 1s\n  alert: {code: 182, text: Please wait}"},
		proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
			"the operator's words": func(s *scenario) { hearsWaking(s, 182, "Please wait") },
		}}
	silent := table{name: "none", sipwake: rigOptions{wake: "  linger: 1s\n  alert: {code: -1}"},
		proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
			"nothing is said": func(s *scenario) {
				d := s.iphone(stubborn, answers)
				s.asleep(d)
				c := s.calls()
				s.pushed(d)
				c.happens("accepted", 1)
				s.wakes(d)
				c.talks(d.Phone)
				c.saysNothing()
			},
		}}
	onEveryProxy(t, alertTable(), queued, silent)
}

func alertTable() table {
	return table{name: "180", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"over UDP":               func(s *scenario) { hearsWaking(s, 180, "Waking") },
		"over TCP":               func(s *scenario) { hearsWaking(s, 180, "Waking", tcp) },
		"nobody can be woken":    hearsNothing,
		"a phone rings already":  hearsThePhone,
		"two devices are pushed": hearsOnce,
	}}
}

// ofSipwake returns the provisional answers to the caller that come from no phone.
func (c *call) ofSipwake() (found []phone.Event) {
	for _, e := range find(c.caller.Events(), phone.Provisional) {
		if e.Code == 183 {
			c.s.t.Errorf("183 without media: %s", e.Message.Raw)
		}
		if strings.Contains(e.Message.Header("To"), "tag=sipwake-") {
			found = append(found, e)
		}
	}
	return found
}

func (c *call) saysNothing() {
	c.s.t.Helper()
	if e := c.ofSipwake(); len(e) != 0 {
		c.s.t.Errorf("the caller heard %v", e)
	}
}

func hearsWaking(s *scenario, code int, text string, options ...option) {
	d := s.iphone(append([]option{stubborn, answers}, options...)...)
	s.asleep(d)
	c := s.calls()
	m := must(c.Provisional(s.ctx, code))(s)
	if !strings.Contains(m.Raw, " "+text+"\r\n") {
		s.t.Errorf("the caller heard %s", m.Raw)
	}
	s.pushed(d)
	for _, p := range s.apns.Pushes() {
		if p.Token.Reveal() == d.token {
			s.t.Logf("%s after the push", c.ofSipwake()[0].At.Sub(p.At))
		}
	}
	s.wakes(d)
	c.talks(d.Phone)
	if n := len(c.ofSipwake()); n != 1 {
		s.t.Errorf("%d answers of sipwake's", n)
	}
}

func hearsNothing(s *scenario) {
	d := s.iphone()
	s.asleep(d)
	s.dead(d)
	c := s.calls()
	c.ends(480)
	c.saysNothing()
}

func hearsThePhone(s *scenario) {
	live, d := s.phone(), s.iphone(stubborn)
	s.asleep(d)
	s.registered(live)
	s.apns.Behave(d.token, apnssim.Behaviour{Delay: time.Second})
	c := s.calls()
	must(live.Next(s.ctx, phone.Ringing))(s)
	c.happens("alerting", 1)
	c.saysNothing()
	c.cancels()
}

func hearsOnce(s *scenario) {
	d, e := s.iphone(stubborn), s.iphone(stubborn)
	s.asleep(d, e)
	c := s.calls()
	c.happens("accepted", 2)
	c.happens("alerting", 1)
	c.cancels()
	if n := len(c.ofSipwake()); n != 1 {
		s.t.Errorf("%d answers of sipwake's", n)
	}
}
