package pnparam

import (
	"errors"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/secret"
)

// Every dialect takes tokens up to the limit, and says which field is too long.
func TestTokenLimits(t *testing.T) {
	f := func(name, contact, header, value string, longest int, problem string) {
		t.Helper()
		parse := func(n int) (Parsed, error) {
			token := strings.Repeat("a", n)
			if strings.Contains(contact+value, "https") {
				token = token[len("https://h/"):]
			}
			r := Register{Contact: strings.ReplaceAll(contact, "TOKEN", token)}
			if header != "" {
				r.Headers = map[string]string{header: strings.ReplaceAll(value, "TOKEN", token)}
			}
			return Parse(r)
		}
		p, err := parse(longest)
		if err != nil || p.Intent != Bind || len(p.Address.Tokens[0].Value.Reveal()) != longest {
			t.Errorf("%s: a token of %d bytes: %v", name, longest, err)
		}
		if _, err := parse(longest + 2); err == nil || err.Error() != problem {
			t.Errorf("%s: a token of %d bytes: %v, want %s", name, longest+2, err, problem)
		}
	}
	c := func(params string, longest int, problem string) {
		t.Helper()
		f(params, "<sip:b@h;"+params+">", "", "", longest, "contact: "+problem)
		f(params+" behind", "<sip:b@h>;"+params, "", "", longest, "contact: "+problem)
		f(params+" addr-spec", "sip:b@h;"+params, "", "", longest, "contact: "+problem)
	}
	h := func(header, value string, longest int, problem string) {
		t.Helper()
		f(value, "<sip:b@h>", header, value, longest, header+": "+problem)
	}
	const other, apple = " is longer than 4096 bytes", " is longer than 200 bytes"
	c("pn-provider=fcm;pn-param=p;pn-prid=TOKEN", 4096, "pn-prid"+other)
	c("pn-provider=webpush;pn-prid=https://h/TOKEN", 4096, "pn-prid"+other)
	c("pn-provider=apns;pn-param=com.x.voip;pn-prid=TOKEN", 200, "pn-prid"+apple)
	c("pn-provider=apns;pn-param=com.x.voip&remote;pn-prid=TOKEN:voip&TOKEN:remote", 200, "pn-prid"+apple)
	c("pn-type=google;app-id=p;pn-tok=TOKEN", 4096, "pn-tok"+other)
	c("pn-type=apple;app-id=com.x;pn-tok=TOKEN", 200, "pn-tok"+apple)
	c("pn-type=android;pn-app=p;pn-device=d;pn-tok=TOKEN", 4096, "pn-tok"+other)
	c("push-token-type=a;push-token-app=p;push-token-id=TOKEN", 4096, "push-token-id"+other)
	h("X-MPUSH", "a:p:TOKEN", 4096, "token"+other)
	h("X-MPUSH", "w:p:https://h/TOKEN|"+p256dh+"|"+auth, 4096, "token"+other)
	h("X-Push", "device-os=android;app-id=p;device-uid=TOKEN", 4096, "device-uid"+other)
	h("X-Push", "device-os=ios;app-id=com.x;device-uid=TOKEN|TOKEN", 200, "device-uid"+apple)
	h("X-P-Push", "device-os=ios;app-id=com.x;device-uid=TOKEN", 200, "device-uid"+apple)
	h("Portsip-Push", "device-os=android;app-id=p;device-uid=TOKEN", 4096, "device-uid"+other)

	// Two phones with long tokens stay two.
	saved := func(token string) string {
		r := Register{Contact: "<sip:b@10.0.0.7;pn-provider=fcm;pn-param=p;pn-prid=" + strings.Repeat(token, 4096) + ">"}
		p, _ := Parse(r)
		return Saved(r, p, bob)
	}
	if saved("a") == saved("b") {
		t.Error("two phones have one contact")
	}
}

func TestAddressCheck(t *testing.T) {
	f := func(want string, a Address) {
		t.Helper()
		err := a.Check()
		if e := (*Error)(nil); want == "" && err != nil || want != "" && (!errors.As(err, &e) || err.Error() != want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	tokens := func(s string) []Token { return []Token{{Value: secret.NewToken(s)}} }
	f("", Address{Provider: FCM, App: "p", Tokens: tokens(strings.Repeat("a", 4096))})
	f("", Address{Provider: "acme", Tokens: tokens("a")})
	f("provider: is missing", Address{})
	f("provider: is longer than 64 bytes", Address{Provider: Provider(strings.Repeat("a", 65))})
	f("app: is longer than 255 bytes", Address{Provider: FCM, App: strings.Repeat("a", 256)})
	f("app: has a character that is not printable", Address{Provider: FCM, App: "a b"})
	f("tokens: is missing", Address{Provider: FCM, App: "p"})
	f("tokens: has an empty token", Address{Provider: FCM, App: "p", Tokens: tokens("")})
	f("tokens: is longer than 4096 bytes", Address{Provider: FCM, App: "p", Tokens: tokens(strings.Repeat("a", 4097))})
	f("tokens: is not a device token in hexadecimal", Address{Provider: APNs, App: "p", Tokens: tokens("xyz")})
}
