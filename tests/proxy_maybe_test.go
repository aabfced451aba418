package tests

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Phones that may or may not be awake. They are rung at once, as if they were, and pushed
// at once, as if they were not.

// TestField01MaybeAwake: a reachable phone on UDP is rung, whatever happens to its push.
func TestField01MaybeAwake(t *testing.T) {
	t.Parallel()
	// A silent phone is not given up before the end of the hold time.
	c := proxyConfig{Hold: 30 * time.Second, Silence: time.Second}
	onEveryProxy(t, table{name: "may be awake", proxy: c, scenarios: scenarios{
		"its token is dead":                    func(s *scenario) { reachable(s, s.dead) },
		"its push service is out of order":     func(s *scenario) { reachable(s, s.refused) },
		"its binding was removed":              func(s *scenario) { reachable(s, s.unbound) },
		"it never registers again":             func(s *scenario) { reachable(s, func(*device) {}) },
		"it runs on after a while":             runsOn,
		"another one, which sleeps, is pushed": func(s *scenario) { besideSleeper(s, s.iphone(stubborn)) },
		"its app is not served, another sleeps": func(s *scenario) {
			token := s.newToken()
			other := ";pn-provider=apns;pn-param=" + team + ".org.example.other.voip;pn-prid=" + token
			besideSleeper(s, &device{s.phone(params(other)), token})
		},
		"its token cannot be one, another sleeps": func(s *scenario) {
			other := ";pn-provider=apns;pn-param=" + team + "." + bundle + ".voip;pn-prid=nohex"
			besideSleeper(s, &device{s.phone(params(other)), "nohex"})
		},
		"it comes back on another port":  func(s *scenario) { wakesAndTalks(s, s.iphone(answers)) },
		"the caller hangs up":            silentCancelled,
		"another one declines for all":   silentAndDeclined,
		"another one is busy":            silentAndBusy,
		"it is back, but on another TCP": func(s *scenario) { wakesAndTalks(s, s.behindNAT(answers)) },
	}})
}

func (s *scenario) refused(d *device) {
	s.apns.Behave(d.token, apnssim.Behaviour{Status: 503, Reason: "ServiceUnavailable"})
}

// unbound removes what sipwake knows of the user's phones.
func (s *scenario) unbound(*device) {
	s.t.Helper()
	s.call("binding.remove", obj{"aor": s.aor()}, nil)
}

// reachable: the phone is awake all the time and no push reaches it.
func reachable(s *scenario, spoilt func(*device)) {
	d := s.iphone(stubborn, behaves(phone.Answer(100*time.Millisecond)))
	s.registered(d.Phone)
	s.forgotten(1)
	spoilt(d)
	c := s.calls()
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
}

// runsOn: the push resumes the app, but the app does not register.
func runsOn(s *scenario) {
	d := s.iphone(stubborn, answers)
	s.registered(d.Phone)
	s.forgotten(1)
	d.SleepDeaf()
	c := s.calls()
	in := must(d.WaitInvite(s.ctx))(s)
	for range 3 { // for longer than it may be silent otherwise
		must(d.Next(s.ctx, phone.GotAgain))(s)
	}
	d.Hear()
	c.talksOn(d.Phone, in)
	c.over("answered")
}

// besideSleeper: a reachable phone rings although another phone of the user must be woken.
func besideSleeper(s *scenario, d *device) {
	sleeper := s.iphone(stubborn, tcp)
	s.asleep(sleeper)
	s.registered(d.Phone)
	c := s.calls()
	in := must(d.WaitInvite(s.ctx))(s)
	s.pushed(sleeper)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.talksOn(d.Phone, in)
	s.rung(d.Phone, 1)
	s.rung(sleeper.Phone, 0)
}

// silentCancelled: when the phone runs again, a call that is over does not ring it.
func silentCancelled(s *scenario) {
	d := s.iphone(stubborn)
	s.registered(d.Phone)
	s.forgotten(1)
	d.SleepDeaf()
	c := s.calls()
	must(d.WaitInvite(s.ctx))(s)
	s.pushed(d)
	c.cancels()
	c.over("cancelled")
	s.wakes(d)
	must(d.WaitCancel(s.ctx))(s)
}

// silentAndDeclined: a decline for all phones does not wait for a silent phone.
func silentAndDeclined(s *scenario) {
	d, e := s.iphone(stubborn), s.iphone(behaves(phone.Reject(603, 0)))
	s.registered(d.Phone)
	s.registered(e.Phone)
	d.SleepDeaf()
	c := s.calls()
	if res := c.ends(603); res.After > 15*time.Second {
		s.t.Errorf("the caller waited %s", res.After)
	}
}

// silentAndBusy: the caller gets the answer of the phone that answered.
func silentAndBusy(s *scenario) {
	d, e := s.iphone(), s.iphone(behaves(phone.Reject(486, 0)))
	s.registered(d.Phone)
	s.registered(e.Phone)
	s.forgotten(2)
	s.dead(d)
	d.SleepDeaf()
	c := s.calls()
	c.ends(486)
	c.over("busy")
}
