package tests

import (
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

// callTable: the outcomes of a call, on one node that holds it for 30 s.
func callTable() table {
	return table{name: "calls", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"a sleeping phone is woken over UDP":               func(s *scenario) { wakesAndTalks(s, s.iphone(answers)) },
		"a sleeping phone is woken over TCP":               func(s *scenario) { wakesAndTalks(s, s.iphone(answers, tcp)) },
		"a sleeping phone is woken through FCM":            func(s *scenario) { wakesAndTalks(s, s.android(answers)) },
		"a phone that may be awake is rung at once, once":  mayBeAwake,
		"an un-registered phone is woken":                  wokenAfterUnregister,
		"a phone bound by X-MPUSH is woken":                wokenByMPUSH,
		"a phone nobody knew registers meanwhile":          unknownRegisters,
		"a live phone rings, a sleeping one is woken":      liveAndSleeping,
		"a live phone answers, the woken one is too late":  liveAnswers,
		"two phones are woken, one answers":                twoWoken,
		"two phones answer at once":                        bothAnswer,
		"one phone is busy, the next one answers":          busyThenOther,
		"the only phone is busy":                           busy,
		"a live phone is busy":                             liveBusy,
		"one phone declines for all":                       declined,
		"the caller hangs up while nobody is awake":        cancelledAsleep,
		"the caller hangs up while the phone rings":        cancelledRinging,
		"nobody has a phone":                               noDevices,
		"every token is dead":                              deadTokens,
		"every token is dead, a connection hears nothing":  deadAndDeaf,
		"one token is dead, the other phone is busy":       deadAndBusy,
		"one token is dead, the other phone rings":         deadAndRinging,
		"a REGISTER that ends a registration rings nobody": unregisters,
	}}
}

// wakesAndTalks: the whole way, with a closed socket and a new port.
func wakesAndTalks(s *scenario, d *device) {
	s.asleep(d)
	before := d.LocalAddr()
	c := s.calls()
	c.talks(d.Phone)
	if d.LocalAddr() == before {
		s.t.Error("the phone woke on the port it had before")
	}
	s.rung(d.Phone, 1)
	c.over("answered")
	if n := len(find(d.Events(), phone.GotPush)); n != 1 {
		s.t.Errorf("%d pushes", n)
	}
}

