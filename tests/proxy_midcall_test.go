package tests

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// A phone sleeps while its call goes on. Who sends it something within the dialog has it
// woken, without a ring, and it gets the request; what fails ends that request alone.
func TestDialogWakes(t *testing.T) {
	t.Parallel()
	c := proxyConfig{Hold: 30 * time.Second, ChatHold: 15 * time.Second, Silence: 2 * time.Second}
	short := proxyConfig{ChatHold: 2 * time.Second, Silence: time.Second}
	onEveryProxy(t, table{name: "in a dialog", proxy: c, scenarios: scenarios{
		"BYE over UDP":                        func(s *scenario) { byeWakes(s) },
		"BYE over TCP":                        func(s *scenario) { byeWakes(s, tcp) },
		"re-INVITE over UDP":                  func(s *scenario) { reinviteWakes(s) },
		"re-INVITE over TCP":                  func(s *scenario) { reinviteWakes(s, tcp) },
		"UPDATE over UDP":                     func(s *scenario) { updateWakes(s) },
		"UPDATE over TCP":                     func(s *scenario) { updateWakes(s, tcp) },
		"a phone without an instance":         func(s *scenario) { byeWakes(s, tcp, instance("")) },
		"it wakes at the address that it had": wakesWhereItWas,
		"the caller sleeps":                   callerSleeps,
		"only the phone in the call":          onlyInDialog,
		"an iPhone":                           iphoneInDialog,
		"a re-INVITE that is cancelled":       reinviteCancelled,
		"another phone has its address":       func(s *scenario) { addressTaken(s, s.phoneAt) },
		"another phone with push has it":      func(s *scenario) { addressTaken(s, s.androidAt) },
		"its other account has registered":    otherAccount,
		"it does not know the call":           dialogUnknown,
	}}, table{name: "in a dialog, in vain", proxy: short, scenarios: scenarios{
		"no push is answered, over UDP":  func(s *scenario) { neverBack(s) },
		"no push is answered, over TCP":  func(s *scenario) { neverBack(s, tcp) },
		"only calls can be pushed to it": func(s *scenario) { unpushable(s, s.iphone(answers, tcp, instance(newInstance()))) },
	}})
}

// inCall is a call with a phone that is up.
func (s *scenario) inCall(p *phone.Phone) *call {
	s.t.Helper()
	s.registered(p)
	c := s.calls()
	c.ends(200)
	must(p.WaitInvite(s.ctx))(s)
	must(p.Next(s.ctx, phone.GotAck))(s)
	return c
}

// asleepInCall is a phone that sleeps in its call.
func (s *scenario) asleepInCall(options ...option) (*device, *call) {
	s.t.Helper()
	d := s.android(append([]option{answers, instance(newInstance())}, options...)...)
	c := s.inCall(d.Phone)
	d.Sleep()
	return d, c
}

// pushedQuietly checks that the device got one push that rings nobody.
func (s *scenario) pushedQuietly(d *device) {
	s.t.Helper()
	n := 0
	for _, e := range find(d.Events(), phone.GotPush) {
		if strings.Contains(string(e.Payload), `"ntype":"4"`) {
			n++
		}
	}
	if n != 1 {
		s.t.Errorf("%d quiet pushes: %v", n, d.Events())
	}
}

// held waits until sipwake has been told how the request within the dialog ended.
func (c *call) held(reason string) {
	c.s.t.Helper()
	var w midcall
	eventually(c.s.t, "told of the end", func() bool {
		all := c.s.wakesOf(c)
		if i := slices.IndexFunc(all, func(w midcall) bool { return w.Kind == "refresh" }); i >= 0 {
			w = all[i]
		}
		return w.Reason != ""
	})
	if w.Reason != reason {
		c.s.t.Errorf("it ended as %q, want %q", w.Reason, reason)
	}
}

// midcall is what sipwake knows of a request of a call, or of the call itself.
type midcall struct {
	Kind string
	timeline
}

func (s *scenario) wakesOf(c *call) []midcall {
	s.t.Helper()
	var res struct{ Wakes []midcall }
	s.call("wake.trace", obj{"call_id": c.CallID()}, &res)
	return res.Wakes
}

