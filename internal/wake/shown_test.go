package wake_test

import (
	"slices"
	"testing"

	"github.com/sipwake/sipwake/internal/wake"
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

// Nobody gets round the limits by another spelling of his address, or is another
// user by another spelling of theirs.
func TestCallerSpellings(t *testing.T) {
	two := 2
	inBubble(t, func(c *wake.Config) { c.Limits.Pair = &two }, func(r *rig) {
		r.asleep(phone("1"))
		outcomes := map[wake.Outcome]int{}
		for i, from := range []string{"sip:mallory@example.com", "sip:mallory:p1@example.com", "sip:mallory:p2@example.com:5062", "sips:%6dallory@EXAMPLE.com",
			"sip:mallory@example.com?Subject=1", "sip:mallory;x=1@example.com", "sip:mallory@example.com;x=a@b", "sip:mallory@example.com."} {
			call := string(rune('a' + i))
			res := r.start(call, func(p *wake.StartParams) { p.From, p.AOR = from, []string{bob, "sip:B%6Fb@example.com:5060"}[i%2] })
			outcomes[res.Outcome]++
			r.end(call, wake.EndCancelled)
		}
		if outcomes[wake.OutcomePushing] != two || outcomes[wake.OutcomeShed] != 6 {
			t.Errorf("outcomes are %v, pushes %q", outcomes, r.pusher.sent())
		}
	})
}

// A call finds the phones of its user however the two addresses are written.
func TestAORSpellings(t *testing.T) {
	f := func(registered, called string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.registerAs(wake.RegisterParams{Contact: phone("1"), AOR: registered})
			res := r.start("a", func(p *wake.StartParams) { p.AOR = called })
			if !slices.Contains([]wake.Outcome{wake.OutcomePushing, wake.OutcomeAwake}, res.Outcome) {
				t.Errorf("registered as %q, called as %q: %s", registered, called, res.Outcome)
			}
		})
	}
	for _, pair := range [][2]string{{"1234%23x@example.com", "1234#x@example.com"}, {"*97x@h", "%2a97x@h"}, {"%2A97x@h", "%2a97x@h"},
		{"+4930121481@example.com", "tel:+49-30-121481;phone-context=example.com"}, {"+49301@h", "sip:%2B49301@h;user=phone"}, {"bob@[2001:db8::1]", "bob@[2001:DB8:0::1]:5060"}} {
		f(pair[0], pair[1])
		f(pair[1], pair[0])
	}
}
