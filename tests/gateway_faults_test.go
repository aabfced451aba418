package tests

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/store/storetest"
)

// TestGatewayPBXSilent: a PBX that says nothing to a refresh is asked again later; the
// phone stays bound, and an operator need not wait.
func TestGatewayPBXSilent(t *testing.T) {
	t.Parallel()
	s, g := upperScenario(t, "", "GW_FR_MS=300")
	d := s.iphone(answers, withHA1(s.user))
	s.asleep(d)
	g.pbx.Stop()
	eventually(t, "it is to be tried again", func() bool {
		u, ok := s.upper()
		return ok && u.State == "retrying" && u.Why != ""
	})
	if n := s.bindings(s.aor()); n != 1 {
		t.Errorf("%d bindings while the PBX is silent", n)
	}
	g.restartPBX(s)
	then := time.Now()
	eventually(t, "it is refreshed by hand", func() bool {
		s.call("upper.refresh", obj{"aor": s.aor()}, nil)
		u, ok := s.upper()
		return ok && u.State == "ok" && u.LastOK.After(then)
	})
	other := s.phoneOf("other")
	eventually(t, "the gateway sees that the PBX is back", func() bool {
		m, err := other.Register(s.ctx, time.Minute)
		return err == nil && m.Code() == 200
	})
	s.calls().talks(d.Phone)
}

// TestGatewaySipwakeRestarts: what became due while sipwake was away is refreshed when
// it is back.
func TestGatewaySipwakeRestarts(t *testing.T) {
	t.Parallel()
	s, _ := upperScenario(t, "")
	d := s.iphone(answers, withHA1(s.user))
	s.asleep(d)
	s.edit("rpc:\n  listen: 127.0.0.1:0", "rpc:\n  listen: "+s.app.RPCAddr())
	stop(t, s.app)
	s.start()
	s.refreshed(time.Now())
	s.calls().talks(d.Phone)
}

// TestGatewayTwoSipwakes: of two on one Redis one alone refreshes a registration, and
// when one ends the other goes on.
func TestGatewayTwoSipwakes(t *testing.T) {
	t.Parallel()
	addr := storetest.StartRedis(t)
	s, g := upperScenarioIn(t, "  type: redis\n  redis:\n    addresses: [\""+addr+"\"]\n    timeout: 10s", "")
	other := s.another()
	d := s.iphone(answers, withHA1(s.user))
	s.asleep(d)
	u, _ := s.upper()
	before, began := g.asked(s, s.user), time.Now()
	for range 3 {
		s.refreshed(u.LastOK)
		u, _ = s.upper()
	}
	// No sooner than after half of the four seconds, each a challenge and its answer.
	sent, most := g.asked(s, s.user)-before, 2*(int(time.Since(began)/(2*time.Second))+1)
	if sent < 6 || sent > most {
		t.Errorf("the PBX got %d REGISTERs in %s, want 6 to %d", sent, time.Since(began), most)
	}
	stop(t, other.app)
	s.refreshed(time.Now())
	s.calls().talks(d.Phone)
}
