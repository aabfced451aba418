package tests

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Phones with push that look awake when they are called. They are rung at once, and
// pushed only if they do not answer.

// TestFeatureP3AwakePhones: phones with an open connection. A phone that does not answer for
// 2 s is given up on that connection.
func TestFeatureP3AwakePhones(t *testing.T) {
	c := proxyConfig{Hold: 30 * time.Second, Silence: 2 * time.Second}
	onEveryProxy(t, table{name: "awake phones", proxy: c, scenarios: scenarios{
		"an awake phone is rung and not pushed":             awakeRung,
		"an awake phone is busy":                            awakeBusy,
		"an awake phone is sent a message and not pushed":   awakeTexted,
		"a silent phone is pushed, rung where it returns":   silentReturns,
		"an awake phone registers meanwhile, one INVITE":    awakeRegisters,
		"one phone is awake, one sleeps":                    awakeAndAsleep,
		"one phone has no push, one is awake, one sleeps":   threeKinds,
		"many phones ring at once":                          manyAwake,
		"a phone whose connection was closed is only woken": func(s *scenario) { wakesAndTalks(s, s.iphone(tcp, answers)) },
	}}, table{
		// The branch on which it was silent counts as the phone being back.
		name: "silent", proxy: c, sipwake: rigOptions{wake: "  linger: 30s"}, scenarios: scenarios{
			"a silent phone registers on its connection": silentSameConnection,
		},
	})
}

// unpushed checks that the device was never pushed, and that the push of the call was
// dropped, not delayed.
func (c *call) unpushed(d *device) {
	c.s.t.Helper()
	l := c.s.timeline(c.CallID())
	if l.count("pushing") != 0 || l.count("withheld") == 0 {
		c.s.t.Errorf("pushed, or never thought of: %+v", *l)
	}
	if n := len(find(d.Events(), phone.GotPush)); n != 0 {
		c.s.t.Errorf("%d pushes", n)
	}
}

// awakeRung: the phone rings for longer than its push would have waited.
func awakeRung(s *scenario) {
	d := s.iphone(tcp)
	s.registered(d.Phone)
	s.forgotten(1)
	c := s.calls()
	in := must(d.WaitInvite(s.ctx))(s)
	c.happens("withheld", 1)
	c.happens("answering", 1)
	must(c.Provisional(s.ctx, 180))(s)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	s.rung(d.Phone, 1)
	c.over("answered")
	if n := s.timeline(c.CallID()).count("answering"); n != 1 {
		s.t.Errorf("the phone was reported awake %d times", n)
	}
	c.unpushed(d)
}

// awakeBusy: the phone answers 486 without ringing, and the caller need not wait for a push.
func awakeBusy(s *scenario) {
	d := s.iphone(tcp, behaves(phone.Reject(486, 0)))
	s.registered(d.Phone)
	s.forgotten(1)
	c := s.calls()
	c.ends(486)
	c.over("busy")
	s.rung(d.Phone, 1)
	c.unpushed(d)
}

