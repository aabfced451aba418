package tests

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
)

// TestField03AsksOnce: sipwake is asked about push data that is new to the node. What
// it has said is known from then on, also while it is down; of what it has said
// nothing, the phone is told nothing, and it is rung like any other.
func TestField03AsksOnce(t *testing.T) {
	p := table{name: "asks once", proxy: proxyConfig{Hold: 30 * time.Second}}.start(t, kamailio())
	s := p.scenario(t)
	d := s.iphone(tcp, answers)
	caps := func(d *device) int {
		return len(must(d.Wake(s.ctx))(s).Headers("Feature-Caps"))
	}
	if n := caps(d); n != 1 {
		t.Errorf("a phone that is bound got %d Feature-Caps", n)
	}
	if n := s.bindings(s.aor()); n != 1 {
		t.Errorf("%d bindings when the REGISTER was answered", n)
	}
	d.Sleep()
	stop(t, p.app)
	if n := caps(d); n != 1 {
		t.Errorf("a phone that is known got %d Feature-Caps from a node whose sipwake is down", n)
	}
	fresh := s.iphone(tcp, answers)
	if n := caps(fresh); n != 0 {
		t.Errorf("a phone nobody knows got %d Feature-Caps", n)
	}
	must(s.caller().Invite(s.ctx, s.user, phone.InviteOptions{}))(s)
	must(fresh.WaitInvite(s.ctx))(s)
}
