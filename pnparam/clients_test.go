package pnparam

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/secret"
)

// The keys of RFC 8291 section 5, as browsers give them and as btoa does.
const (
	p256dh     = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	p256dhBtoa = "BCVxsr7N/eNgVRqvHtD0zTZsEc6+VV+JvLexhqUzORcxaOzi6+AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4="
	auth       = "BTBZMqHH6r4Tts7J_aSIgg"
	authBtoa   = "BTBZMqHH6r4Tts7J/aSIgg=="
)

// example is what one client sends, and what is made of it. Headers are lines as
// on the wire; without a Contact among them there is a plain one.
type example struct {
	client  string
	headers string
	intent  Intent
	dialect string
	device  string // "*": a hash
	address Address
}

func (e example) register() Register {
	r := Register{Contact: "<sip:alice@192.0.2.10:5060>", Headers: map[string]string{}}
	for _, line := range strings.Split(e.headers, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Contact" {
			r.Contact = value
			continue
		}
		r.Headers[name] = value
	}
	return r
}

func apnsAddress(team, app string, env Environment, tokens ...Token) Address {
	return Address{Provider: APNs, App: app, Team: team, Environment: env, Tokens: tokens}
}

func fcmAddress(app string) Address {
	return Address{Provider: FCM, App: app, Tokens: []Token{token("", fcmToken)}}
}

