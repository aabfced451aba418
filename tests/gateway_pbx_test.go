package tests

import (
	"net"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// TestGatewayFailover: a PBX of the list that does not answer is skipped, for REGISTERs and
// calls.
func TestGatewayFailover(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// Of equal destinations the one with the higher priority comes first.
	s, g := gatewayScenario(t, rigOptions{}, "GW_FR_MS=500", "GW_PING_S=0", "PBX="+silent.LocalAddr().String())
	d := s.iphone(answers)
	s.asleep(d)
	if _, expires := g.theContact(s); expires < 7000 {
		t.Errorf("the PBX that lives gave %d s", expires)
	}
	s.callAt = ""
	caller := s.phoneOf("friend")
	s.registered(caller)
	s.callsFrom(caller, phone.InviteOptions{}).talks(d.Phone)
}

// TestGatewayPBXAway: phones get 503 at once while the PBX is away. After a restart of the
// gateway, the PBX can still call the users that it has registered.
func TestGatewayPBXAway(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{}, "GW_FR_MS=500")
	d := s.iphone(answers)
	s.asleep(d)
	g.pbx.Stop()
	other := s.phoneOf("other")
	if m := must(other.Register(s.ctx, time.Minute))(s); m.Code() != 503 {
		t.Errorf("REGISTER while the PBX is away got %d", m.Code())
	}
	// It comes back with nothing: users are registered again as their phones are.
	g.restartPBX(s)
	eventually(t, "the gateway sees that the PBX is back", func() bool {
		m, err := other.Register(s.ctx, time.Minute)
		return err == nil && m.Code() == 200
	})
	s.wakes(d)
	s.falls(d)
	s.calls().talks(d.Phone)
}

// TestGatewayRestarts: what the PBX calls wakes phones though the gateway has forgotten
// all of them.
func TestGatewayRestarts(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{})
	d := s.iphone(answers)
	s.asleep(d)
	g.restart(s)
	s.calls().talks(d.Phone)
}

// TestGatewayChoosesPBX: a phone's header or domain chooses a PBX among those of the
// list, and no other.
func TestGatewayChoosesPBX(t *testing.T) {
	t.Parallel()
	other, err := stack.StartKamailio(t.Context(), stack.KamailioConfig{Node: "pbx", Address: "127.0.0.3", Script: pbxScript})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Stop()
	s, g := gatewayScenario(t, rigOptions{}, "GW_SETS_HOOK=SETS", "PBX=2 "+other.SIPAddress())
	second := *g
	second.pbx = other
	at := func(first, then int) {
		t.Helper()
		if a, b := len(g.atPBX(s, s.user)), len(second.atPBX(s, s.user)); a != first || b != then {
			t.Errorf("%d contacts at the first PBX, %d at the second, want %d and %d", a, b, first, then)
		}
	}
	d := s.iphone(answers, header("X-Sy.Uppersrv", "Branch"))
	s.asleep(d)
	at(0, 1)
	s.callAt = other.SIPAddress()
	s.calls().talks(d.Phone)
	// His own calls go there too.
	friend := s.iphone(answers, header("X-Sy.Uppersrvd", "branch"))
	caller := s.user
	s.nextUser()
	callee := s.iphone(answers, header("X-Sy.Upperproxy", "branch"))
	s.asleep(callee)
	s.registered(friend.Phone)
	res := must(must(friend.Invite(s.ctx, s.user, phone.InviteOptions{}))(s).Final(s.ctx))(s)
	if res.Code != 200 {
		t.Errorf("%s calls a user of the same PBX and got %d", caller, res.Code)
	}
	s.nextUser()
	s.registered(s.iphone(header("X-Sy.Uppersrv", other.SIPAddress())).Phone)
	at(1, 0)
}
