package tests

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/internal/store/storetest"
)

// What happens to registrations that sipwake keeps alive when the PBX or an instance fails,
// or a password changes.

// asked is how many REGISTERs of a user the PBX has heard, repeated ones once.
func (g *gatewayProxy) asked(s *scenario, user string) int {
	s.t.Helper()
	text, err := g.pbx.Command(s.ctx, "htable.dump", "asked")
	if err != nil {
		s.t.Fatal(err)
	}
	m := regexp.MustCompile(`name: ` + user + `\s+value: (\d+)`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// silent has the PBX say nothing to REGISTERs, or speak again.
func (g *gatewayProxy) silent(s *scenario, yes bool) {
	s.t.Helper()
	n := map[bool]string{false: "0", true: "1"}[yes]
	if out, err := g.pbx.Command(s.ctx, "htable.seti", "mode", "silent", n); err != nil {
		s.t.Fatalf("%v %s", err, out)
	}
}

// metric reports whether sipwake has a counter at more than 0.
func (r *rig) metric(series string) bool {
	r.t.Helper()
	_, text := r.get("/metrics")
	return regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` [1-9]`).MatchString(text)
}

// TestGatewayPBXForgets: a PBX that has lost its registrations gets them back when they are
// due. An operator can restore a user's registration at once.
func TestGatewayPBXForgets(t *testing.T) {
	t.Parallel()
	s, g := upperScenario(t, "", "GW_EXPIRES=3600", "GW_PING_S=0")
	d := s.iphone(answers, withHA1(s.user))
	s.asleep(d)
	uri, _ := g.theContact(s)
	g.restartPBX(s)
	caller := s.phoneOf("caller1", func(c *phone.Config) { c.Proxy = s.callAt })
	if res := must(must(caller.Invite(s.ctx, s.user, phone.InviteOptions{}))(s).Final(s.ctx))(s); res.Code != 480 {
		t.Errorf("the PBX knows nobody, and the caller got %d", res.Code)
	}
	then := time.Now()
	s.call("upper.refresh", obj{"aor": s.aor()}, nil)
	s.refreshed(then)
	if again, _ := g.theContact(s); again != uri {
		t.Errorf("the PBX had %s and has %s", uri, again)
	}
	s.calls().talks(d.Phone)
}

// TestGatewayNewPassword: when the user's password changes the refresh fails, and that
// is said and counted; the user's bindings go if that is wanted. The phone that registers
// with the new one is called again, whether its binding was kept or not.
func TestGatewayNewPassword(t *testing.T) {
	t.Parallel()
	f := func(lines string, bindings int) {
		t.Helper()
		s, g := upperScenario(t, lines)
		old := s.iphone(withHA1(s.user))
		s.asleep(old)
		if out, err := g.pbx.Command(s.ctx, "htable.sets", "password", s.user, "another"); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		eventually(t, "it fails", func() bool {
			u, ok := s.upper()
			return u.State == "failed" && u.Why == "the PBX refuses the password" && bindings == 1 || !ok && bindings == 0
		})
		if n := s.bindings(s.aor()); n != bindings {
			t.Errorf("%d bindings, want %d", n, bindings)
		}
		eventually(t, "that is counted", func() bool { return s.metric(`sipwake_upper_refreshes_total{result="failed"}`) })
		eventually(t, "the old registration ends", func() bool { return len(g.atPBX(s, s.user)) == 0 })

		d := &device{s.phone(answers, params(apnsParams(old.token)), ha1Of(s.user, "another"),
			func(c *phone.Config) { c.Password = "another" }), old.token}
		s.deliverAPNs(d)
		then := time.Now()
		s.registered(d.Phone)
		s.reported(then)
		s.refreshed(then) // by the phone
		u, _ := s.upper()
		s.refreshed(u.LastOK)
		s.falls(d)
		if n := s.bindings(s.aor()); n != 1 {
			t.Errorf("%d bindings", n)
		}
		s.calls().talks(d.Phone)
	}
	f("", 1)
	f("  failure: remove", 0)
}

// TestGatewayPBXSilent: refreshes that the PBX does not answer are tried again, whether it is
// silent or gone, and nothing is lost. When the PBX answers again, sipwake refreshes the
// registration by itself; an operator can do it sooner.
func TestGatewayPBXSilent(t *testing.T) {
	t.Parallel()
	f := func(gone bool, lines string) {
		t.Helper()
		s, g := upperScenario(t, lines, "GW_FR_MS=500", "GW_PING_S=0")
		d := s.iphone(answers, withHA1(s.user))
		s.asleep(d)
		if gone {
			g.pbx.Stop()
		} else {
			g.silent(s, true)
		}
		eventually(t, "it is to be tried again", func() bool {
			u, ok := s.upper()
			return ok && u.State == "retrying" && u.Why == "the PBX said 408" && (gone || len(g.atPBX(s, s.user)) == 0)
		})
		if n := s.bindings(s.aor()); n != 1 {
			t.Errorf("%d bindings while the PBX is silent", n)
		}
		then := time.Now()
		if gone {
			g.restartPBX(s)
			s.call("upper.refresh", obj{"aor": s.aor()}, nil)
		} else {
			g.silent(s, false)
		}
		s.refreshed(then)
		s.calls().talks(d.Phone)
	}
	f(false, "  retry: 1s")
	f(true, "  retry: 10m")
}

// TestGatewayRefreshesElsewhere: while a PBX of the list is away, another one has its
// registrations.
func TestGatewayRefreshesElsewhere(t *testing.T) {
	t.Parallel()
	first, err := stack.StartKamailio(t.Context(), stack.KamailioConfig{Node: "pbx", Address: "127.0.0.3", Script: pbxScript})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Stop()
	s, g := upperScenario(t, "  retry: 1s", "GW_FR_MS=500", "PBX="+first.SIPAddress())
	d := s.iphone(answers, withHA1(s.user))
	s.asleep(d)
	if n := len(g.atPBX(s, s.user)); n != 0 {
		t.Fatalf("%d contacts at the second PBX", n)
	}
	if u, _ := s.upper(); u.Server != "sip:"+first.SIPAddress() {
		t.Errorf("registered at %s", u.Server)
	}
	first.Stop()
	eventually(t, "the second PBX has it", func() bool { return len(g.atPBX(s, s.user)) == 1 })
	s.refreshed(time.Now())
	if u, _ := s.upper(); u.Server != "sip:"+g.pbx.SIPAddress() {
		t.Errorf("%s is said to have it", u.Server)
	}
	s.calls().talks(d.Phone)
}

// twoInstances returns a user of a gateway with two sipwakes on one Redis.
func twoInstances(t *testing.T, lines string, defines ...string) (s *scenario, g *gatewayProxy, child *stack.Sipwake) {
	t.Helper()
	redis := storetest.StartRedis(t)
	s, g = upperScenarioIn(t, "  type: redis\n  redis:\n    addresses: [\""+redis+"\"]\n    timeout: 10s", lines, defines...)
	_, child = (&sharedRig{s.rig, redis}).child()
	return s, g, child
}

// TestGatewayRefreshesOnce: of two instances one refreshes, and once while the PBX takes
// its time.
func TestGatewayRefreshesOnce(t *testing.T) {
	t.Parallel()
	s, g, _ := twoInstances(t, "", "GW_FR_MS=20000", "GW_PING_S=0")
	s.asleep(s.iphone(withHA1(s.user)))
	g.silent(s, true)
	before := g.asked(s, s.user)
	eventually(t, "one refreshes", func() bool { return g.asked(s, s.user) > before })
	time.Sleep(3 * time.Second) // each has looked twice for what is due
	if n := g.asked(s, s.user) - before; n != 1 {
		t.Errorf("%d REGISTERs while the PBX says nothing to the first", n)
	}
	g.silent(s, false)
	s.refreshed(time.Now())
}

// TestGatewayInstanceDies: an instance dies after it has sent a REGISTER. Another instance
// handles the PBX' answer, or tries again if the answer was lost.
func TestGatewayInstanceDies(t *testing.T) {
	t.Parallel()
	f := func(heard bool, lines string, defines ...string) {
		t.Helper()
		s, g, child := twoInstances(t, lines, defines...)
		d := s.iphone(answers, withHA1(s.user))
		s.asleep(d)
		// From now on the other one alone refreshes, and the PBX is silent.
		key := strings.TrimSpace(regexp.MustCompile(`(?m)^ +key_file: .*upper.key$`).FindString(string(must(os.ReadFile(s.file))(s))))
		s.editConfig(key, "rate: 200")
		g.silent(s, true)
		before := g.asked(s, s.user)
		eventually(t, "the other one refreshes", func() bool { return g.asked(s, s.user) > before })
		if !heard {
			results := s.requests("upper.result", "")
			eventually(t, "a result is lost", func() bool { return s.requests("upper.result", "") > results })
		}
		child.Kill()
		s.editConfig("rate: 200", key)
		then := time.Now()
		g.silent(s, false)
		s.refreshed(then)
		s.calls().talks(d.Phone)
	}
	f(true, "", "GW_FR_MS=20000", "GW_PING_S=0") // well before it would be tried again
	f(false, "  retry: 1s", "GW_FR_MS=500", "GW_PING_S=0")
}

// TestGatewayDueWhileDown: what became due while sipwake was down is refreshed after its
// start, and not all at once.
func TestGatewayDueWhileDown(t *testing.T) {
	t.Parallel()
	s, g := upperScenario(t, "  rate: 1", "GW_EXPIRES=10")
	const users = 4
	var devices []*device
	var aors []string
	due := time.Now()
	for range users {
		d := s.iphone(answers, withHA1(s.user))
		s.asleep(d)
		u, _ := s.upper()
		if u.Due.After(due) {
			due = u.Due
		}
		devices, aors = append(devices, d), append(aors, s.user)
		s.nextUser()
	}
	listen := strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/rpc")
	stop(t, s.app)
	time.Sleep(time.Until(due))
	s.edit("rpc:\n  listen: 127.0.0.1:0", "rpc:\n  listen: "+listen)
	then := time.Now()
	s.start()
	var at []time.Time
	for _, user := range aors {
		s.user = user
		s.refreshed(then)
		u, _ := s.upper()
		at = append(at, u.LastOK)
	}
	if spread := slices.MaxFunc(at, time.Time.Compare).Sub(slices.MinFunc(at, time.Time.Compare)); spread < 2*time.Second {
		t.Errorf("%d registrations were refreshed within %s", users, spread)
	}
	s.user = aors[0]
	if n := len(g.atPBX(s, s.user)); n != 1 {
		t.Errorf("the PBX has %d contacts", n)
	}
	s.calls().talks(devices[0].Phone)
}
