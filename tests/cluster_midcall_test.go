package tests

import (
	"testing"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// A phone changes the node in a call while it sleeps: what the other side sends gets
// there.
func (c *cluster) inDialog() scenarios {
	all := scenarios{}
	for transport, options := range map[string][]option{"UDP": nil, "TCP": {tcp}} {
		all["the call is at one node, it wakes at the other, over "+transport] = func(s *scenario) {
			s.at(c.a).wakesElsewhere(c.b.kamailio.SIPAddress(), options...)
		}
		all["the call is at both nodes, it wakes at the first, over "+transport] = func(s *scenario) {
			s.wakesElsewhere(c.a.kamailio.SIPAddress(), options...)
		}
		all["the call is at both nodes, it wakes where it was, over "+transport] = func(s *scenario) {
			s.wakesElsewhere(s.proxy.SIPAddress(), options...)
		}
	}
	return all
}

// wakesElsewhere: a phone sleeps in its call, and the first request within the dialog
// wakes it at another node. So does the last one.
func (s *scenario) wakesElsewhere(node string, options ...option) {
	d, c := s.asleepInCall(options...)
	if err := d.SetProxy(node); err != nil {
		s.t.Fatal(err)
	}
	if m := must(c.Request(s.ctx, "INFO"))(s); m.Code() != 200 {
		s.t.Fatalf("INFO got %d: %+v", m.Code(), s.wakesOf(c))
	}
	must(d.Next(s.ctx, phone.GotOther))(s)
	s.pushedQuietly(d)
	c.held("answered")
	s.hangsUp(c, d.Phone)
}

// TestClusterDialog: both nodes know all registrations.
func TestClusterDialog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{defines: map[string]string{"SIPWAKE_FR_MS": "2000"}})
	all := c.inDialog()
	// Nobody sleeps: the location alone leads from one node to the other.
	all["it has moved already"] = func(s *scenario) {
		d := s.at(c.a).android(answers, tcp, instance(newInstance()), stubborn)
		call := s.inCall(d.Phone)
		d.Sleep()
		if err := d.SetProxy(c.b.kamailio.SIPAddress()); err != nil {
			s.t.Fatal(err)
		}
		s.wakes(d)
		s.located(c.a, 1)
		s.hangsUp(call, d.Phone)
		s.neverPushed(d)
		if n := hops(d.Requests("BYE")[0]); n != 2 {
			s.t.Errorf("the BYE came over %d proxies, want both nodes", n)
		}
	}
	c.run(t, all)
}

// TestClusterDialogApart: nodes that do not share their registrations.
func TestClusterDialogApart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{apart: true, sipwakes: true, defines: map[string]string{"SIPWAKE_FAR": "", "SIPWAKE_FR_MS": "2000"}})
	c.run(t, c.inDialog())
}
