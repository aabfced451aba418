package pnparam

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/secret"
)

const (
	hex1 = "9d0c5f3eab6f0e4b7d1c2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f"
	hex2 = "2CA5B1E2F3A4958677889900AABBCCDDEEFF00112233445566778899AABBCCDD"
	// An FCM token as it looks, and as some clients send it.
	fcmToken   = "dK3v9_Qm-Zs:APA91bHPRgkFLJu-5iQ4x9e2B7n0cT8wYk"
	fcmEscaped = "dK3v9_Qm-Zs%3AAPA91bHPRgkFLJu-5iQ4x9e2B7n0cT8wYk"
	endpoint   = "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABk?x=1"
	instance   = "urn:uuid:00000000-0000-1000-8000-aabbccddeeff"
)

func token(s Service, v string) Token { return Token{s, secret.NewToken(v)} }

func TestParse(t *testing.T) {
	f := func(name string, r Register, want Parsed) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			got, err := Parse(r)
			if err != nil {
				t.Fatalf("unexpected error: %v", err)
			}
			if want.Device == "*" { // any hash
				if len(got.Device) != 20 {
					t.Errorf("device is %q, want a hash", got.Device)
				}
				want.Device, want.Hashed = got.Device, true
			}
			if d := cmp.Diff(want, got, cmp.Comparer(func(a, b secret.Token) bool { return a == b })); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
		})
	}
	contact := func(s string) Register { return Register{Contact: s} }
	ordinary := func(uri string) Parsed { return Parsed{Contact: uri, Expires: -1} }

	// Ordinary SIP.
	f("no contact", contact(""), Parsed{Expires: -1})
	f("star", contact(" * "), Parsed{Expires: -1})
	f("plain", contact("<sip:alice@192.0.2.1:5060>"), ordinary("sip:alice@192.0.2.1:5060"))
	f("addr-spec", contact("sip:alice@192.0.2.1;expires=60;transport=tcp"),
		Parsed{Contact: "sip:alice@192.0.2.1", Expires: 60})
	f("pn-* of an addr-spec are header parameters", contact("sip:alice@h;pn-provider=fcm;pn-param=p;pn-prid=x"),
		Parsed{Intent: Bind, Contact: "sip:alice@h", Device: "*", Expires: -1, Dialect: "rfc8599",
			Address: Address{Provider: FCM, App: "p", Tokens: []Token{token("", "x")}}})
	f("IPv6 and SIPS", contact("<sips:alice@[2001:db8::1]:5061;transport=tls>"),
		ordinary("sips:alice@[2001:db8::1]:5061;transport=tls"))
	f("WebSocket", contact("<sip:abc@df7jal23ls0d.invalid;transport=ws>;expires=600"),
		Parsed{Contact: "sip:abc@df7jal23ls0d.invalid;transport=ws", Expires: 600})
	f("quoted display name", contact(`"Alice \"A, B;\\" <sip:alice@192.0.2.1>;q=0.5`), ordinary("sip:alice@192.0.2.1"))
	f("token display name", contact("Alice Smith <sip:alice@192.0.2.1>"), ordinary("sip:alice@192.0.2.1"))
	f("a user with ; and ?", contact("<sip:a;pn-provider=fcm?x@192.0.2.1>"), ordinary("sip:a;pn-provider=fcm?x@192.0.2.1"))
	f("URI headers are not parameters", contact("<sip:a@h?pn-provider=fcm;pn-param=a;pn-prid=b>"),
		ordinary("sip:a@h?pn-provider=fcm;pn-param=a;pn-prid=b"))
	f("instance", contact(`<sip:alice@192.0.2.1>;+sip.instance="<`+instance+`>";reg-id=1;Expires=300`),
		Parsed{Contact: "sip:alice@192.0.2.1", Device: instance, Expires: 300})
	f("instance without quotes", contact("<sip:alice@192.0.2.1>;+SIP.Instance=<"+instance+">"),
		Parsed{Contact: "sip:alice@192.0.2.1", Device: instance, Expires: -1})
	f("instance with escapes", contact(`<sip:alice@192.0.2.1>;+sip.instance="\<`+instance+`\>"`),
		Parsed{Contact: "sip:alice@192.0.2.1", Device: instance, Expires: -1})
	f("a quoted parameter that looks like others", contact(`<sip:a@h>;x="\";expires=1,<sip:b@h>";expires=2`),
		Parsed{Contact: "sip:a@h", Expires: 2})
	f("folded line", contact("<sip:a@h>\r\n ;expires = 7 ; +sip.pnsreg"),
		Parsed{Contact: "sip:a@h", Expires: 7, PNSReg: true})
	f("malformed expires", contact("<sip:a@h>;expires=soon"), Parsed{Contact: "sip:a@h", Expires: 3600})
	f("empty expires", contact("<sip:a@h>;expires"), Parsed{Contact: "sip:a@h", Expires: 3600})
	f("huge expires", contact("<sip:a@h>;expires=99999999999999999999"), Parsed{Contact: "sip:a@h", Expires: 2147483647})

	// RFC 8599.
	fcm := Address{Provider: FCM, App: "proj-1", Tokens: []Token{token("", fcmToken)}}
	fcmURI := "sip:bob@192.0.2.7:5060;transport=tls;pn-provider=fcm;pn-param=proj-1;pn-prid=" + fcmEscaped
	f("FCM", contact("<"+fcmURI+">;expires=3600"),
		Parsed{Intent: Bind, Contact: fcmURI, Device: "*", Expires: 3600, Address: fcm, Dialect: "rfc8599"})
	android := "sip:bob@192.0.2.7;pn-prid=" + fcmToken + ";pn-provider=fcm;pn-param=proj-1;pn-silent=1;pn-timeout=0"
	f("Linphone Android", contact("<"+android+`>;+sip.instance="<`+instance+`>"`),
		Parsed{Intent: Bind, Contact: android, Device: instance, Expires: -1, Address: fcm, Dialect: "rfc8599"})
	ios := "sip:bob@192.0.2.7;pn-provider=apns.dev;pn-prid=" + hex1 + ":remote&" + hex2 + ":voip;" +
		"pn-param=ABCD1234.org.linphone.phone.remote&voip;pn-msg-str=IM_MSG;pn-call-str=IC_MSG;pn-groupchat-str=GC_MSG"
	both := []Token{token(VoIP, hex2), token(Remote, hex1)}
	f("Linphone iOS", contact("<"+ios+">"), Parsed{Intent: Bind, Contact: ios, Device: "*", Expires: -1, Dialect: "rfc8599",
		Address: Address{Provider: APNs, App: "org.linphone.phone", Team: "ABCD1234", Environment: Sandbox, Tokens: both}})

	pn := func(name, params string, want Address) {
		t.Helper()
		uri := "sip:bob@h;" + params
		f(name, contact("<"+uri+">"),
			Parsed{Intent: Bind, Contact: uri, Device: "*", Expires: -1, Address: want, Dialect: "rfc8599"})
	}
	apns := func(team, app string, env Environment, tokens ...Token) Address {
		return Address{Provider: APNs, App: app, Team: team, Environment: env, Tokens: tokens}
	}
	pn("APNs of the RFC", "pn-provider=apns;pn-param=DEF123GHIJ.com.yourcompany.yourexampleapp.voip;pn-prid="+hex1,
		apns("DEF123GHIJ", "com.yourcompany.yourexampleapp", "", token(VoIP, hex1)))
	pn("no service is remote", "pn-provider=apns;pn-param=DEF123GHIJ.com.x.app;pn-prid="+hex1,
		apns("DEF123GHIJ", "com.x.app", "", token(Remote, hex1)))
	pn("the service only behind the token", "pn-provider=apns;pn-param=DEF123GHIJ.com.x.app;pn-prid="+hex1+":voip",
		apns("DEF123GHIJ", "com.x.app", "", token(VoIP, hex1)))
	pn("services in another order, escaped", "pn-provider=apns;pn-param=DEF123GHIJ.com.x.app.voip%26remote;pn-prid="+hex1+"%3Aremote%26"+hex2+"%3avoip",
		apns("DEF123GHIJ", "com.x.app", "", both...))
	pn("without the Team ID", "pn-provider=apns;pn-param=com.x.softphone.voip;pn-prid="+hex1,
		apns("", "com.x.softphone", "", token(VoIP, hex1)))
	pn("names in any case", "PN-Provider=APNS;Pn-Param=com.x.app.voip;pn-PRID="+hex1,
		apns("", "com.x.app", "", token(VoIP, hex1)))
	pn("a service that is none belongs to the bundle", "pn-provider=ios;pn-param=com.x.Voip;pn-prid="+hex1,
		apns("", "com.x.Voip", "", token(Remote, hex1)))
	pn("apple, sandbox", "pn-provider=apple;pn-param=com.x.app.voip;pn-production=false;pn-prid="+hex1,
		apns("", "com.x.app", Sandbox, token(VoIP, hex1)))
	pn("production", "pn-provider=apns;pn-param=com.x.app.voip;pn-production=true;pn-prid="+hex1,
		apns("", "com.x.app", Production, token(VoIP, hex1)))
	for _, p := range []string{"android", "firebase", "google", "FCM"} {
		pn(p, "pn-provider="+p+";pn-param=proj-1;pn-prid="+fcmToken, fcm)
	}
	for _, p := range []string{"hms", "HMS", "Huawei"} {
		pn(p, "pn-provider="+p+";pn-param=101234567;pn-prid=IQAAAAcy0",
			Address{Provider: HMS, App: "101234567", Tokens: []Token{token("", "IQAAAAcy0")}})
	}
	pn("decoded once", "pn-provider=fcm;pn-param=a%2Bb+c;pn-prid=x%253Ay",
		Address{Provider: FCM, App: "a+b+c", Tokens: []Token{token("", "x%3Ay")}})
	pn("Web Push", "pn-provider=webpush;pn-prid=https%3A%2F%2Fupdates.push.services.mozilla.com/wpush/v2/gAAAAABk%3Fx%3D1",
		Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	pn("unknown provider", "pn-provider=wp10;pn-param=x;pn-prid=abc",
		Address{Provider: "wp10", App: "x", Tokens: []Token{token("", "abc")}})

	intent := func(name, params string, intent Intent, asked Provider, a Address) {
		t.Helper()
		uri := "sip:bob@h;" + params
		p := Parsed{Intent: intent, Contact: uri, Expires: -1, Asked: asked, Address: a, Dialect: "rfc8599"}
		if intent == None {
			p.Dialect = ""
		}
		f(name, contact("<"+uri+">"), p)
	}
	intent("query for all", "pn-provider", Query, "", Address{})
	intent("query for all with =", "pn-provider=;ob", Query, "", Address{})
	intent("query for one", "pn-provider=apple", Query, APNs, Address{})
	intent("query with an empty pn-prid", "pn-provider=fcm;pn-param=x;pn-prid=", Query, FCM, Address{})
	intent("unbind", "pn-provider=apns;pn-param=DEF123GHIJ.com.x.app.voip;pn-prid=null", Unbind, "",
		Address{Provider: APNs, App: "com.x.app", Team: "DEF123GHIJ"})
	intent("unbind without a provider", "pn-prid=NULL", Unbind, "", Address{})
	intent("no provider", "pn-param=proj-1;pn-prid=abc", None, "", Address{})

	f("served downstream", Register{Contact: "<" + fcmURI + ">",
		Headers: map[string]string{"feature-caps": `*;+sip.vapid="x;+sip.pns";+sip.pns="fcm"`}}, ordinary(fcmURI))
	f("another feature capability", Register{Contact: "<" + fcmURI + ">",
		Headers: map[string]string{"Feature-Caps": `*;+x="+sip.pns",*;+y`}},
		Parsed{Intent: Bind, Contact: fcmURI, Device: "*", Expires: -1, Address: fcm, Dialect: "rfc8599"})

	// Several contacts.
	bound := Parsed{Intent: Bind, Contact: fcmURI, Device: "*", Expires: -1, Address: fcm, Dialect: "rfc8599"}
	f("push second", contact(`"x, y" <sip:a@h;x=1,2>;y="a,b" , <`+fcmURI+">"), bound)
	f("old one removed", contact("<sip:old@h;pn-provider=fcm;pn-param=proj-1;pn-prid=old>;expires=0,<"+fcmURI+">"), bound)
	f("only removals", contact("<sip:old@h>;expires=0,<sip:b@h;pn-prid=null>;expires=0"),
		Parsed{Intent: Unbind, Contact: "sip:b@h;pn-prid=null", Expires: 0, Dialect: "rfc8599"})

	// X-MPUSH.
	mpush := func(name, value string, a Address) {
		t.Helper()
		f("MPUSH "+name, Register{"<" + fcmURI + ">", map[string]string{"x-mpush": value, "X-PIID": "0123"}},
			Parsed{Intent: Bind, Contact: fcmURI, Device: "*", Expires: -1, Address: a, Dialect: "mpush"})
	}
	mpush("FCM", "a:com.x.softphone:"+fcmToken, Address{Provider: FCM, App: "com.x.softphone", Tokens: []Token{token("", fcmToken)}})
	mpush("FCM for iOS", "d:j:com.x.softphone:"+fcmToken, Address{Provider: FCM, App: "com.x.softphone", Tokens: []Token{token("", fcmToken)}})
	mpush("APNs sandbox", " s:i:com.x.softphone.voip:"+hex1+" ", apns("", "com.x.softphone", Sandbox, token(VoIP, hex1)))
	mpush("APNs production", "p:i:com.x.softphone:"+hex1, apns("", "com.x.softphone", Production, token(VoIP, hex1)))
	mpush("Web Push", "w::"+endpoint, Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	f("MPUSH null", Register{"<" + fcmURI + ">", map[string]string{"X-MPUSH": "null"}},
		Parsed{Intent: Unbind, Contact: fcmURI, Expires: -1, Dialect: "mpush"})
	f("MPUSH null, star", Register{"*", map[string]string{"X-MPUSH": "null"}},
		Parsed{Intent: Unbind, Expires: -1, Dialect: "mpush"})
	f("MPUSH bind, star", Register{"*", map[string]string{"X-MPUSH": "a:p:t"}}, Parsed{Expires: -1})
	f("MPUSH empty", Register{"<" + fcmURI + ">", map[string]string{"X-MPUSH": " "}}, bound)
}

// isPlain reports whether p is that of a REGISTER without push data.
func isPlain(p Parsed) bool {
	plain := Parsed{Contact: p.Contact, Device: p.Device, Expires: p.Expires, PNSReg: p.PNSReg}
	return cmp.Equal(p, plain, cmp.Comparer(sameToken))
}

func TestParseErrors(t *testing.T) {
	f := func(contact, xmpush, want string) {
		t.Helper()
		r := Register{Contact: contact}
		if xmpush != "" {
			r.Headers = map[string]string{"X-MPUSH": xmpush}
		}
		got, err := Parse(r)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q %q: got %v, %v, want *Error", contact, xmpush, got, err)
			return
		}
		if err.Error() != want {
			t.Errorf("%q %q: got %q, want %q", contact, xmpush, err, want)
		}
		if !isPlain(got) {
			t.Errorf("%q %q: push data beside the error: %+v", contact, xmpush, got)
		}
	}

	f("garbage", "", "contact: is not a SIP URI")
	f("<>", "", "contact: is not a SIP URI")
	f("tel:+15550100", "", "contact: is not a SIP URI")
	f("<sip://alice@h>", "", "contact: is not a SIP URI")
	f("<sip:alice@h:port>", "", "contact: is not a SIP URI")
	f("<sip:alice@h:66000>", "", "contact: is a SIP URI without a valid host and port")
	f("<sip:alice@h:-1>", "", "contact: is a SIP URI without a valid host and port")
	f("<sip:alice@>", "", "contact: is a SIP URI without a valid host and port")
	f("<sip:alice@*>", "", "contact: is a SIP URI without a valid host and port")
	f("<sip:alice@[::zz]>", "", "contact: is a SIP URI without a valid host and port")
	f("<sip:alice@h", "", "contact: has a < without >")
	f(`"Alice <sip:alice@h>`, "", "contact: has a quoted string without an end")
	f(`"Alice" sip:alice@h`, "", "contact: has no <URI> after the display name")
	f(`<sip:alice@h>;x="y`, "", "contact: has a quoted string without an end")
	f("<sip:alice@h> expires=3", "", "contact: has something else than parameters after the URI")
	f("<sip:alice @h>", "", "contact: has a character that no URI may have")
	f("<sip:a@h;x=\"<y\">", "", "contact: has a character that no URI may have")
	f("<sip:a@h>,", "", "contact: is not a SIP URI")
	f("*, <sip:a@h>", "", "contact: is not a SIP URI")
	f("<sip:a@h>;+sip.instance=\"a b\"", "", "contact: +sip.instance has a character that is not allowed in a URN")
	f("<sip:a@h>;+sip.instance="+strings.Repeat("x", 256), "", "contact: +sip.instance is longer than 255 bytes")
	f(strings.Repeat("<sip:a@h>,", 17), "", "contact: has too many contacts")

	pn := func(params, want string) { t.Helper(); f("<sip:bob@h;"+params+">", "", "contact: "+want) }
	pn("pn-provider=fcm;PN-Provider=fcm", "pn-provider occurs twice")
	pn("pn-provider=fcm;pn-param=a;pn-prid=b;pn-prid=c", "pn-prid occurs twice")
	pn("pn-provider=fcm;pn-param=a;pn-prid=b%3", "pn-prid has a bad percent escape")
	pn("pn-provider=f%zzm;pn-param=a;pn-prid=b", "pn-provider has a bad percent escape")
	pn("pn-provider=fcm%20;pn-param=a;pn-prid=b", "pn-provider has a character that is not printable")
	pn("pn-provider="+strings.Repeat("x", 65), "pn-provider is longer than 64 bytes")
	pn("pn-provider=fcm;pn-prid=b", "pn-param does not name the app")
	pn("pn-provider=apns;pn-param=DEF123GHIJ..voip;pn-prid=ab", "pn-param does not name the app")
	pn("pn-provider=fcm;pn-param=a%20b;pn-prid=b", "pn-param has a character that is not printable")
	pn("pn-provider=fcm;pn-param="+strings.Repeat("x", 256)+";pn-prid=b", "pn-param is longer than 255 bytes")
	pn("pn-provider=fcm;pn-param=a;pn-prid=b%0d", "pn-prid has a character that is not printable")
	pn("pn-provider=fcm;pn-param=a;pn-prid="+strings.Repeat("x", 4097), "pn-prid is longer than 4096 bytes")
	pn("pn-provider=apns;pn-param=com.x;pn-prid="+strings.Repeat("a", 202), "pn-prid is longer than 200 bytes")
	pn("pn-provider=apns;pn-param=com.x;pn-prid=abc", "pn-prid is not a device token in hexadecimal")
	pn("pn-provider=apns;pn-param=com.x;pn-prid=../3/device", "pn-prid is not a device token in hexadecimal")
	pn("pn-provider=apns;pn-param=com.x;pn-prid=:voip", "pn-prid has no token")
	pn("pn-provider=apns;pn-param=com.x;pn-prid=ab:watch", "pn-prid names a service that is neither voip nor remote")
	pn("pn-provider=apns;pn-param=com.x&y;pn-prid=ab&cd", "pn-param names a service that is neither voip nor remote")
	pn("pn-provider=apns;pn-param=com.x.voip;pn-prid=ab:voip&xyz:remote", "pn-prid is not a device token in hexadecimal")
	for _, prid := range []string{"ab&cd", "ab:&cd", "ab&cd&ef"} {
		pn("pn-provider=apns;pn-param=com.x.voip&remote;pn-prid="+prid, "pn-prid does not say which token is for which service of pn-param")
	}
	pn("pn-provider=apns;pn-param=com.x.voip&remote;pn-prid=ab:voip&cd:voip", "pn-prid has two tokens for voip")
	pn("pn-provider=webpush;pn-prid=http://push.example/x", "pn-prid is not an https URL")
	pn("pn-provider=webpush;pn-prid=https://u:p@push.example/x", "pn-prid is not an https URL")
	pn("pn-provider=webpush;pn-prid=https:///x", "pn-prid is not an https URL")
	for _, keys := range []string{"pn-p256dh=" + p256dh, "pn-auth=" + auth, "pn-p256dh=x;pn-auth=" + auth, "pn-p256dh=" + p256dh + ";pn-auth=", "pn-p256dh;pn-auth"} {
		pn("pn-provider=webpush;pn-prid=https://push.example/x;"+keys, "pn-p256dh and pn-auth are not the keys of a push subscription")
	}

	x := func(value, want string) { t.Helper(); f("<sip:bob@h>", value, "X-MPUSH: "+want) }
	x("nonsense", "is not PROVIDER:PACKAGE:TOKEN")
	x("a:com.x", "is not PROVIDER:PACKAGE:TOKEN")
	x("s:a:com.x", "is not PROVIDER:PACKAGE:TOKEN")
	x("z:com.x:tok", "has a provider that is none of a, i, j and w")
	x("a::tok", "package names no app")
	x("i:.voip:abcd", "package names no app")
	x("a:com x:tok", "package has a character that is not printable")
	x("a:"+strings.Repeat("x", 256)+":tok", "package is longer than 255 bytes")
	x("i:com.x.voip&remote:abcd", "package names more than one service")
	x("a:com.x:t k", "token has a character that is not printable")
	x("i:com.x:xyz", "token is not a device token in hexadecimal")
	x("w:com.x:ftp://push.example/", "token is not an https URL")
}