func find(events []phone.Event, kind phone.Kind) (found []phone.Event) {
	for _, e := range events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// mayBeAwake: the phone's socket is open, but the app does not run. It is rung and pushed,
// and answers that INVITE when it is back.
func mayBeAwake(s *scenario) {
	d := s.iphone(answers, stubborn)
	s.registered(d.Phone)
	s.forgotten(1)
	d.SleepDeaf()
	c := s.calls()
	in := must(d.WaitInvite(s.ctx))(s)
	s.pushed(d)
	s.wakes(d)
	c.talksOn(d.Phone, in)
	if n := len(d.Requests("INVITE")); n != 1 {
		s.t.Errorf("%d INVITEs reached the phone", n)
	}
	c.over("answered")
	if n := s.timeline(c.CallID()).count("withheld"); n != 0 {
		s.t.Errorf("%d pushes were withheld", n)
	}
}

func wokenAfterUnregister(s *scenario) {
	d := s.iphone(answers)
	s.registered(d.Phone)
	s.forgotten(1)
	if m := must(d.Register(s.ctx, 0))(s); m.Code() != 200 {
		s.t.Fatalf("un-REGISTER got %d", m.Code())
	}
	s.falls(d)
	c := s.calls()
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
	c.over("answered")
}

func wokenByMPUSH(s *scenario) {
	token := s.newToken()
	d := &device{s.phone(answers, header("X-MPUSH", "i:"+bundle+":"+token)), token}
	s.deliverAPNs(d)
	wakesAndTalks(s, d)
	s.nextUser()
	token = "fcm-" + s.newToken()
	d = &device{s.phone(answers, tcp, header("X-MPUSH", "a:"+bundle+":"+token)), token}
	s.deliverFCM(d)
	wakesAndTalks(s, d)
}

// unknownRegisters: another phone of the user keeps the call held:
// for a user without any, sipwake lets it end.
func unknownRegisters(s *scenario) {
	sleeper := s.iphone(stubborn)
	s.asleep(sleeper)
	c := s.calls()
	s.pushed(sleeper)
	d := s.iphone(answers)
	s.registered(d.Phone)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
	s.rung(sleeper.Phone, 0)
	c.over("answered")
}

func liveAndSleeping(s *scenario) {
	live, d := s.phone(), s.iphone(answers, stubborn)
	s.registered(live)
	s.asleep(d)
	c := s.calls()
	must(live.WaitInvite(s.ctx))(s)
	s.pushed(d)
	s.wakes(d)
	c.talks(d.Phone)
	// "Answered elsewhere": the live phone must not show a missed call.
	if m := must(live.WaitCancel(s.ctx))(s); !strings.Contains(strings.Join(m.Headers("Reason"), ","), "cause=200") {
		s.t.Errorf("Reason of the CANCEL: %q", m.Headers("Reason"))
	}
	s.rung(live, 1)
	s.rung(d.Phone, 1)
	c.over("answered")
}

func liveAnswers(s *scenario) {
	live, d := s.phone(), s.iphone(answers, stubborn)
	if s.callAt != "" { // the node of the call rings what is registered there
		live = s.phone(func(c *phone.Config) { c.Proxy = s.callAt })
	}
	s.registered(live)
	s.asleep(d)
	c := s.calls()
	in := must(live.WaitInvite(s.ctx))(s)
	s.pushed(d)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	if strings.Contains(s.kind.name, "gateway") { // the PBX has forked the call, and cancels this branch
		c.over("cancelled")
		s.wakes(d)
		s.hears(c, d.Phone, "")
		return
	}
	c.over("answered")
	s.wakes(d)
	s.hears(c, d.Phone, "cause=200")
	s.rung(live, 1)
}

func twoWoken(s *scenario) {
	d, e := s.iphone(), s.iphone(stubborn, answers)
	s.asleep(d, e)
	c := s.calls()
	must(d.Next(s.ctx, phone.Ringing))(s)
	s.wakes(e)
	c.talks(e.Phone)
	must(d.WaitCancel(s.ctx))(s)
	s.rung(d.Phone, 1)
	s.rung(e.Phone, 1)
	c.over("answered")
}

func bothAnswer(s *scenario) {
	d, e := s.iphone(), s.iphone()
	s.asleep(d, e)
	c := s.calls()
	one, other := must(d.WaitInvite(s.ctx))(s), must(e.WaitInvite(s.ctx))(s)
	answered := make(chan error)
	go func() { answered <- one.Answer(200) }()
	if err := other.Answer(200); err != nil && !gone(err) {
		s.t.Error(err)
	}
	if err := <-answered; err != nil && !gone(err) {
		s.t.Error(err)
	}
	c.ends(200)
	// The loser was cancelled, or answered too and is hung up on.
	for _, p := range []*device{d, e} {
		must(p.Wait(s.ctx, func(e phone.Event) bool {
			return e.Kind == phone.GotAck || e.Kind == phone.GotCancel || e.Kind == phone.GotBye
		}))(s)
		s.rung(p.Phone, 1)
	}
	c.over("answered")
	if m := must(c.Bye(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("BYE got %d", m.Code())
	}
}

func busyThenOther(s *scenario) {
	d, e := s.iphone(behaves(phone.Reject(486, 0))), s.iphone(stubborn, answers)
	s.asleep(d, e)
	c := s.calls()
	must(d.Next(s.ctx, phone.Rejected))(s)
	s.wakes(e)
	c.talks(e.Phone)
	s.rung(d.Phone, 1)
	c.over("answered")
}

// busy: the caller gets 486 when every phone is back, long before the end of the hold time.
func busy(s *scenario) {
	d := s.iphone(behaves(phone.Reject(486, 0)))
	s.asleep(d)
	c := s.calls()
	c.happens("gave up", 1)
	c.ends(486)
	c.over("busy")
	s.rung(d.Phone, 1)
}

func liveBusy(s *scenario) {
	live := s.phone(behaves(phone.Reject(486, 0)))
	s.registered(live)
	s.calls().ends(486)
	s.rung(live, 1)
}

func declined(s *scenario) {
	d, e := s.iphone(behaves(phone.Reject(603, 0))), s.iphone(stubborn)
	s.asleep(d, e)
	c := s.calls()
	c.ends(603)
	c.over("declined")
}

func cancelledAsleep(s *scenario) {
	d := s.iphone(stubborn)
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	c.cancels()
	c.over("cancelled")
	s.wakes(d)
	s.hears(c, d.Phone, "")
}

func cancelledRinging(s *scenario) {
	d := s.iphone()
	s.asleep(d)
	c := s.calls()
	must(c.Provisional(s.ctx, 180))(s)
	c.cancels()
	must(d.WaitCancel(s.ctx))(s)
	must(d.Next(s.ctx, phone.Terminated))(s)
	c.over("cancelled")
}

func noDevices(s *scenario) {
	c := s.calls()
	if res := c.ends(480); res.After > 15*time.Second {
		s.t.Errorf("nobody to wake, and the caller waited %s", res.After)
	}
	eventually(s.t, "the outcome", func() bool { return s.timeline(c.CallID()).Outcome == "none" })
}

// dead makes APNs answer that the device's token is dead.
func (s *scenario) dead(d *device) {
	s.apns.Behave(d.token, apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour)})
}

