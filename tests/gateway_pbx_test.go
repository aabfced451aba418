package tests

import (
	"net"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
)

// TestGatewayFailover: a PBX of the list that says nothing is passed over, for
// REGISTERs and calls.
func TestGatewayFailover(t *testing.T) {
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

// TestGatewayPBXAway: a PBX that is away is said to be so at once; what it still knows
// after a restart of the gateway it calls through it.
func TestGatewayPBXAway(t *testing.T) {
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
	s, g := gatewayScenario(t, rigOptions{})
	d := s.iphone(answers)
	s.asleep(d)
	g.restart(s)
	s.calls().talks(d.Phone)
}