func (s *scenario) hangsUp(c *call, d *phone.Phone) {
	s.t.Helper()
	if m := must(c.Bye(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("BYE got %d", m.Code())
	}
	must(d.WaitBye(s.ctx))(s)
}

func byeWakes(s *scenario, options ...option) {
	d, c := s.asleepInCall(options...)
	s.hangsUp(c, d.Phone)
	s.pushedQuietly(d)
	c.held("answered")
}

// updateWakes: an UPDATE (RFC 3311) wakes and reaches the phone as any other request does.
func updateWakes(s *scenario, options ...option) {
	d, c := s.asleepInCall(options...)
	for range 2 {
		if m := must(c.Request(s.ctx, "UPDATE"))(s); m.Code() != 200 {
			s.t.Errorf("UPDATE got %d", m.Code())
		}
	}
	if n := len(d.Requests("UPDATE")); n != 2 {
		s.t.Errorf("the phone got %d UPDATEs", n)
	}
	s.pushedQuietly(d)
	c.held("answered")
	s.hangsUp(c, d.Phone)
}

func reinviteWakes(s *scenario, options ...option) {
	d, c := s.asleepInCall(options...)
	again := must(c.Reinvite(s.ctx))(s)
	if res := must(again.Final(s.ctx))(s); res.Code != 200 {
		s.t.Errorf("re-INVITE got %d", res.Code)
	}
	if err := must(d.WaitInvite(s.ctx))(s).Acked(s.ctx); err != nil {
		s.t.Error(err)
	}
	s.pushedQuietly(d)
	if m := must(c.Request(s.ctx, "INFO"))(s); m.Code() != 200 {
		s.t.Errorf("INFO got %d", m.Code())
	}
	s.hangsUp(c, d.Phone)
	s.pushedQuietly(d) // it is awake
}

// wakesWhereItWas: the system has stopped the app, and left it its socket.
func wakesWhereItWas(s *scenario) {
	d := s.android(answers, instance(newInstance()))
	c := s.inCall(d.Phone)
	at := d.LocalAddr()
	d.SleepDeaf()
	s.hangsUp(c, d.Phone)
	if d.LocalAddr() != at {
		s.t.Error("the phone has another address")
	}
}

// callerSleeps: the phone that sleeps is the one that has called.
func callerSleeps(s *scenario) {
	d, callee := s.android(tcp, instance(newInstance())), s.phoneOf(fmt.Sprintf("callee%d", s.users.Add(1)), answers)
	s.registered(d.Phone)
	s.registered(callee)
	c := must(d.Invite(s.ctx, callee.AOR(), phone.InviteOptions{}))(s)
	in := must(callee.WaitInvite(s.ctx))(s)
	if err := in.Acked(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	must(c.Final(s.ctx))(s)
	d.Sleep()
	if m := must(in.Bye(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("BYE got %d", m.Code())
	}
	must(d.WaitBye(s.ctx))(s)
	s.pushedQuietly(d)
}

// onlyInDialog: the user's other phone, which sleeps or comes back meanwhile, has no part
// in it.
func onlyInDialog(s *scenario) {
	other := s.android(tcp, instance(newInstance()))
	d := s.android(answers, tcp, instance(newInstance()), stubborn)
	c := s.inCall(d.Phone)
	s.registered(other.Phone)
	other.Sleep()
	d.Sleep()
	bye := make(chan int, 1)
	go func() {
		m, err := c.Bye(s.ctx)
		if err != nil {
			s.t.Error(err)
			bye <- 0
			return
		}
		bye <- m.Code()
	}()
	s.pushed(d)
	s.wakes(other)
	s.wakes(d)
	if code := <-bye; code != 200 {
		s.t.Errorf("BYE got %d", code)
	}
	must(d.WaitBye(s.ctx))(s)
	s.neverPushed(other)
	if n := len(other.Requests("BYE")); n != 0 {
		s.t.Errorf("the other phone got %d BYEs", n)
	}
}

// iphoneInDialog: an iPhone's voip token rings, so its other one is used.
func iphoneInDialog(s *scenario) {
	voip := s.newToken()
	d := &device{nil, s.newToken()}
	d.Phone = s.phone(answers, tcp, instance(newInstance()), params(fmt.Sprintf(";pn-provider=apns;pn-param=%s.%s.voip&remote;pn-prid=%s:voip&%s:remote",
		team, bundle, voip, d.token)))
	rings := make(chan string, 8)
	s.apns.OnDeliver(voip, func(payload []byte, _ http.Header) { rings <- string(payload) })
	kinds := make(chan string, 8)
	s.apns.OnDeliver(d.token, func(payload []byte, h http.Header) {
		kinds <- h.Get("Apns-Push-Type")
		d.OnPush(payload)
	})
	c := s.inCall(d.Phone)
	d.Sleep()
	s.hangsUp(c, d.Phone)
	s.pushedQuietly(d)
	if kind := <-kinds; kind != "background" || len(rings) != 0 {
		s.t.Errorf("the push was of type %s, and %d rang", kind, len(rings))
	}
}

// reinviteCancelled: the caller takes it back while the phone is waited for. The call
// goes on.
func reinviteCancelled(s *scenario) {
	d, c := s.asleepInCall(tcp, stubborn)
	again := must(c.Reinvite(s.ctx))(s)
	s.pushed(d)
	if m := must(again.Cancel(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("CANCEL got %d", m.Code())
	}
	if res := must(again.Final(s.ctx))(s); res.Code != 487 {
		s.t.Errorf("the cancelled re-INVITE got %d", res.Code)
	}
	c.held("cancelled")
	s.wakes(d)
	s.rung(d.Phone, 1)
	s.hangsUp(c, d.Phone)
}

// addressTaken: the NAT has given the phone's address to one of another user, which has
// registered. It says that it knows no such call.
func addressTaken(s *scenario, at func(user string, port uint16) *phone.Phone) {
	d, c := s.asleepInCall()
	other := at(fmt.Sprintf("other%d", s.users.Add(1)), d.LocalAddr().Port())
	s.registered(other)
	s.registered(other) // the proxy has noted the first one
	s.hangsUp(c, d.Phone)
	s.pushedQuietly(d)
	if n := len(other.Requests("BYE")); n > 1 {
		s.t.Errorf("the other phone got %d BYEs", n)
	}
}

func (s *scenario) phoneAt(user string, port uint16) *phone.Phone {
	return s.phoneOf(user, answers, func(c *phone.Config) { c.Port = port })
}

func (s *scenario) androidAt(user string, port uint16) *phone.Phone {
	one := *s
	one.user = user
	return one.android(answers, instance(newInstance()), func(c *phone.Config) { c.Port = port }).Phone
}

// otherAccount: the phone has another account at the same socket, which has registered last.
func otherAccount(s *scenario) {
	id := newInstance()
	d := s.android(answers, instance(id))
	c := s.inCall(d.Phone)
	user := fmt.Sprintf("other%d", s.users.Add(1))
	text := strings.NewReplacer("{user}", user, "{at}", d.LocalAddr().String(), "{id}", id, "{token}", s.newToken(), "{project}", project).Replace(
		"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{user}{n};rport\r\nMax-Forwards: 70\r\n" +
			"From: <sip:{user}@example.com>;tag=1\r\nTo: <sip:{user}@example.com>\r\nCall-ID: {user}\r\nCSeq: {n} REGISTER\r\n" +
			"Contact: <sip:{user}@{at};pn-provider=fcm;pn-param={project};pn-prid={token}>;+sip.instance=\"<{id}>\"\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n")
	for _, n := range []string{"1", "2"} { // the proxy has noted the first one when it answers the second
		if err := d.SendRaw(s.ctx, []byte(strings.ReplaceAll(text, "{n}", n))); err != nil {
			s.t.Fatal(err)
		}
		must(d.Next(s.ctx, phone.GotStray))(s)
	}
	d.SleepDeaf()
	s.hangsUp(c, d.Phone)
	s.pushedQuietly(d)
}

// dialogUnknown: what the phone itself says of the dialog is what the caller hears.
func dialogUnknown(s *scenario) {
	d := s.android(answers, instance(newInstance()))
	c := s.inCall(d.Phone)
	for _, code := range []int{200, 481} {
		if m := must(c.Request(s.ctx, "BYE"))(s); m.Code() != code {
			s.t.Errorf("BYE got %d, want %d", m.Code(), code)
		}
	}
}

// neverBack: the request fails in time, and the call lives: when the phone is back, it
// hears of its end.
func neverBack(s *scenario, options ...option) {
	d, c := s.asleepInCall(append(options, stubborn)...)
	began := time.Now()
	if m := must(c.Request(s.ctx, "INFO"))(s); m.Code() != 504 {
		s.t.Errorf("INFO got %d, want 504", m.Code())
	}
	if took := time.Since(began); took > 25*time.Second {
		s.t.Errorf("it took %s", took)
	}
	s.pushedQuietly(d)
	c.held("timeout")
	s.wakes(d)
	s.hangsUp(c, d.Phone)
	s.pushedQuietly(d)
}

// unpushable: nobody is waited for.
func unpushable(s *scenario, d *device) {
	c := s.inCall(d.Phone)
	d.Sleep()
	if m := must(c.Request(s.ctx, "INFO"))(s); m.Code() != 504 {
		s.t.Errorf("INFO got %d, want 504", m.Code())
	}
	s.neverPushed(d)
}
