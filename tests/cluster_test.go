package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Two Kamailio nodes that share their registrations. Calls come in at one of them,
// phones register at the other one.

// crossing returns the scenarios that do not need the sipwake of the call to hear of the
// phone's registrations.
func (c *cluster) crossing() scenarios {
	return scenarios{
		"a sleeping phone is woken over UDP":              func(s *scenario) { wakesAndTalks(s, s.iphone(answers)) },
		"a sleeping phone is woken over TCP":              func(s *scenario) { wakesAndTalks(s, s.iphone(answers, tcp)) },
		"a sleeping phone is woken through FCM":           func(s *scenario) { wakesAndTalks(s, s.android(answers)) },
		"a phone that may be awake is rung at once, once": mayBeAwake,
		"an un-registered phone is woken":                 wokenAfterUnregister,
		"a phone nobody knew registers meanwhile":         unknownRegisters,
		"a live phone rings, a sleeping one is woken":     liveAndSleeping,
		"a live phone answers, the woken one comes late":  liveAnswers,
		"two phones are woken, one answers":               twoWoken,
		"two phones answer at once":                       bothAnswer,
		"one phone is busy, the next one answers":         busyThenOther,
		"one phone declines for all":                      declined,
		"the caller hangs up while nobody is awake":       cancelledAsleep,
		"the caller hangs up while the phone rings":       cancelledRinging,
		"nobody has a phone":                              noDevices,
		"every token is dead":                             deadTokens,
		"many REGISTERs over UDP, one INVITE":             func(s *scenario) { registersOften(s, s.iphone(stubborn)) },
		"many REGISTERs over TCP, one INVITE":             func(s *scenario) { registersOften(s, s.iphone(stubborn, tcp)) },
		"the same Contact on a new TCP connection":        staleTCP,
		"a phone with a long token is woken":              longToken,
		"the connection dies again after the phone woke":  staleTCPTwice,
		"a phone that came back many times over TCP":      func(s *scenario) { cameBackOften(s, s.iphone(answers, tcp)) },
		"a message wakes a sleeping phone over UDP":       func(s *scenario) { messageHeld(s, s.android()) },
		"a message wakes a sleeping phone over TCP":       func(s *scenario) { messageHeld(s, s.android(tcp)) },
		"no push parameter goes from node to node, UDP":   func(s *scenario) { noPushParameters(s) },
		"no push parameter goes from node to node, TCP":   func(s *scenario) { noPushParameters(s, tcp) },

		"a live phone is rung over UDP":                   func(s *scenario) { c.liveAcross(s) },
		"a live phone is rung over TCP":                   func(s *scenario) { c.liveAcross(s, tcp) },
		"a live phone that sends a Path of its own":       func(s *scenario) { c.liveAcross(s, header("Path", "<sip:192.0.2.66;lr>")) },
		"a live phone is rung by its own node":            func(s *scenario) { c.liveAtHome(s) },
		"an awake phone is rung by its own node":          c.awakeAtHome,
		"a phone moves to the other node over UDP":        func(s *scenario) { c.moved(s, s.at(c.a).iphone(answers)) },
		"a phone moves to the other node over TCP":        func(s *scenario) { c.moved(s, s.at(c.a).iphone(answers, tcp)) },
		"a phone behind NAT moves":                        func(s *scenario) { c.moved(s, s.at(c.a).behindNAT(answers)) },
		"another phone of the user is at the call's node": c.knownAtBoth,
		"two phones wake at two nodes, one answers":       c.twoNodes,
		"REGISTERs at both nodes on one UDP socket":       c.alternatingUDP,
		"REGISTERs at both nodes over TCP":                c.alternatingTCP,

		"the only phone is busy":                           busy,
		"one token is dead, the other phone is busy":       deadAndBusy,
		"one token is dead, the other phone rings":         deadAndRinging,
		"a REGISTER that ends a registration rings nobody": func(s *scenario) { unregistersAnd(s, func() { c.atMost(s, 1) }) },
		"many REGISTERs of a live phone, one INVITE":       liveRegistersOften,
	}
}

