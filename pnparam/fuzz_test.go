package pnparam

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "*", "<sip:alice@192.0.2.1:5060>;expires=60",
		`"A \"B\", C" <sip:alice@[2001:db8::1];transport=tls>;+sip.instance="<` + instance + `>";+sip.pnsreg`,
		"<sip:bob@h;pn-provider=fcm;pn-param=proj-1;pn-prid=" + fcmEscaped + ">",
		"<sip:bob@h;pn-provider=apns.dev;pn-param=ABCD1234.org.x.remote&voip;pn-prid=" + hex1 + ":remote&" + hex2 + ":voip>",
		"<sip:bob@h;pn-provider=webpush;pn-prid=https%3A%2F%2Fpush.example%2Fx>,<sip:c@h;pn-prid=null>;expires=0",
		"<sip:bob@h;pn-provider>", `<sip:a@h>;x="`, "sip:a@h;expires=", "<sip:a@h;pn-provider=fcm;pn-param=a;pn-prid=%zz>",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, contact string) {
		checkProperties(t, Register{Contact: contact}, contact)
	})
}

func FuzzMPUSH(f *testing.F) {
	for _, s := range []string{
		"null", "a:com.x.softphone:" + fcmToken, "s:i:com.x.softphone.voip:" + hex1, "d:j:com.x:" + fcmToken,
		"w::" + endpoint, "p:w:x:http://h/", "a:b", ":::", "i:ABCDE12345.:",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		const contact = "<sip:bob@192.0.2.7>"
		checkProperties(t, Register{contact, map[string]string{"X-MPUSH": value}}, contact+value)
	})
}

// checkProperties checks what holds for every input: nothing is made up, a Bind
// is complete and within the limits, and an error shows nothing of the input.
func checkProperties(t *testing.T, r Register, input string) {
	p, err := Parse(r)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.Field != "contact" && e.Field != "X-MPUSH" || e.Problem == "" {
			t.Fatalf("error is %#v", err)
		}
		// Whatever is long enough to be a token must not be in the text, and
		// what is in the text comes from us: it is the same for a garbled input.
		for _, word := range strings.FieldsFunc(input, func(r rune) bool { return strings.ContainsRune(";:=&<>, \t\r\n", r) }) {
			if len(word) >= 16 && strings.Contains(err.Error(), word) {
				t.Fatalf("error %q quotes the input", err)
			}
		}
		return
	}
	inside := func(what, s string) {
		t.Helper()
		// decoding is per value, so a stray % elsewhere must not stop it here
		if strings.Contains(input, s) || strings.Contains(decodeAll(input), s) ||
			strings.Contains(strings.ReplaceAll(input, `\`, ""), strings.ReplaceAll(s, `\`, "")) {
			return
		}
		t.Fatalf("%s %q is not in the input", what, s)
	}
	inside("contact", p.Contact)
	inside("app", p.Address.App)
	inside("team", p.Address.Team)
	for _, tok := range p.Address.Tokens {
		inside("token", tok.Value.Reveal())
		if n := len(tok.Value.Reveal()); n == 0 || n > maxToken {
			t.Fatalf("a token of %d bytes", n)
		}
	}
	if p.Expires < -1 || len(p.Address.App) > maxApp || len(p.Address.Tokens) > 2 || len(p.Device) > maxInstance {
		t.Fatalf("beyond a limit: %+v", p)
	}
	if p.Intent == Bind {
		if p.Address.Provider == "" || len(p.Address.Tokens) == 0 || p.Device == "" || p.Contact == "" || p.Dialect == "" {
			t.Fatalf("incomplete bind: %+v", p)
		}
	} else if len(p.Address.Tokens) != 0 {
		t.Fatalf("tokens without bind: %+v", p)
	}
	if same := p.Address; !p.Address.Equal(same) {
		t.Fatalf("address is not equal to itself: %+v", p.Address)
	}
	// What Contact says must be read the same when it is the only one.
	if p.Contact != "" {
		again, err := Parse(Register{Contact: "<" + p.Contact + ">", Headers: r.Headers})
		if p.Dialect != "" && (err != nil || again.Intent != p.Intent || !again.Address.Equal(p.Address)) {
			t.Fatalf("read alone, the contact gives %+v, %v", again, err)
		}
	}
}

// decodeAll decodes every valid %HH of s.
func decodeAll(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+3 <= len(s) {
			if d, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(d)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
