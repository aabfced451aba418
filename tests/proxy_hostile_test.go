package tests

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// hostile: headers of strangers break neither the proxy, nor the JSON to sipwake, nor the
// payload of the push.
func hostile(t *testing.T, kind proxyKind) {
	all := table{name: "hostile", proxy: proxyConfig{Hold: 30 * time.Second, Hostile: true}, scenarios: scenarios{
		"hostile callers": hostileCallers, "hostile REGISTERs": hostileRegisters,
	}}
	p := all.start(t, kind)
	t.Run("strangers", func(t *testing.T) { all.play(t, p) })
	for _, code := range []string{"-32700", "-32600", "-32603", "-32601"} {
		if n := p.requests("", code); n != 0 {
			t.Errorf("%d requests were answered with %s", n, code)
			for line := range strings.Lines(p.logs.String()) {
				if strings.Contains(line, "ERROR") {
					t.Log(line)
				}
			}
		}
	}
}

// hostileCallers: the name in the push is the one the caller gave.
func hostileCallers(s *scenario) {
	long := strings.Repeat("ž😀", 300)
	for _, c := range []struct{ wire, name string }{
		{`"Eve \"}, \"method\": \"pwn"`, `Eve "}, "method": "pwn`},
		{`"a\\"`, `a\`},
		{`"žluť 日本 😀"`, "žluť 日本 😀"},
		{`"$rU $(ci) %s"`, "$rU $(ci) %s"},
		{"it's", "it's"},
		{`"{BODY} {TOKEN}"`, "{BODY} {TOKEN}"},
		{"\"bad\xff\xfe\"", "*"},
		{"\"tab\there\"", "*"},
		{"\"bell\x07 \x1b[31m\"", "*"},
		{`"` + long + `"`, "*"},
		{`"<null>"`, "<null>"},
	} {
		s.nextUser()
		d := s.iphone(stubborn)
		s.asleep(d)
		call := s.callsFrom(s.caller(), phone.InviteOptions{Display: []byte(c.wire)})
		var got map[string]any
		payload := s.pushed(d)
		if err := json.Unmarshal(payload, &got); err != nil || !utf8.Valid(payload) {
			s.t.Fatalf("%q makes %q: %v", c.wire, payload, err)
		}
		if name := got["display"]; c.name != "*" && name != c.name {
			s.t.Errorf("%q became %q, want %q", c.wire, name, c.name)
		}
		want := []string{"aps", "callUUID", "data", "display", "handle", "media", "ncallid", "nfrom", "nfromuri", "nfromusername", "nmsg", "ntousr", "ntype"}
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
			s.t.Errorf("%q makes a payload with the keys %q", c.wire, keys)
		}
		if got["ncallid"] != call.CallID() {
			s.t.Errorf("ncallid %q, want %q", got["ncallid"], call.CallID())
		}
		call.cancels()
		call.over("cancelled")
	}
}

// hostileRegisters: headers that cannot be a Contact or an X-MPUSH, and hostile JSON.
// None of it prevents that a good phone is woken.
func hostileRegisters(s *scenario) {
	uri := "<sip:bob@192.0.2.7:5070"
	for _, value := range []string{
		uri + `;pn-provider=apns;pn-param=` + team + `.` + bundle + `.voip;pn-prid=%22%7D'a%00>`,
		uri + `;pn-provider=apns;pn-prid="}],"x":[{"a":">`,
		`"unterminated ` + uri + `;pn-provider=apns;pn-prid=1>`,
		uri + `;pn-provider=apns;pn-prid=1`,
		uri + `;pn-provider=` + strings.Repeat("apns,", 200) + `;pn-prid=1>`,
		uri + `;pn-prid=` + strings.Repeat("fe", 4000) + `;pn-provider=apns>`,
		uri + ";pn-provider=\xff\xfe;pn-prid=\x01\x02>",
		uri + `;pn-provider=apns;pn-prid=a/b/../c;pn-param=&&&:::>`,
		uri + `;pn-provider=fcm;pn-param=$(ci)$rU%s;pn-prid=\1\2>`,
		uri + `;pn-provider=;pn-prid=>, ` + uri + `;pn-provider=apns;pn-prid=` + s.newToken() + `>`,
		uri + `;swid=123456;woken>`,
		"*", "<>", "", ",", "sip:", "\xf0\x9f\x98\x80",
	} {
		s.sendsRegister(contact(value))
	}
	for _, value := range []string{
		"x", "a:b", "a::", "::::", "i:" + bundle + ":", `i:` + bundle + `:"}]`, "s:p:d:i:x", "q:" + bundle + ":" + s.newToken(),
		"\xff\xfe", strings.Repeat("a:b:", 2000), "null ", "i:" + bundle + ":%00\t$rU",
	} {
		s.sendsRegister(header("X-MPUSH", value))
		s.sendsRegister(header("X-Push", "device-uid="+value+";device-os=ios;app-id="+value))
	}
	s.nextUser()
	wakesAndTalks(s, s.iphone(answers))
}

// sendsRegister sends another user's REGISTER, which the proxy need not answer.
func (s *scenario) sendsRegister(o option) {
	s.t.Helper()
	s.nextUser()
	must(s.phone(o).SendRegister(s.ctx, 600*time.Second))(s)
}
