package tests

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// An emergency service that calls back (RFC 7090) wakes the phone however often it calls, if
// the administrator trusts the header that marks such calls.
func TestPSAPCallback(t *testing.T) {
	t.Parallel()
	const limits = "  linger: 1s\n  limits: {pair: 1, caller: 1, aor: 1}"
	onEveryProxy(t, table{name: "not believed", sipwake: rigOptions{wake: limits},
		proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
			"it is limited as any other": func(s *scenario) {
				d := s.iphone(answers)
				caller := s.caller()
				psap := phone.InviteOptions{Headers: map[string]string{"Priority": "psap-callback"}}
				s.asleep(d)
				s.callsFrom(caller, psap).talks(d.Phone)
				s.falls(d)
				s.callsFrom(caller, psap).ends(480)
			},
		}}, table{name: "believed", sipwake: rigOptions{wake: limits + "\n  psap_callback: true"},
		proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
			"it is never limited": func(s *scenario) {
				d := s.iphone(answers)
				caller := s.caller()
				calls := func(priority string) *call {
					return s.callsFrom(caller, phone.InviteOptions{Headers: map[string]string{"Priority": priority}})
				}
				s.asleep(d)
				calls("normal").talks(d.Phone)
				s.falls(d)
				calls("emergency").ends(480)
				for range 3 {
					calls("psap-callback").talks(d.Phone)
					s.falls(d)
				}
			},
		}})
}