// deadTokens: half of the hold time would be far too long.
func deadTokens(s *scenario) {
	d, e := s.iphone(), s.iphone(tcp)
	s.dead(d)
	s.dead(e)
	s.asleep(d, e)
	c := s.calls()
	c.happens("gave up", 1)
	if res := c.ends(480); res.After > 15*time.Second {
		s.t.Errorf("every token is dead, and the caller waited %s", res.After)
	}
	c.over("timeout")
	eventually(s.t, "the dead bindings are gone", func() bool { return s.bindings(s.aor()) == 0 })
}

// deadAndDeaf: a phone that has disappeared, but whose connection looks alive.
func deadAndDeaf(s *scenario) {
	d := s.iphone(tcp)
	s.dead(d)
	s.registered(d.Phone)
	d.SleepDeaf()
	c := s.calls()
	c.happens("gave up", 1)
	if res := c.ends(480); res.After > 15*time.Second {
		s.t.Errorf("nobody can be woken, and the caller waited %s", res.After)
	}
	c.over("timeout")
}

func deadAndBusy(s *scenario) {
	d, e := s.iphone(), s.iphone(behaves(phone.Reject(486, 0)))
	s.dead(d)
	s.asleep(d, e)
	c := s.calls()
	c.happens("gave up", 1)
	c.ends(486)
	c.over("busy")
}

// deadAndRinging: a phone that rings goes on when the node stops
// waiting for others.
func deadAndRinging(s *scenario) {
	d, e := s.iphone(), s.iphone()
	s.dead(d)
	s.asleep(d, e)
	c := s.calls()
	in := must(e.WaitInvite(s.ctx))(s)
	c.happens("gave up", 1)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	c.over("answered")
}

func unregisters(s *scenario) { unregistersAnd(s, func() {}) }

// unregistersAnd waits, with known, until every node knows that the registration has ended.
// Until then the phone may look awake.
func unregistersAnd(s *scenario, known func()) {
	sleeper, d := s.iphone(stubborn), s.iphone(answers, stubborn)
	s.asleep(sleeper)
	s.registered(d.Phone)
	s.forgotten(2)
	if m := must(d.Register(s.ctx, 0))(s); m.Code() != 200 {
		s.t.Errorf("un-REGISTER got %d", m.Code())
	}
	known()
	c := s.calls()
	s.pushed(sleeper)
	must(d.Register(s.ctx, 0))(s)
	must(d.Register(s.ctx, 0))(s) // an INVITE because of the first one has come by now
	s.rung(d.Phone, 0)
	s.wakes(d)
	c.talks(d.Phone)
	s.rung(d.Phone, 1)
	c.over("answered")
}