// iOS apps name their tokens as they like, or have only one of them yet.
func TestAPNsTokens(t *testing.T) {
	const v, r = hex1, hex2
	f := func(services, prid string, want ...Token) {
		t.Helper()
		p, err := Parse(Register{Contact: "<sip:b@h;pn-provider=apns;pn-param=TEAM123456.org.example.phone" + services + ";pn-prid=" + prid + ">"})
		if err != nil {
			t.Errorf("%s with %s: %v", services, prid, err)
			return
		}
		if d := cmp.Diff(want, p.Address.Tokens, cmp.Comparer(sameToken)); d != "" || p.Address.App != "org.example.phone" {
			t.Errorf("%s with %s: %s\n%s", services, prid, p.Address.App, d)
		}
	}
	voip, remote := token(VoIP, v), token(Remote, r)
	for _, services := range []string{".voip&remote", ".remote&voip", ".voip%26remote"} {
		f(services, v+":voip&"+r+":remote", voip, remote)
		f(services, r+":remote&"+v+":voip", voip, remote)
		f(services, v+":voip&"+r, voip, remote)
		f(services, v+"&"+r+":remote", voip, remote)
		f(services, v+":voip&"+r+":", voip, remote)
		f(services, v+":&"+r+":remote", voip, remote)
		f(services, r+"&"+v+":voip", voip, remote)
		f(services, v+":voip&", voip)
		f(services, "&"+v+":voip", voip)
		f(services, v+":voip", voip)
		f(services, r+":remote", remote)
		f(services, v+":voip&:remote", voip)
		f(services, ":voip&"+r+":remote", remote)
		f(services, v+":voip&null:remote", voip)
		f(services, v+":voip&(null):remote", voip)
		f(services, v+":voip&"+v+":voip&"+r, voip, remote)
		f(services, v+":voip&"+r+":remote&aa:watch&bb", voip, remote)
	}
	f(".voip", v, voip)
	f(".voip", v+":voip", voip)
	f(".voip", v+"&", voip)
	f(".voip", v+"&"+r+":remote", voip, remote)
	f(".voip", v+":voip&"+r+":remote", voip, remote)
	f(".voip", v+":voip&"+r, voip)
	f(".voip", r+":remote", remote)
	f(".voip&", v, voip)
	f(".remote", r, remote)
	f(".remote", v+":voip&"+r, voip, remote)
	f("", r, remote)
	f("", v+":voip", voip)
	f("", v+":voip&"+r, voip, remote)
	f("", r+":remote&"+v, voip, remote)
}