// examples are the texts of docs/CLIENTS.md and more.
func examples() []example {
	const (
		uri  = "Contact: <sip:alice@192.0.2.10:5061;transport=tls;"
		inst = `;+sip.instance="<` + instance + `>"`
	)
	voip, remote := token(VoIP, hex1), token(Remote, hex2)
	var list []example
	add := func(client, headers string, intent Intent, dialect, device string, a Address) {
		list = append(list, example{client, headers, intent, dialect, device, a})
	}
	bind := func(client, headers, dialect, device string, a Address) {
		add(client, headers, Bind, dialect, device, a)
	}
	unbind := func(client, headers, dialect, device string, a Address) {
		add(client, headers, Unbind, dialect, device, a)
	}

	// RFC 8599.
	bind("RFC 8599, APNs", uri+"pn-provider=apns;pn-param=DEF123GHIJ.com.example.phone.voip&remote;pn-prid="+hex1+":voip&"+hex2+":remote>"+inst,
		"rfc8599", instance, apnsAddress("DEF123GHIJ", "com.example.phone", "", voip, remote))
	bind("RFC 8599, APNs sandbox", uri+"pn-provider=apns.dev;pn-param=DEF123GHIJ.com.example.phone.voip;pn-prid="+hex1+">"+inst,
		"rfc8599", instance, apnsAddress("DEF123GHIJ", "com.example.phone", Sandbox, voip))
	bind("RFC 8599, FCM", uri+"pn-provider=fcm;pn-param=my-project;pn-prid="+fcmEscaped+">"+inst,
		"rfc8599", instance, fcmAddress("my-project"))
	bind("RFC 8599, Web Push", "Contact: <sip:x7k2@df7jal23ls0d.invalid;transport=ws;pn-provider=webpush;pn-prid=https%3A%2F%2Fupdates.push.services.mozilla.com%2Fwpush%2Fv2%2FgAAAAABk%3Fx%3D1>"+inst,
		"rfc8599", instance, Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	unbind("RFC 8599, unbind", uri+"pn-provider=fcm;pn-param=my-project;pn-prid=null>"+inst,
		"rfc8599", instance, Address{Provider: FCM, App: "my-project"})

	const plain = "Contact: <sip:alice@192.0.2.10:5061;transport=tls>"
	bind("RFC 8599 behind the URI", plain+";pn-provider=fcm;pn-param=my-project;pn-prid="+fcmEscaped+inst,
		"rfc8599", instance, fcmAddress("my-project"))
	bind("RFC 8599 behind the URI, quoted, as of PJSIP", plain+inst+`;pn-provider="fcm";pn-param="my-project";pn-prid="`+fcmToken+`"`,
		"rfc8599", instance, fcmAddress("my-project"))
	bind("RFC 8599 behind the URI, two tokens", plain+";pn-provider=apns;pn-param=DEF123GHIJ.com.example.phone.voip&remote;pn-prid=\""+hex1+":voip&"+hex2+":remote\""+inst,
		"rfc8599", instance, apnsAddress("DEF123GHIJ", "com.example.phone", "", voip, remote))
	bind("RFC 8599 with white space", plain+" ;\tpn-provider = fcm ; pn-param= my-project; pn-prid ="+fcmToken+inst,
		"rfc8599", instance, fcmAddress("my-project"))
	bind("RFC 8599, escaped names", uri+"%70n-provider=fcm;pn%2Dparam=my-project;pn%2dprid="+fcmToken+">"+inst,
		"rfc8599", instance, fcmAddress("my-project"))
	bind("RFC 8599, addr-spec", "Contact: sip:alice@192.0.2.10;PN-Provider=FCM;pn-param=my-project;Pn-Prid="+fcmToken+inst,
		"rfc8599", instance, fcmAddress("my-project"))
	bind("RFC 8599, Web Push behind the URI", `Contact: <sip:x7k2@df7jal23ls0d.invalid;transport=ws>;pn-provider=webpush;pn-prid="`+endpoint+`"`+inst,
		"rfc8599", instance, Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	bind("JsSIP 3.13, setExtraContactParams", `Contact: <sip:ve3c9otb@gkuhh9qi4nvk.invalid;transport=ws>;+sip.ice;reg-id=1;+sip.instance="<`+instance+
		`>";expires=600;pn-provider=webpush;pn-prid=https%3A%2F%2Fupdates.push.services.mozilla.com%2Fwpush%2Fv2%2FgAAAAABk%3Fx%3D1`,
		"rfc8599", instance, Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	bind("SIP.js 0.21, extraContactHeaderParams", `Contact: <sip:jmiem2j9@3mmp20o9ppd2.invalid;transport=ws>;reg-id=1;+sip.instance="<`+instance+
		`>";pn-provider=webpush;pn-prid=https%3A%2F%2Fupdates.push.services.mozilla.com%2Fwpush%2Fv2%2FgAAAAABk%3Fx%3D1;expires=600`,
		"rfc8599", instance, Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	bind("SIP.js 0.21, contactParams", "Contact: <sip:203sopae@3ph4aas7n8dq.invalid;transport=ws;pn-provider=webpush;pn-prid=https%3A%2F%2Fupdates.push.services.mozilla.com%2Fwpush%2Fv2%2FgAAAAABk%3Fx%3D1>;expires=600",
		"rfc8599", "*", Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	unbind("RFC 8599, unbind behind the URI", plain+";pn-provider=fcm;pn-param=my-project;pn-prid=null"+inst,
		"rfc8599", instance, Address{Provider: FCM, App: "my-project"})
	bind("old Linphone behind the URI, with white space", plain+" ; app-id=my-project ; pn-type = google;\tpn-tok = \""+fcmToken+"\""+inst,
		"linphone", instance, fcmAddress("my-project"))

	// Mistakes in the wild.
	for _, p := range []string{"android", "firebase"} {
		bind("mistake: pn-provider="+p, uri+"pn-provider="+p+";pn-param=my-project;pn-prid="+fcmToken+">",
			"rfc8599", "*", fcmAddress("my-project"))
	}
	for _, p := range []string{"apple", "ios"} {
		bind("mistake: pn-provider="+p+" without a Team ID", uri+"pn-provider="+p+";pn-param=com.example.phone.voip;pn-prid="+hex1+">",
			"rfc8599", "*", apnsAddress("", "com.example.phone", "", voip))
	}
	bind("mistake: pn-production=false", uri+"pn-provider=apns;pn-param=com.example.phone.voip;pn-production=false;pn-prid="+hex1+">",
		"rfc8599", "*", apnsAddress("", "com.example.phone", Sandbox, voip))
	bind("mistake: pn-production=true wins over apns.dev", uri+"pn-provider=apns.dev;pn-param=com.example.phone.voip;pn-production=true;pn-prid="+hex1+">",
		"rfc8599", "*", apnsAddress("", "com.example.phone", Production, voip))

	// Linphone.
	bind("Linphone iOS", uri+"pn-provider=apns.dev;pn-prid="+hex2+":remote&"+hex1+":voip;pn-param=ABCD1234.org.linphone.phone.remote&voip;"+
		"pn-msg-str=IM_MSG;pn-call-str=IC_MSG;pn-groupchat-str=GC_MSG;pn-call-snd=notes_of_the_optimistic.caf;pn-msg-snd=msg.caf;pn-timeout=0;pn-silent=1>"+inst,
		"rfc8599", instance, apnsAddress("ABCD1234", "org.linphone.phone", Sandbox, voip, remote))
	bind("Linphone Android", uri+"pn-prid="+fcmToken+";pn-provider=fcm;pn-param=929724111839;pn-silent=1;pn-timeout=0>"+inst,
		"rfc8599", instance, fcmAddress("929724111839"))
	bind("old Linphone Android", uri+"app-id=929724111839;pn-type=google;pn-tok="+fcmToken+">",
		"linphone", "*", fcmAddress("929724111839"))
	bind("old Linphone Android, firebase", uri+"app-id=851039092461;pn-type=firebase;pn-tok="+fcmEscaped+";user_email=x%40y;pn-silent=1>",
		"linphone", "*", fcmAddress("851039092461"))
	bind("old Linphone, android", uri+"PN-TYPE=Android;pn-tok="+fcmToken+";App-Id=851039092461>",
		"linphone", "*", fcmAddress("851039092461"))
	bind("old Linphone Android, behind the URI", "Contact: <sip:alice@192.0.2.10:5061;transport=tls>;app-id=929724111839;pn-type=google;pn-tok="+fcmToken,
		"linphone", "*", fcmAddress("929724111839"))
	bind("old Linphone, addr-spec and quotes", `Contact: sip:alice@192.0.2.10;app-id="929724111839";pn-type=google;pn-tok="`+fcmToken+`"`,
		"linphone", "*", fcmAddress("929724111839"))
	bind("old Linphone iOS, PushKit", uri+"app-id=org.linphone.phone.voip.prod;pn-type=apple;pn-tok="+hex1+
		";pn-msg-str=IM_MSG;pn-call-str=IC_MSG;pn-call-snd=ring.caf;pn-msg-snd=msg.caf;pn-timeout=0;pn-silent=1>"+inst,
		"linphone", instance, apnsAddress("", "org.linphone.phone", Production, voip))
	bind("old Linphone iOS, PushKit sandbox", uri+"app-id=org.linphone.phone.voip.dev;pn-type=apple;pn-tok="+hex1+">",
		"linphone", "*", apnsAddress("", "org.linphone.phone", Sandbox, voip))
	bind("old Linphone iOS", uri+"app-id=fr.example.phone.prod;pn-type=apple;pn-tok="+hex2+";pn-msg-str=IM_MSG;pn-call-str=IC_MSG>",
		"linphone", "*", apnsAddress("", "fr.example.phone", Production, remote))
	bind("old Linphone iOS, sandbox", uri+"app-id=fr.example.phone.dev;pn-type=apple;pn-tok="+hex2+">",
		"linphone", "*", apnsAddress("", "fr.example.phone", Sandbox, remote))
	bind("old Linphone iOS, no environment", uri+"app-id=fr.example.phone;pn-type=apple;pn-tok="+hex2+">",
		"linphone", "*", apnsAddress("", "fr.example.phone", "", remote))
	bind("an FCM app-id has no environment", uri+"app-id=com.example.prod;pn-type=google;pn-tok="+fcmToken+">",
		"linphone", "*", fcmAddress("com.example.prod"))
	for _, p := range []string{"wp", "wp10"} { // refused by the rules, by this name
		bind("Linphone for Windows phones, "+p, uri+"app-id=192.0.2.5;pn-type="+p+";pn-tok=https%3A%2F%2Fdb3.notify.windows.com%2F%3Ftoken%3DAwYAAA>",
			"linphone", "*", Address{Provider: Provider(p), App: "192.0.2.5", Tokens: []Token{token("", "https://db3.notify.windows.com/?token=AwYAAA")}})
	}
	bind("old Linphone, decoded once", uri+"app-id=a%2542;pn-type=google;pn-tok=x%253Ay>",
		"linphone", "*", Address{Provider: FCM, App: "a%42", Tokens: []Token{token("", "x%3Ay")}})
	unbind("old Linphone, unbind", uri+"app-id=929724111839;pn-type=google;pn-tok=null>"+inst,
		"linphone", instance, Address{Provider: FCM, App: "929724111839"})
	unbind("old Linphone, empty token", uri+"app-id=org.linphone.phone.voip.dev;pn-type=apple;pn-tok=>"+inst,
		"linphone", instance, apnsAddress("", "org.linphone.phone", Sandbox))
	unbind("old Linphone, no app-id", uri+"pn-type=google;pn-tok=null>", "linphone", "", Address{Provider: FCM})
	unbind("old Linphone, only a null token", uri+"pn-tok=null>", "linphone", "", Address{})

	// Sylk.
	bind("Sylk iOS", uri+"pn-type=ios;pn-app=com.agprojects.sylk-ios;pn-tok="+hex1+"-"+hex2+";pn-device=accc8375125582aae062353;pn-silent=1>",
		"sylk", "accc8375125582aae062353", apnsAddress("", "com.agprojects.sylk-ios", "", voip, remote))
	bind("Sylk iOS, development", uri+"pn-type=apple;app-id=com.agprojects.sylk-ios.dev;pn-tok="+hex1+"-"+hex2+">"+inst,
		"sylk", instance, apnsAddress("", "com.agprojects.sylk-ios", Sandbox, voip, remote))
	bind("Sylk iOS, the instance wins over pn-device", uri+"pn-type=apple;pn-app=com.agprojects.sylk-ios;pn-tok="+hex1+"_"+hex2+";pn-device=accc8375>"+inst,
		"sylk", instance, apnsAddress("", "com.agprojects.sylk-ios", "", voip, remote))
	bind("Sylk iOS, colon", uri+"pn-type=apns;pn-app=com.agprojects.sylk-ios;pn-tok="+hex1+"%3A"+hex2+">",
		"sylk", "*", apnsAddress("", "com.agprojects.sylk-ios", "", voip, remote))
	bind("Sylk iOS before PushKit answered", uri+"pn-type=ios;pn-app=com.agprojects.sylk-ios;pn-tok=null-"+hex2+">",
		"sylk", "*", apnsAddress("", "com.agprojects.sylk-ios", "", remote))
	bind("Sylk iOS, one token", uri+"pn-type=ios;pn-app=com.agprojects.sylk-ios;pn-tok="+hex1+";pn-device=%3Curn%3Auuid%3Aaccc8375%3E>",
		"sylk", "urn:uuid:accc8375", apnsAddress("", "com.agprojects.sylk-ios", "", voip))
	bind("Sylk Android", uri+"pn-type=android;pn-app=com.agprojects.sylk;pn-tok="+fcmEscaped+";pn-device=5f1d7a84ad62cc10;pn-silent=1>",
		"sylk", "5f1d7a84ad62cc10", fcmAddress("com.agprojects.sylk"))
	for _, p := range []string{"firebase", "fcm"} {
		bind("Sylk, "+p, uri+"pn-type="+p+";app-id=com.agprojects.sylk;pn-app=other;pn-tok="+fcmToken+">"+inst,
			"sylk", instance, fcmAddress("com.agprojects.sylk"))
	}
	unbind("Sylk, unbind", uri+"pn-type=android;pn-app=com.agprojects.sylk;pn-tok=;pn-device=5f1d7a84ad62cc10>",
		"sylk", "5f1d7a84ad62cc10", Address{Provider: FCM, App: "com.agprojects.sylk"})
	unbind("Sylk iOS, no token of either kind", uri+"pn-type=ios;pn-app=com.agprojects.sylk-ios;pn-tok=null-null;pn-device=accc8375>",
		"sylk", "accc8375", apnsAddress("", "com.agprojects.sylk-ios", ""))

	// PortSIP.
	bind("PortSIP iOS", "X-Push: device-os=ios;device-uid="+hex1+"|"+hex2+";allow-call-push=true;allow-message-push=true;app-id=com.portsip.phone",
		"portsip", "*", apnsAddress("", "com.portsip.phone", "", voip, remote))
	bind("PortSIP iOS, PushKit only", "x-p-push: device-os=ios;device-uid="+hex1+";allow-call-push=true;allow-message-push=true;app-id=com.portsip.phone",
		"portsip", "*", apnsAddress("", "com.portsip.phone", "", voip))
	bind("PortSIP iOS before APNs answered", "X-Push: device-os=ios;device-uid="+hex1+"|(null);app-id=com.portsip.phone",
		"portsip", "*", apnsAddress("", "com.portsip.phone", "", voip))
	android := "device-os=android;device-uid=" + fcmToken + ";allow-call-push=true;allow-message-push=true;app-id=com.portsip.phone"
	bind("PortSIP Android", "x-p-push: "+android, "portsip", "*", fcmAddress("com.portsip.phone"))
	bind("older PortSIP Android", "portsip-push: "+android, "portsip", "*", fcmAddress("com.portsip.phone"))
	bind("PortSIP Android, both names", "portsip-push: "+android+"\nx-p-push: "+android, "portsip", "*", fcmAddress("com.portsip.phone"))
	calls := fcmAddress("com.portsip.phone")
	calls.Denied.Messages = true
	bind("PortSIP, calls only", "X-Push: device-os=android;device-uid="+fcmToken+";allow-call-push=true;allow-message-push=false;app-id=com.portsip.phone",
		"portsip", "*", calls)
	messages := fcmAddress("com.portsip.phone")
	messages.Denied.Calls = true
	bind("PortSIP, messages only", "X-Push: Device-OS = Android ; device-uid = "+fcmToken+" ; allow-call-push=False;app-id=com.portsip.phone;",
		"portsip", "*", messages)
	none := Address{Provider: FCM, App: "com.portsip.phone", Denied: Denied{Calls: true, Messages: true}}
	unbind("PortSIP, push switched off", "X-Push: device-os=android;device-uid="+fcmToken+";allow-call-push=false;allow-message-push=false;app-id=com.portsip.phone",
		"portsip", "*", none)
	unbind("PortSIP, no token", "X-Push: device-os=ios;device-uid=|;app-id=com.portsip.phone",
		"portsip", "", apnsAddress("", "com.portsip.phone", ""))
	bind("PortSIP on another system", "X-Push: device-os=windows;device-uid=abc;app-id=com.portsip.phone",
		"portsip", "*", Address{Provider: "windows", App: "com.portsip.phone", Tokens: []Token{token("", "abc")}})

	// Mizutech.
	bind("Mizutech Android", "X-MPUSH: a:com.example.phone:"+fcmToken, "mpush", "*", fcmAddress("com.example.phone"))
	bind("Mizutech iOS", "X-MPUSH: i:com.example.phone:"+hex1, "mpush", "*", apnsAddress("", "com.example.phone", "", voip))
	bind("Mizutech iOS, sandbox", "X-MPUSH: s:i:com.example.phone:"+hex1, "mpush", "*", apnsAddress("", "com.example.phone", Sandbox, voip))
	bind("Mizutech iOS, production", "X-MPUSH: p:i:com.example.phone:"+hex1, "mpush", "*", apnsAddress("", "com.example.phone", Production, voip))
	bind("Mizutech iOS, default", "X-MPUSH: d:i:com.example.phone:"+hex1, "mpush", "*", apnsAddress("", "com.example.phone", "", voip))
	bind("Mizutech iOS with FCM", "X-MPUSH: j:com.example.phone:"+fcmToken, "mpush", "*", fcmAddress("com.example.phone"))
	bind("Mizutech iOS with FCM, as i", "X-MPUSH: i:com.example.phone:"+fcmToken, "mpush", "*", fcmAddress("com.example.phone"))
	bind("Mizutech Web Push", "X-MPUSH: w:com.example.phone:"+endpoint, "mpush", "*", Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	keys := &WebPushKeys{secret.NewToken(p256dh), secret.NewToken(auth)}
	bind("Mizutech Web Push with keys", "X-MPUSH: w:com.example.phone:"+endpoint+"|"+p256dh+"|"+auth,
		"mpush", "*", Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}, Keys: keys})
	bind("Mizutech Web Push with keys of btoa", "X-MPUSH: w::"+endpoint+"|"+p256dhBtoa+"|"+authBtoa,
		"mpush", "*", Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}, Keys: keys})
	unbind("Mizutech, unbind", "X-MPUSH: null", "mpush", "", Address{})
	unbind("Mizutech, null token", "X-MPUSH: s:a:com.example.phone:null", "mpush", "", Address{Provider: FCM, App: "com.example.phone", Environment: Sandbox})
	unbind("Mizutech, empty token", "X-MPUSH: i:com.example.phone:", "mpush", "", apnsAddress("", "com.example.phone", ""))
	for _, p := range []string{"a", "j", "android", "FCM"} {
		bind("older Mizutech, "+p, uri+"push-token-type="+p+";push-token-app=com.example.phone;push-token-id="+fcmEscaped+">",
			"push-token", "*", fcmAddress("com.example.phone"))
	}
	for _, p := range []string{"i", "apns"} {
		bind("older Mizutech, "+p, uri+"push-token-type="+p+";push-token-app=com.example.phone;push-token-id="+hex1+">",
			"push-token", "*", apnsAddress("", "com.example.phone", "", voip))
	}
	bind("older Mizutech, behind the URI", "Contact: <sip:alice@192.0.2.10>;Push-Token-Type=a;push-token-app=com.example.phone;push-token-id="+fcmToken+inst,
		"push-token", instance, fcmAddress("com.example.phone"))
	bind("older Mizutech, Web Push", uri+"push-token-type=w;push-token-app=;push-token-id=https%3A%2F%2Fupdates.push.services.mozilla.com/wpush/v2/gAAAAABk%3Fx%3D1>",
		"push-token", "*", Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	unbind("older Mizutech, unbind", uri+"push-token-type=a;push-token-app=com.example.phone;push-token-id=null>"+inst,
		"push-token", instance, Address{Provider: FCM, App: "com.example.phone"})
	return list
}

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
