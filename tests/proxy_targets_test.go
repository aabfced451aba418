package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// TestField08Targets: which phone an INVITE is for, and that it gets one.
func TestField08Targets(t *testing.T) {
	t.Parallel()
	c := proxyConfig{Hold: 30 * time.Second}
	onEveryProxy(t, table{name: "targets", proxy: c, scenarios: scenarios{
		"a GRUU wakes one device": func(s *scenario) { gruu(s, func(id string) string { return id }) },
		"a GRUU in capitals":      func(s *scenario) { gruu(s, strings.ToUpper) },
		"a GRUU with escapes": func(s *scenario) {
			gruu(s, func(id string) string { return strings.ReplaceAll(id, ":", "%3a") })
		},
		"a GRUU that is a pattern":                        func(s *scenario) { gruuOfNobody(s, "urn:uuid:.*") },
		"a GRUU of a device that is not":                  func(s *scenario) { gruuOfNobody(s, newInstance()) },
		"a phone whose Contact is its GRUU hears the end": gruuContact,
		"another token while the call is held, one INVITE": func(s *scenario) {
			tokenChanges(s, func(string) string { return s.newToken() })
		},
		"its push data is gone while the call is held, one INVITE": func(s *scenario) {
			tokenChanges(s, func(string) string { return "" })
		},
		"two contacts in one REGISTER": twoContacts,
		"two long tokens":              twoLongTokens,
	}})
}

func instance(id string) option { return func(c *phone.Config) { c.Instance = id } }

func newInstance() string { return "urn:uuid:" + uuid.NewString() }

// callsDevice calls the GRUU of an instance.
func (s *scenario) callsDevice(id string) *call {
	s.t.Helper()
	return &call{must(s.caller().Invite(s.ctx, "sip:"+s.aor()+";gr="+id, phone.InviteOptions{}))(s), s, nil}
}

// gruu: one device is pushed and rung, however its GRUU is spelled; no other one is,
// not even if it registers in the meantime, and whether it has push or an instance or not.
func gruu(s *scenario, spell func(id string) string) {
	one := newInstance()
	d, e := s.iphone(instance(one), tcp), s.iphone(instance(newInstance()), tcp, stubborn)
	s.asleep(d, e)
	desk := s.phone(tcp)
	c := s.callsDevice(spell(one))
	in := must(d.WaitInvite(s.ctx))(s)
	then := time.Now()
	s.wakes(e)
	s.reported(then)
	s.registered(desk)
	c.happens("signalled", 1)
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.talksOn(d.Phone, in)
	s.rung(d.Phone, 1)
	for _, p := range []*phone.Phone{e.Phone, desk} {
		s.rung(p, 0)
	}
	s.neverPushed(e)
	if n := s.timeline(c.CallID()).count("signalled"); n != 1 {
		s.t.Errorf("%d signals", n)
	}
}

func (s *scenario) neverPushed(d *device) {
	s.t.Helper()
	if n := len(find(d.Events(), phone.GotPush)); n != 0 {
		s.t.Errorf("%d pushes", n)
	}
}

// gruuOfNobody: the caller hears at once that nobody is there.
func gruuOfNobody(s *scenario, id string) {
	asleep, live := s.iphone(tcp, stubborn), s.iphone(instance(newInstance()))
	s.asleep(asleep)
	s.registered(live.Phone)
	s.callsDevice(id).ends(480)
	s.neverPushed(asleep)
	s.neverPushed(live)
	s.rung(asleep.Phone, 0)
	s.rung(live.Phone, 0)
}

func gruuContact(s *scenario) {
	one := newInstance()
	d := s.iphone(instance(one), answers, tcp, func(c *phone.Config) { c.CallContact = "<sip:" + s.aor() + ";gr=" + one + ">" })
	s.registered(d.Phone)
	c := s.calls()
	c.talks(d.Phone)
}

// tokenChanges: the phone registers again on the connection that it was woken on.
func tokenChanges(s *scenario, change func(string) string) {
	one := newInstance()
	token := s.newToken()
	d := &device{s.phone(tcp, stubborn, instance(one)), token}
	s.deliverAPNs(d)
	as := func(token string) {
		push := ""
		if token != "" {
			push = apnsParams(token)
		}
		d.SetContact("<sip:" + s.user + "@10.9.8.7:5060;transport=tcp" + push + ">;+sip.instance=\"<" + one + ">\"")
	}
	as(token)
	s.asleep(d)
	c := s.calls()
	s.pushed(d)
	s.wakes(d)
	in := must(d.WaitInvite(s.ctx))(s)
	as(change(token))
	then := time.Now()
	s.wakes(d)
	s.wakes(d)
	if change("") != "" {
		s.reported(then)
	}
	if err := in.Answer(200); err != nil {
		s.t.Fatal(err)
	}
	c.talksOn(d.Phone, in)
	s.rung(d.Phone, 1)
}