func awakeTexted(s *scenario) {
	d := s.android(tcp)
	s.registered(d.Phone)
	s.forgotten(1)
	tx := s.texts("hello")
	if m := must(tx.Final(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("MESSAGE got %d", m.Code())
	}
	if n := len(d.Requests("MESSAGE")); n != 1 {
		s.t.Errorf("%d messages reached the phone", n)
	}
	if n := len(find(d.Events(), phone.GotPush)); n != 0 {
		s.t.Errorf("%d pushes", n)
	}
}

// silentReturns: the connection looks alive, but the phone no longer reads it.
func silentReturns(s *scenario) {
	d := s.behindNAT(stubborn, answers)
	s.registered(d.Phone)
	s.forgotten(1)
	d.SleepDeaf()
	before := d.LocalAddr()
	c := s.calls()
	must(d.WaitInvite(s.ctx))(s)
	s.pushed(d)
	if l := s.timeline(c.CallID()); l.count("withheld") != 1 || l.count("pushing") != 1 {
		s.t.Errorf("not withheld, then pushed: %+v", *l)
	}
	d.Sleep()
	s.wakes(d)
	c.talks(d.Phone)
	if d.LocalAddr() == before {
		s.t.Error("the phone returned on the connection it had before")
	}
	if n := len(d.Requests("INVITE")); n != 2 {
		s.t.Errorf("%d INVITEs, want one for each connection", n)
	}
	c.over("answered")
}

// silentSameConnection: the phone's first branch has ended without an answer.
func silentSameConnection(s *scenario) {
	d := s.behindNAT(stubborn, answers)
	s.registered(d.Phone)
	s.forgotten(1)
	d.SleepDeaf()
	c := s.calls()
	must(d.WaitInvite(s.ctx))(s)
	s.pushed(d)
	then := time.Now()
	s.registered(d.Phone) // it is heard, but the INVITE may still be taken up
	s.reported(then)
	if n := len(d.Requests("INVITE")); n != 1 {
		s.t.Errorf("%d INVITEs, want 1", n)
	}
	eventually(s.t, "it is rung once more", func() bool {
		time.Sleep(200 * time.Millisecond) // a timeline holds only so many REGISTERs
		then := time.Now()
		s.wakes(d)
		s.reported(then)
		return len(d.Requests("INVITE")) > 1
	})
	c.ends(200)
	if n := len(d.Requests("INVITE")); n != 2 {
		s.t.Errorf("%d INVITEs, want 2", n)
	}
	c.over("answered")
}

// awakeRegisters: the app comes to the foreground by itself, and registers on its open
// connection.
func awakeRegisters(s *scenario) {
	d := s.iphone(tcp)
	s.registered(d.Phone)
	s.forgotten(1)
	c := s.calls()
	in := must(d.WaitInvite(s.ctx))(s)
	c.happens("answering", 1)
	for i := range 3 {
		s.registered(d.Phone)
		c.happens("signalled", i+1)
	}
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	s.rung(d.Phone, 1)
	c.over("answered")
	c.unpushed(d)
}

func awakeAndAsleep(s *scenario) {
	d, e := s.iphone(tcp), s.iphone(stubborn, answers)
	s.registered(d.Phone)
	s.registered(e.Phone)
	s.forgotten(2)
	e.Sleep()
	c := s.calls()
	must(d.Next(s.ctx, phone.Ringing))(s)
	s.pushed(e)
	c.happens("answering", 1)
	s.wakes(e)
	c.talks(e.Phone)
	must(d.WaitCancel(s.ctx))(s)
	s.rung(d.Phone, 1)
	s.rung(e.Phone, 1)
	c.over("answered")
	if n := len(find(d.Events(), phone.GotPush)); n != 0 {
		s.t.Errorf("%d pushes to the phone that was awake", n)
	}
}

func threeKinds(s *scenario) {
	live, d, e := s.phone(), s.iphone(tcp), s.iphone(stubborn)
	s.registered(live)
	s.registered(d.Phone)
	s.registered(e.Phone)
	s.forgotten(2)
	e.Sleep()
	c := s.calls()
	must(live.WaitInvite(s.ctx))(s)
	in := must(d.WaitInvite(s.ctx))(s)
	s.pushed(e)
	c.happens("answering", 1)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.ends(200)
	c.over("answered")
	s.rung(live, 1)
	s.rung(d.Phone, 1)
	s.rung(e.Phone, 0)
}

// manyAwake: the phones ring at the same moment, on several processes of the proxy.
func manyAwake(s *scenario) {
	var all []*device
	for range 6 {
		d := s.iphone(tcp)
		s.registered(d.Phone)
		all = append(all, d)
	}
	s.forgotten(len(all))
	c := s.calls()
	c.happens("answering", len(all))
	c.cancels()
	c.over("cancelled")
	for _, d := range all {
		s.rung(d.Phone, 1)
		c.unpushed(d)
	}
}

// TestFeatureP3UDP: only the time of its last registration shows whether a phone on UDP is
// awake.
func TestFeatureP3UDP(t *testing.T) {
	t.Parallel()
	const recent = 3 * time.Second
	c := proxyConfig{Hold: 30 * time.Second, Awake: recent}
	onEveryProxy(t, table{name: "awake over UDP", proxy: c, scenarios: scenarios{
		"registered a moment ago": func(s *scenario) {
			d := s.iphone()
			s.registered(d.Phone)
			s.forgotten(1)
			c := s.calls()
			in := must(d.WaitInvite(s.ctx))(s)
			c.happens("answering", 1)
			if err := in.Answer(200); err != nil {
				s.t.Fatal(err)
			}
			c.ends(200)
			s.rung(d.Phone, 1)
			c.over("answered")
			c.unpushed(d)
		},
		"registered a moment ago, gone since": func(s *scenario) {
			d := s.iphone(answers)
			s.asleep(d)
			c := s.calls()
			c.talks(d.Phone)
			s.rung(d.Phone, 1)
			c.over("answered")
			if l := s.timeline(c.CallID()); l.count("withheld") != 1 || l.count("pushing") != 1 {
				s.t.Errorf("not withheld, then pushed: %+v", *l)
			}
		},
		"registered long ago": func(s *scenario) {
			d := s.iphone(answers)
			s.asleep(d)
			eventually(s.t, "the registration is old", func() bool {
				return time.Since(s.bindingTimes()[0]) > recent+time.Second
			})
			c := s.calls()
			c.talks(d.Phone)
			s.rung(d.Phone, 1)
			c.over("answered")
			if l := s.timeline(c.CallID()); l.count("withheld") != 0 || l.count("pushing") != 1 {
				s.t.Errorf("not pushed at once: %+v", *l)
			}
		},
	}})
}

// TestFeatureP3Strict: with RFC 8599 no phone with push is rung before it registers again,
// and its push does not wait.
func TestFeatureP3Strict(t *testing.T) {
	t.Parallel()
	strict := func(options ...option) func(*scenario) {
		return func(s *scenario) {
			d := s.iphone(append(options, stubborn, answers)...)
			s.registered(d.Phone)
			s.forgotten(1)
			c := s.calls()
			s.pushed(d)
			s.rung(d.Phone, 0)
			s.wakes(d)
			c.talks(d.Phone)
			s.rung(d.Phone, 1)
			c.over("answered")
			if n := s.timeline(c.CallID()).count("withheld"); n != 0 {
				s.t.Errorf("%d pushes were withheld", n)
			}
		}
	}
	c := proxyConfig{Hold: 30 * time.Second, Strict: true, Awake: time.Minute}
	onEveryProxy(t, table{name: "strict", proxy: c, scenarios: scenarios{
		"UDP": strict(), "TCP": strict(tcp),
		"every token is dead, a connection hears nothing": deadAndDeaf,
	}})
}
