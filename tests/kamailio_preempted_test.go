package tests

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

// preempted is a Kamailio whose processes stand still at the worst moments: that of an INVITE
// when its parked leg has been sent and the other branches have not, and that of a late branch
// over TCP between its branch route and the start of its timer.
func preempted(t *testing.T) proxyKind {
	t.Helper()
	const place = "\nrequest_route {"
	return kamailioWith(t, place, `
loadmodule "cfgutils.so"
onsend_route {
	if (!is_method("INVITE") || $sndto(port) == SIPWAKE_PARK_PORT) return;
	if ($sndto(sproto) =~ "^udp$") usleep("150000");
	else usleep("300000");
}
`+place)
}

// TestKamailioPreempted: the call of a phone that hears nothing ends in time, however the
// processes of Kamailio overtake each other.
func TestKamailioPreempted(t *testing.T) {
	t.Parallel()
	c := proxyConfig{Hold: 30 * time.Second, Strict: true}
	for name, f := range (scenarios{
		"every token is dead": deadAndDeaf,
		"sipwake is down":     downAndDeaf,
	}) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := table{name: "preempted", proxy: c}.start(t, preempted(t)).scenario(t)
			// A branch that is sent after the parked leg.
			desk := s.phone(behaves(phone.Reject(480, 0)))
			s.registered(desk)
			f(s)
			s.rung(desk, 1)
		})
	}
}

// downAndDeaf: as if sipwake were not there, all addresses are rung.
func downAndDeaf(s *scenario) {
	d := s.iphone(tcp)
	s.registered(d.Phone)
	s.forgotten(1)
	d.SleepDeaf()
	stop(s.t, s.app)
	res := s.calls().ends(480)
	if res.After > 15*time.Second {
		s.t.Errorf("nobody can be woken, and the caller waited %s", res.After)
	}
	if n := len(d.Requests("INVITE")); n != 1 {
		s.t.Errorf("%d INVITEs reached the phone", n)
	}
}

// TestKamailioTime: a script that has looked at the clock fixes $Ts for all that becomes of
// the request. What happens later has its own time.
func TestKamailioTime(t *testing.T) {
	t.Parallel()
	const place = "\troute(SIPWAKE_CALL);\n"
	c := proxyConfig{Hold: 30 * time.Second, Silence: 3 * time.Second}
	kind := kamailioWith(t, place, "\t$var(came) = $Ts;\n"+place)
	table{name: "on its connection", sipwake: rigOptions{wake: "  linger: 30s"}, proxy: c, scenarios: scenarios{
		"a silent phone registers again": silentSameConnection,
	}}.run(t, kind)
	c.Strict = true
	table{name: "strict", proxy: c, scenarios: scenarios{
		"a phone is rung when nobody can be woken": func(s *scenario) {
			d := s.iphone(answers, stubborn)
			s.apns.Behave(d.token, apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour), Delay: 4 * time.Second})
			s.registered(d.Phone)
			s.forgotten(1)
			d.SleepDeaf()
			c := s.calls()
			must(d.WaitInvite(s.ctx))(s)
			time.Sleep(1500 * time.Millisecond) // half of the time that it may say nothing
			d.Hear()
			c.ends(200)
			c.over("answered")
		},
	}}.run(t, kind)
}
