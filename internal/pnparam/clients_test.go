package pnparam

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/secret"
)

func sameToken(a, b secret.Token) bool { return a == b }

func TestClients(t *testing.T) {
	names := make(map[string]bool)
	for _, e := range examples() {
		if names[e.client] {
			t.Errorf("%s is there twice", e.client)
		}
		names[e.client] = true
		t.Run(e.client, func(t *testing.T) {
			r := e.register()
			got, err := Parse(r)
			if err != nil {
				t.Fatalf("unexpected error: %v", err)
			}
			if e.device == "*" {
				if len(got.Device) != 20 {
					t.Errorf("device is %q, want a hash", got.Device)
				}
				e.device = got.Device
			}
			got = Parsed{Intent: got.Intent, Dialect: got.Dialect, Device: got.Device, Address: got.Address}
			want := Parsed{Intent: e.intent, Dialect: e.dialect, Device: e.device, Address: e.address}
			if d := cmp.Diff(want, got, cmp.Comparer(sameToken)); d != "" {
				t.Errorf("want -, got +:\n%s", d)
			}
			checkProperties(t, r)
		})
	}
}

// A client that unbinds by permission still has its device found by its token.
func TestDeniedUnbindsTheSameDevice(t *testing.T) {
	device := func(allow string) string {
		t.Helper()
		p, err := Parse(Register{"<sip:a@h>", map[string]string{"X-Push": "device-os=ios;device-uid=" + hex1 + "|" + hex2 +
			";app-id=com.x.app;allow-call-push=" + allow + ";allow-message-push=" + allow}})
		if err != nil {
			t.Fatal(err)
		}
		return p.Device
	}
	if on, off := device("true"), device("false"); on != off {
		t.Errorf("device is %s, and %s when push is switched off", on, off)
	}
}

// Which dialect counts when a REGISTER has several, and what hides a dialect.
func TestPrecedence(t *testing.T) {
	const (
		x     = "X-MPUSH: a:mpush:t"
		port  = "X-Push: device-os=android;device-uid=t;app-id=portsip"
		older = "X-P-Push: device-os=android;device-uid=t;app-id=older"
		old   = "Portsip-Push: device-os=android;device-uid=t;app-id=oldest"
		rfc   = ";pn-provider=fcm;pn-param=rfc8599;pn-prid=t"
		sylk  = ";pn-type=fcm;pn-app=sylk;pn-tok=t"
		lin   = ";pn-type=fcm;app-id=linphone;pn-tok=t"
		miz   = ";push-token-type=a;push-token-app=push-token;push-token-id=t"
	)
	f := func(name, want, params, behind string, headers ...string) {
		t.Helper()
		e := example{headers: strings.Join(append(headers, "Contact: <sip:a@h"+params+">"+behind), "\n")}
		p, err := Parse(e.register())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if p.Address.App != want {
			t.Errorf("%s: %s counts, want %s", name, p.Address.App, want)
		}
	}
	f("all", "mpush", miz+sylk+rfc, "", x, port, older, old)
	f("without X-MPUSH", "portsip", miz+sylk+rfc, "", old, older, port)
	f("X-P-Push before Portsip-Push", "older", miz+sylk+rfc, "", old, older)
	f("Portsip-Push before the Contact", "oldest", miz+sylk+rfc, "", old)
	f("RFC 8599 before old parameters", "rfc8599", miz+sylk+rfc, "")
	f("old Linphone before push-token", "linphone", miz+lin, "")
	f("Sylk before push-token", "sylk", miz+sylk, "")
	f("app-id before pn-app", "linphone", lin+";pn-app=sylk", "")
	f("push-token", "push-token", miz, "")
	f("URI before what is behind it", "linphone", lin, ";pn-type=apple;app-id=other;pn-tok=ab")
	f("RFC 8599 behind the URI", "rfc8599", "", rfc)
	f("RFC 8599 in the URI before behind it", "rfc8599", rfc, ";pn-provider=apns;pn-param=other;pn-prid=ab")
	f("RFC 8599 behind the URI before old parameters in it", "rfc8599", lin, rfc)
	f("a foreign X-Push", "linphone", lin, "", "X-Push: enabled")
	f("a foreign X-Push hides no X-P-Push", "older", "", "", "X-Push: enabled", older)
	f("an empty X-MPUSH", "portsip", "", "", "X-MPUSH: ", port)
	f("names that differ in case", "portsip", "", "", port, "x-push: device-os=android;device-uid=t;app-id=a")
	f("served downstream, RFC 8599", "", rfc+lin, "", `Feature-Caps: *;+sip.pns="fcm"`)
	f("served downstream, a header", "mpush", rfc, "", `Feature-Caps: *;+sip.pns="fcm"`, x)
	f("a pn-prid without provider hides nothing", "linphone", ";pn-prid=t"+lin, "")
	f("pn-type without a token is nothing", "", ";pn-type=fcm;app-id=linphone", "")
	f("app-id of a stranger", "", ";app-id=%zz;app-id=x;pn-app=1", "")
}

