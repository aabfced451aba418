package tests

import (
	"testing"
	"time"
)

// Strict RFC 8599: a registration that was ended or has expired is never pushed, and one
// that is too short for a refresh push is refused.
func TestStrict(t *testing.T) {
	t.Parallel()
	onEveryProxy(t, table{name: "to the letter", sipwake: rigOptions{wake: "  linger: 1s\n  strict: true\n  min_expires: 1s"},
		proxy: proxyConfig{Hold: 30 * time.Second, Strict: true, Ask: true}, scenarios: scenarios{
			"registered": func(s *scenario) { wakesAndTalks(s, s.iphone(answers, tcp)) },
			"the registration was ended": func(s *scenario) {
				d := s.iphone(answers)
				s.registered(d.Phone)
				s.forgotten(1)
				if m := must(d.Register(s.ctx, 0))(s); m.Code() != 200 {
					s.t.Fatalf("un-REGISTER got %d", m.Code())
				}
				s.falls(d)
				notWoken(s, d)
			},
			"the registration has run out": func(s *scenario) {
				d := s.iphone(answers)
				if m := must(d.Register(s.ctx, 2*time.Second))(s); m.Code() != 200 {
					s.t.Fatalf("REGISTER got %d", m.Code())
				}
				s.falls(d)
				time.Sleep(2100 * time.Millisecond)
				notWoken(s, d)
			},
		}}, table{name: "refresh", sipwake: rigOptions{wake: "  linger: 1s\n  strict: true"},
		proxy: proxyConfig{Hold: 30 * time.Second, Ask: true}, scenarios: scenarios{
			"too short for a refresh push": func(s *scenario) {
				d := s.iphone()
				m := must(d.Register(s.ctx, 239*time.Second))(s)
				if m.Code() != 423 || m.Header("Min-Expires") != "240" {
					s.t.Errorf("REGISTER got %d, Min-Expires %q", m.Code(), m.Header("Min-Expires"))
				}
				s.registered(d.Phone)
			},
		}})
}

// notWoken: the call ends at once, and nobody was pushed.
func notWoken(s *scenario, d *device) {
	s.t.Helper()
	c := s.calls()
	c.ends(480)
	for _, p := range s.apns.Pushes() {
		if p.Token.Reveal() == d.token {
			s.t.Errorf("pushed: %+v", p)
		}
	}
	s.rung(d.Phone, 0)
}
