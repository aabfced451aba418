package tests

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// An emergency service that calls back (RFC 7090) is not kept from waking the phone,
// however often it calls.
func TestPSAPCallback(t *testing.T) {
	t.Parallel()
	onEveryProxy(t, table{name: "limits", sipwake: rigOptions{wake: "  linger: 1s\n  limits: {pair: 1, caller: 1, aor: 1}"},
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