// TestClusterCalls: both nodes have the same sipwake.
func TestClusterCalls(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{})
	c.run(t, c.crossing())
}

// TestClusterTwoSipwakes: each node has its own sipwake.
func TestClusterTwoSipwakes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{sipwakes: true})
	c.run(t, c.crossing())
}

// hops returns how many proxies have passed a request on.
func hops(m *phone.Message) int {
	return len(m.Headers("Via")) - 1
}

func (c *cluster) liveAcross(s *scenario, options ...option) {
	live := s.phone(append(options, answers)...)
	s.registered(live)
	s.located(c.a, 1)
	s.calls().talks(live)
	s.rung(live, 1)
	if n := hops(live.Requests("INVITE")[0]); n != 2 {
		s.t.Errorf("the INVITE came over %d proxies, want both nodes", n)
	}
}

// liveAtHome: a node's own Path must not lead it to itself.
func (c *cluster) liveAtHome(s *scenario) {
	for _, options := range [][]option{{answers}, {answers, tcp}, {answers, header("Path", "<sip:127.0.0.1:9;lr>")}} {
		s.nextUser()
		live := s.phone(options...)
		s.registered(live)
		s.callAt = ""
		s.calls().talks(live)
		s.rung(live, 1)
		if n := hops(live.Requests("INVITE")[0]); n != 1 {
			s.t.Errorf("the INVITE came over %d proxies, want one", n)
		}
	}
}

// awakeAtHome: the phone's node sees its open connection and delays the push for a second.
// The other node cannot see the connection, but rings the phone too.
func (c *cluster) awakeAtHome(s *scenario) {
	d := s.iphone(tcp, answers, stubborn)
	s.registered(d.Phone)
	s.forgotten(1)
	s.located(c.a, 1)
	home := *s
	home.callAt = ""
	home.rig = c.b.rig
	home.calls().talks(d.Phone)
	s.rung(d.Phone, 1)
	if n := len(find(d.Events(), phone.GotPush)); n != 0 {
		s.t.Errorf("%d pushes to a phone that is awake", n)
	}
	s.calls().talks(d.Phone)
	s.rung(d.Phone, 2)
}

func (c *cluster) moved(s *scenario, d *device) {
	s.asleep(d)
	s.located(c.b, 1)
	s.uses(d.Phone)
	call := s.calls()
	call.talks(d.Phone)
	s.rung(d.Phone, 1)
	if n := hops(d.Requests("INVITE")[0]); n != 2 {
		s.t.Errorf("the INVITE came over %d proxies, want both nodes", n)
	}
	call.over("answered")
}

// knownAtBoth: dmq_other.
func (c *cluster) knownAtBoth(s *scenario) {
	other := s.at(c.a).iphone(stubborn)
	d := s.iphone(tcp, stubborn, answers)
	s.asleep(other, d)
	call := s.calls()
	s.pushed(d)
	s.wakes(d)
	call.talks(d.Phone)
	s.rung(d.Phone, 1)
	s.rung(other.Phone, 0)
	call.over("answered")
}

func (c *cluster) twoNodes(s *scenario) {
	d, e := s.at(c.a).iphone(), s.iphone(tcp, stubborn, answers)
	s.asleep(d, e)
	call := s.calls()
	must(d.Next(s.ctx, phone.Ringing))(s)
	s.wakes(e)
	call.talks(e.Phone)
	must(d.WaitCancel(s.ctx))(s)
	s.rung(d.Phone, 1)
	s.rung(e.Phone, 1)
	call.over("answered")
}

