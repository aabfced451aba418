package wake_test

import (
	"testing"

	"github.com/sipwake/sipwake/wake"
)

// A push says what a person would dial, not how the address was written.
func TestCallerShown(t *testing.T) {
	f := func(from, want string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"))
			r.start("a", func(p *wake.StartParams) { p.From, p.Display = from, "" })
			if v := r.pusher.requests[0].Values; v.User != want || v.From != from {
				t.Errorf("%q is shown as %q, want %q", from, v.User, want)
			}
		})
	}
	f("sip:%2B49170123@example.com", "+49170123")
	f("sip:+49170123;cpc=ordinary@example.com;user=phone", "+49170123")
	f("tel:+49-170-123;cpc=ordinary", "+49170123")
	f("sip:1234%23@example.com", "1234#")
	f("sip:%6Auergen@example.com", "juergen")
	f("sip:192.0.2.1:5060", "192.0.2.1")
	f("sip:anonymous@anonymous.invalid", "anonymous")
}
