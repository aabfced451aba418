package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// TestField04NoPushDataLeaves: however push data is written, none of it reaches the other
// user, and the rest is still a valid Contact.
func TestField04NoPushDataLeaves(t *testing.T) {
	t.Parallel()
	all := scenarios{}
	for name, c := range map[string]struct{ contact, want string }{
		"in the URI":         {"<sip:u@{address};pn-prid=TOKEN;x=y>;q=0.5", "<sip:u@{address};x=y>;q=0.5"},
		"behind the URI":     {"<sip:u@{address}>;pn-prid=TOKEN;x=y", "<sip:u@{address}>;x=y"},
		"spaces":             {"<sip:u@{address}> ; pn-type=google ; pn-tok = TOKEN ; x=y", "<sip:u@{address}>;x=y"},
		"tabs":               {"<sip:u@{address}>\t;\tpn-tok\t=\tTOKEN\t;x=y", "<sip:u@{address}>;x=y"},
		"folded":             {"<sip:u@{address}>;\r\n pn-tok\r\n =\r\n TOKEN\r\n ;x=y", "<sip:u@{address}>;x=y"},
		"quoted":             {`<sip:u@{address}>;pn-tok="x TOKEN";x=y`, "<sip:u@{address}>;x=y"},
		"quoted comma":       {`<sip:u@{address}>;pn-tok="x,TOKEN";x=y`, "<sip:u@{address}>;x=y"},
		"quoted bracket":     {`<sip:u@{address}>;pn-tok="x>TOKEN";x=y`, "<sip:u@{address}>;x=y"},
		"quoted quote":       {`<sip:u@{address}>;pn-tok="x\"TOKEN";x=y`, "<sip:u@{address}>;x=y"},
		"quoted semicolon":   {`<sip:u@{address}>;pn-tok="x;TOKEN";x=y`, "<sip:u@{address}>;x=y"},
		"upper case":         {"<sip:u@{address};PN-PRID=TOKEN;X=Y>", "<sip:u@{address};X=Y>"},
		"escaped names":      {"<sip:u@{address};%70n-prid=TOKEN;p%6E-param=a;pn%2Dx;x=y>", "<sip:u@{address};x=y>"},
		"escaped push-token": {"<sip:u@{address};pus%68-tok%65n-id=TOKEN;x=y>", "<sip:u@{address};x=y>"},
		"headers of the URI": {"<sip:u@{address}?pn-prid=TOKEN>", "<sip:u@{address}>"},
		"escaped headers":    {"<sip:u@{address};x=y?X-MP%55SH=TOKEN>;q=1", "<sip:u@{address};x=y>;q=1"},
		"what we added":      {"<sip:u@{address};swid=0123456789ab;woken;x=y>", "<sip:u@{address};x=y>"},
		"display name":       {`"A; \"B\", <c>" <sip:u@{address};pn-prid=TOKEN>`, `"A;\"B\",<c>"<sip:u@{address}>`},
		"addr-spec":          {"sip:u@{address};pn-prid=TOKEN;x=y", "sip:u@{address};x=y"},
		"a long token":       {"<sip:u@{address};pn-prid=TOKEN" + strings.Repeat("f", 4000) + ";x=y>", "<sip:u@{address};x=y>"},
		"brackets":           {"<sip:u@{address};pn-prid=a[b]TOKEN;x=y>", "<sip:u@{address};x=y>"},
		"an open address":    {"<sip:u@{address};x=y;pn-prid=https://push.example/a?t=TOKEN>;q=1", "<sip:u@{address};x=y>;q=1"},
		"data in headers":    {"<sip:u@{address};x=y?pn-prid=TOKEN;pn-tok=TOKEN>;pn-tok=TOKEN;q=1", "<sip:u@{address};x=y>;q=1"},
		"odd user":           {"<sip:u?push@{address};pn-prid=TOKEN>", "<sip:u?push@{address}>"},
		"nothing to cut":     {`"Pn-dit" <sip:push@{address};x=y;ob>`, `"Pn-dit"<sip:push@{address};x=y;ob>`},
	} {
		all[name] = func(s *scenario) { cutOut(s, c.contact, c.want) }
	}
	onEveryProxy(t, table{name: "spellings", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: all})
}

// cutOut: both phones write their Contact in this way, and have headers with push data.
func cutOut(s *scenario, contact, want string) {
	odd := func(c *phone.Config) {
		c.CallContact = strings.ReplaceAll(contact, "TOKEN", "token-of-a-call")
		c.CallHeaders = map[string]string{"X-MPUSH": "a:app:token-of-a-call", "x-push": "device-uid=token-of-a-call",
			"X-P-Push": "device-uid=token-of-a-call", "Portsip-Push": "device-uid=token-of-a-call", "X-PIID": "token-of-a-call"}
	}
	d := s.phone(tcp, odd, behaves(phone.Answer(50*time.Millisecond)))
	s.registered(d)
	caller := s.caller(tcp, odd)
	c := s.callsFrom(caller, phone.InviteOptions{})
	c.ends(200)
	seen := map[*phone.Phone][]*phone.Message{d: d.Requests("INVITE")}
	for _, e := range caller.Events() {
		if e.Message != nil && e.Message.Header("Contact") != "" {
			seen[caller] = append(seen[caller], e.Message)
		}
	}
	other := map[*phone.Phone]*phone.Phone{d: caller, caller: d}
	for p, heard := range seen {
		if len(heard) == 0 {
			s.t.Error("nothing was heard")
		}
		for _, m := range heard {
			got := strings.NewReplacer(" ", "", "\t", "", "\r\n", "").Replace(m.Header("Contact"))
			if w := strings.ReplaceAll(want, "{address}", other[p].LocalAddr().String()); got != w {
				s.t.Errorf("Contact %q, want %q", got, w)
			}
			if strings.Contains(m.Raw, "token-of-a-call") {
				s.t.Errorf("a token in\n%s", m.Raw)
			}
		}
	}
}