// alternatingUDP: it is one flow, whichever node hears of it.
func (c *cluster) alternatingUDP(s *scenario) {
	d := s.iphone(stubborn)
	s.asleep(d)
	call := s.calls()
	s.pushed(d)
	if err := d.Open(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	for _, at := range []*scenario{s, s.at(c.a), s} {
		at.uses(d.Phone)
		then := time.Now()
		s.registered(d.Phone)
		s.reported(then)
	}
	in := must(d.WaitInvite(s.ctx))(s)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	call.ends(200)
	s.rung(d.Phone, 1)
	call.over("answered")
}

// alternatingTCP: each connection is a separate flow, and rung once.
func (c *cluster) alternatingTCP(s *scenario) {
	d := s.behindNAT(stubborn)
	s.asleep(d)
	call := s.calls()
	s.pushed(d)
	for _, at := range []*scenario{s, s.at(c.a), s} {
		d.Sleep()
		at.uses(d.Phone)
		for range 2 {
			s.wakes(d)
		}
		must(d.WaitInvite(s.ctx))(s)
	}
	s.rung(d.Phone, 3)
	d.SetBehaviour(phone.Answer(0))
	d.Sleep()
	s.wakes(d)
	call.ends(200)
	s.rung(d.Phone, 4)
	call.over("answered")
}

// TestClusterApart: nodes that do not share their registrations, as when one of them is
// another kind of proxy. The signal says where the phone is.
func TestClusterApart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, clusterOptions{apart: true, defines: map[string]string{"SIPWAKE_FAR": ""}})
	all := c.crossing()
	for _, name := range []string{
		// The call's node does not know the phones of the other one before they wake.
		"a phone that may be awake is rung at once, once",
		"a live phone is rung over UDP", "a live phone is rung over TCP", "a live phone that sends a Path of its own", "an awake phone is rung by its own node",
		"a live phone rings, a sleeping one is woken", "a live phone answers, the woken one comes late",
		"a phone moves to the other node over UDP", "a phone moves to the other node over TCP", "a phone behind NAT moves",
		"many REGISTERs of a live phone, one INVITE",
	} {
		if all[name] == nil {
			t.Errorf("there is no %q", name)
		}
		delete(all, name)
	}
	all["a phone registered at the call's node, too"] = c.farAndNear
	all["a phone was signalled for an earlier call"] = farOnce
	c.run(t, all)
}

// longToken: nodes pass on no token, so none is too long for that.
func longToken(s *scenario) {
	token := s.newToken() + strings.Repeat("f", 3000)
	leak.Secret(token)
	d := &device{s.phone(tcp, answers, params(";pn-provider=fcm;pn-param="+project+";pn-prid="+token)), token}
	s.deliverFCM(d)
	wakesAndTalks(s, d)
}

// farOnce: the way to a phone at another node is valid only for the call of its signal.
func farOnce(s *scenario) {
	d := s.iphone(answers, stubborn)
	s.asleep(d)
	first := s.calls()
	s.pushed(d)
	s.wakes(d)
	first.talks(d.Phone)
	s.forgotten(1)
	second := s.calls()
	s.pushed(d)
	second.cancels()
	s.rung(d.Phone, 1)
	s.asleep(d)
	third := s.calls()
	s.pushed(d)
	s.wakes(d)
	third.talks(d.Phone)
	s.rung(d.Phone, 2)
}

// farAndNear: a phone's registration at the node of the call stays unchanged when it wakes
// at the other node with the same Contact.
func (c *cluster) farAndNear(s *scenario) {
	near, d := s.at(c.a).behindNAT(stubborn), s.behindNAT(answers, stubborn)
	d.SetContact("<sip:" + s.user + "@10.9.8.7:5060;transport=tcp" + apnsParams(near.token) + ">")
	s.asleep(near)
	before := must(c.a.kamailio.Command(s.ctx, "ul.lookup", "location", s.aor()))(s)
	call := s.calls()
	s.pushed(near)
	s.wakes(d)
	call.talks(d.Phone)
	s.rung(d.Phone, 1)
	s.rung(near.Phone, 0)
	call.over("answered")
	after := must(c.a.kamailio.Command(s.ctx, "ul.lookup", "location", s.aor()))(s)
	_, record, _ := strings.Cut(before, "Address:")
	record, _, _ = strings.Cut(record, "Expires:")
	if record == "" || !strings.Contains(after, record+"Expires:") || !strings.Contains(after, ";swfar") {
		s.t.Errorf("the location was\n%s and is\n%s", before, after)
	}
}