// The same device must get the same id whatever order its tokens are sent in,
// and another one when its token changes.
func TestDeviceIsStable(t *testing.T) {
	device := func(prid string) string {
		t.Helper()
		p, err := Parse(Register{Contact: "<sip:b@h;pn-provider=apns;pn-param=com.x.voip&remote;pn-prid=" + prid + ">"})
		if err != nil {
			t.Fatal(err)
		}
		return p.Device
	}
	a := device("aa:voip&bb:remote")
	if b := device("bb:remote&aa:voip"); a != b {
		t.Errorf("the order of tokens changes the device: %s, %s", a, b)
	}
	if b := device("bb:voip&aa:remote"); a == b {
		t.Errorf("other tokens give the same device %s", a)
	}
}

func TestInstallationID(t *testing.T) {
	f := func(token, want string) {
		t.Helper()
		if got := InstallationID(token); got != want {
			t.Errorf("%s: %s, want %s", token, got, want)
		}
	}
	f("cF2g7hJ_kLm-nOpQrStUvW:APA91bHPRg", "cF2g7hJ_kLm-nOpQrStUvW")
	f("dK3v9_Qm-Zs:APA91bHPRg", "dK3v9_Qm-Zs")
	for _, other := range []string{"cF2g7hJ_kLm-nOpQrStUvW", "", ":x", "short:token", "cF2g7hJ_kLm-nOpQrStUvWx:APA91b", "cF2g7hJ.kLm-nOpQ:APA91b"} {
		f(other, other)
	}
}