func TestClientErrors(t *testing.T) {
	f := func(headers, want string) {
		t.Helper()
		got, err := Parse(example{headers: headers}.register())
		var e *Error
		if !errors.As(err, &e) || err.Error() != want {
			t.Errorf("%s: got %v, %v, want %q", headers, got, err, want)
		}
		if !isPlain(got) {
			t.Errorf("%s: push data beside the error: %+v", headers, got)
		}
	}
	c := func(params, want string) { t.Helper(); f("Contact: <sip:a@h;"+params+">", "contact: "+want) }
	c("pn-tok=abc", "pn-type does not name the push service")
	c("pn-type=;pn-tok=abc", "pn-type does not name the push service")
	c("pn-type=f%20;pn-tok=abc", "pn-type has a character that is not printable")
	c("pn-type=fcm;pn-tok=a;pn-tok=b", "pn-tok occurs twice")
	c("pn-type=fcm;app-id=x;pn-tok=%zz", "pn-tok has a bad percent escape")
	c("pn-type=fcm;app-id=x;app-id=y;pn-tok=a", "app-id occurs twice")
	c("pn-type=fcm;pn-tok=abc", "app-id names no app")
	c("pn-type=apple;app-id=.voip.dev;pn-tok=abcd", "app-id names no app")
	c("pn-type=apple;app-id=DEF123GHIJ;pn-tok=abcd", "app-id names no app")
	c("pn-type=apple;app-id=com.x.voip&remote;pn-tok=abcd", "app-id names more than one service")
	c("pn-type=apple;app-id=com.x.prod;pn-tok=xyz", "pn-tok is not a device token in hexadecimal")
	c("pn-type=apple;app-id=com.x;pn-tok="+hex1+"-xyz", "pn-tok is not a device token in hexadecimal")
	c("pn-type=apple;pn-app=com.x;pn-tok="+hex1+"-"+hex2+"-ab", "pn-tok is not a device token in hexadecimal")
	c("pn-type=fcm;pn-tok=abc;pn-device=x", "pn-app names no app")
	c("pn-type=fcm;pn-app=a%20b;pn-tok=abc", "pn-app has a character that is not printable")
	c("pn-type=fcm;app-id=a%20b;pn-tok=abc;pn-device=x", "app-id has a character that is not printable")
	c("pn-type=fcm;pn-app=a;pn-tok=abc;pn-device=a%20b", "pn-device has a character that is not printable")
	c("pn-type=fcm;pn-app=a;pn-tok=abc;pn-device="+strings.Repeat("x", 256), "pn-device is longer than 255 bytes")
	c("pn-type=fcm;pn-app=a;pn-tok=a%0d", "pn-tok has a character that is not printable")
	c("push-token-id=abc", "push-token-type does not name the push service")
	c("push-token-type=a;push-token-id=abc", "push-token-app names no app")
	c("push-token-type=i;push-token-app=com.x;push-token-id=xyz", "push-token-id is not a device token in hexadecimal")
	c("push-token-type=a;push-token-app=x;push-token-id=a;push-token-id=b", "push-token-id occurs twice")
	c("push-token-type=%01;push-token-id=a", "push-token-type has a character that is not printable")
	c("push-token-type=w;push-token-id=http://h/", "push-token-id is not an https URL")

	const off = "allow-call-push or allow-message-push is neither true nor false"
	x := func(value, want string) { t.Helper(); f("x-push: "+value, "X-Push: "+want) }
	x("device-uid=abc", "device-os does not name the system")
	x("device-os=ä;device-uid=abc", "device-os has a character that is not printable")
	x("device-os=ios;device-os=ios;device-uid=abc", "device-os occurs twice")
	x("device-os=ios;device-uid=ab", "app-id names no app")
	x("device-os=ios;device-uid=xyz;app-id=com.x", "device-uid is not a device token in hexadecimal")
	x("device-os=ios;device-uid=ab|xyz;app-id=com.x", "device-uid is not a device token in hexadecimal")
	x("device-os=ios;device-uid=ab|cd|ef;app-id=com.x", "device-uid is not a device token in hexadecimal")
	x("device-os=android;device-uid=a b;app-id=com.x", "device-uid has a character that is not printable")
	x("device-os=android;device-uid=a;app-id=com x", "app-id has a character that is not printable")
	x("device-os=android;device-uid=a;app-id=com.x;allow-call-push=maybe", off)
	x("device-os=android;device-uid=a;app-id=com.x;allow-message-push=2", off)
	f("portsip-push: device-os=android;device-uid=a", "Portsip-Push: app-id names no app")

	w := func(token, want string) { t.Helper(); f("X-MPUSH: w:x:"+token, "X-MPUSH: token "+want) }
	const badKeys = "has no valid P256DH|AUTH behind the URL"
	w(endpoint+"|", badKeys)
	w(endpoint+"|"+p256dh, badKeys)
	w(endpoint+"||", badKeys)
	w(endpoint+"|"+p256dh+"|"+auth+"|x", badKeys)
	w(endpoint+"|"+auth+"|"+p256dh, badKeys)
	w(endpoint+"|"+p256dh+"|"+auth+"AA", badKeys)
	w(endpoint+"|"+p256dh[:86]+"5|"+auth, badKeys)    // not on the curve
	w(endpoint+"|"+p256dh+"|"+auth[:21]+"h", badKeys) // bits behind the end
	w("|"+p256dh+"|"+auth, "has an empty token")
	w("http://h|"+p256dh+"|"+auth, "is not an https URL")
	f("Contact: <sip:a@h;pn-provider=webpush;pn-prid=https://h/|x>", "contact: pn-prid is not an https URL")
}

func TestEqual(t *testing.T) {
	keys := func(p, a string) *WebPushKeys { return &WebPushKeys{secret.NewToken(p), secret.NewToken(a)} }
	list := []Address{
		{},
		{Provider: FCM},
		{Provider: FCM, App: "a"},
		{Provider: FCM, Team: "a"},
		{Provider: FCM, Environment: Sandbox},
		{Provider: FCM, Tokens: []Token{token("", "a")}},
		{Provider: FCM, Tokens: []Token{token(VoIP, "a")}},
		{Provider: FCM, Denied: Denied{Calls: true}},
		{Provider: FCM, Denied: Denied{Messages: true}},
		{Provider: FCM, Keys: keys("a", "b")},
		{Provider: FCM, Keys: keys("a", "c")},
		{Provider: FCM, Keys: keys("b", "b")},
	}
	for i, a := range list {
		for j, b := range list {
			if b.Keys != nil {
				b.Keys = keys(b.Keys.P256dh.Reveal(), b.Keys.Auth.Reveal())
			}
			if a.Equal(b) != (i == j) {
				t.Errorf("%d equals %d: %v", i, j, a.Equal(b))
			}
		}
	}
}