// twoContacts: both ring, each once. The sample takes the source of a REGISTER for the
// way to all of its contacts.
func twoContacts(s *scenario) {
	d := s.iphone(stubborn)
	if err := d.Open(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	at := d.LocalAddr().String()
	d.SetContact("<sip:" + s.user + "@" + at + apnsParams(d.token) + ">, <sip:desk@" + at + ">")
	s.registered(d.Phone)
	c := s.calls()
	must(d.WaitInvite(s.ctx))(s)
	must(d.WaitInvite(s.ctx))(s)
	s.wakes(d)
	c.cancels()
	s.rung(d.Phone, 2)
	if got := d.Requests("INVITE"); got[0].URI() == got[1].URI() {
		s.t.Errorf("%s was rung twice", got[0].URI())
	}
}

// twoLongTokens: phones of one user, each with a token of 4096 bytes, that live
// behind the same private address.
func twoLongTokens(s *scenario) {
	var all []*device
	for _, letter := range []string{"a", "b"} {
		token := strings.Repeat(letter, 4096)
		one := contact("<sip:" + s.user + "@10.9.8.7:5060;transport=tcp;pn-provider=fcm;pn-param=" + project + ";pn-prid=" + token + ">")
		d := &device{s.phone(tcp, one), token}
		s.registered(d.Phone)
		all = append(all, d)
	}
	c := s.calls()
	for _, d := range all {
		must(d.WaitInvite(s.ctx))(s)
	}
	c.cancels()
}

// TestField09Leaves: ways to say that a phone is not there any more.
func TestField09Leaves(t *testing.T) {
	t.Parallel()
	c := proxyConfig{Hold: 30 * time.Second}
	leaves := func(policy string, contact func(s *scenario, d *device) string, bound int) func(*scenario) {
		return func(s *scenario) {
			d := s.iphone(tcp, answers, instance(newInstance()))
			s.registered(d.Phone)
			s.forgotten(1)
			d.SetContact(contact(s, d))
			if m := must(d.Register(s.ctx, 0))(s); m.Code() != 200 || m.Header("Contact") != "" {
				s.t.Errorf("un-REGISTER got %d, Contact %q", m.Code(), m.Header("Contact"))
			}
			d.SetContact("")
			eventually(s.t, "its binding is "+policy, func() bool { return s.bindings(s.aor()) == bound })
			if bound == 0 {
				s.calls().ends(480)
				s.rung(d.Phone, 0)
				return
			}
			call := s.calls()
			call.talks(d.Phone) // pushed, for only a REGISTER brings its contact back
			s.rung(d.Phone, 1)
		}
	}
	all := func(policy string, bound int) scenarios {
		return scenarios{
			"with its contact": leaves(policy, func(*scenario, *device) string { return "" }, bound),
			"with a star":      leaves(policy, func(*scenario, *device) string { return "*" }, bound),
			"without push data": leaves(policy, func(s *scenario, d *device) string {
				return "<sip:" + s.user + "@" + d.LocalAddr().String() + ";transport=tcp>"
			}, bound),
		}
	}
	under := func(policy string, bound int) table {
		return table{name: policy, proxy: c, sipwake: rigOptions{apnsConfig: "    policy: {unregister: " + policy + "}"}, scenarios: all(policy, bound)}
	}
	onEveryProxy(t, under("keep", 1), under("ignore", 1), under("remove", 0))
}

// TestField14NobodyReads: machine-made messages wake nobody, and reach who is awake.
func TestField14NobodyReads(t *testing.T) {
	t.Parallel()
	all := scenarios{}
	for name, o := range map[string]struct {
		headers map[string]string
		body    string
	}{
		"imdn":         {map[string]string{"Content-Type": "message/imdn+xml"}, "<imdn/>"},
		"is-composing": {map[string]string{"Content-Type": "application/im-iscomposing+xml"}, "<isComposing/>"},
		"non-urgent":   {map[string]string{"Priority": "non-urgent"}, "hello"},
		"imdn in cpim": {
			map[string]string{"Content-Type": "message/cpim"},
			"From: <sip:a@b>\r\nTo: <sip:c@d>\r\n\r\nContent-Type: message/imdn+xml\r\n\r\n<imdn/>",
		},
	} {
		all[name] = func(s *scenario) {
			sleeper, live := s.android(stubborn, tcp), s.phone(tcp)
			s.asleep(sleeper)
			s.registered(live)
			m := phone.MessageOptions{Headers: o.headers}
			tx := must(s.caller().SendMessage(s.ctx, s.user, o.body, m))(s)
			if m := must(tx.Final(s.ctx))(s); m.Code() != 200 {
				s.t.Errorf("MESSAGE got %d", m.Code())
			}
			must(live.WaitMessage(s.ctx))(s)
			if n := len(find(sleeper.Events(), phone.GotPush)); n != 0 {
				s.t.Errorf("%d pushes", n)
			}
		}
	}
	onEveryProxy(t, table{name: "nobody reads", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: all})
}
