package pnparam

import (
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
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

// examples returns the texts of docs/CLIENTS.md and more.
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
	const huawei = "IQAAAACy0PYlAADkX3v2nJ8oQ1zL5tR7wY9uB4eH6gK0mN-_sD2fT"
	bind("RFC 8599, Push Kit", uri+"pn-provider=hms;pn-param=101234567;pn-prid="+huawei+">"+inst,
		"rfc8599", instance, Address{Provider: HMS, App: "101234567", Tokens: []Token{token("", huawei)}})
	bind("RFC 8599, Web Push", "Contact: <sip:x7k2@df7jal23ls0d.invalid;transport=ws;pn-provider=webpush;pn-prid=https%3A%2F%2Fupdates.push.services.mozilla.com%2Fwpush%2Fv2%2FgAAAAABk%3Fx%3D1>"+inst,
		"rfc8599", instance, Address{Provider: WebPush, Tokens: []Token{token("", endpoint)}})
	bind("UnifiedPush with keys", uri+"pn-provider=webpush;pn-prid=https%3A%2F%2Fntfy.example.org%2FupAbCdEf12%3Fup%3D1;pn-p256dh="+p256dh+";pn-auth="+auth+">"+inst,
		"rfc8599", instance, Address{Provider: WebPush, Tokens: []Token{token("", "https://ntfy.example.org/upAbCdEf12?up=1")},
			Keys: &WebPushKeys{secret.NewToken(p256dh), secret.NewToken(auth)}})
	bind("Web Push with keys behind the URI, in plain base64", "Contact: <sip:alice@192.0.2.10:5061;transport=tls>"+`;pn-provider=webpush;pn-prid="`+endpoint+`";pn-p256dh="`+p256dh+`=";pn-auth="`+auth+`=="`+inst,
		"rfc8599", instance, Address{Provider: WebPush, Tokens: []Token{token("", endpoint)},
			Keys: &WebPushKeys{secret.NewToken(p256dh), secret.NewToken(auth)}})
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
	bind("Mizutech iOS with both tokens", "X-MPUSH: i:com.example.phone:"+hex1+"|"+hex2, "mpush", "*",
		apnsAddress("", "com.example.phone", "", voip, token(Remote, hex2)))
	bind("Mizutech browser with FCM", "X-MPUSH: w:com.example.phone:"+fcmToken, "mpush", "*", fcmAddress("com.example.phone"))
	bind("Mizutech Web Push", "X-MPUSH: w:com.example.phone:"+endpoint, "mpush", "*", Address{Provider: WebPush, App: "com.example.phone", Tokens: []Token{token("", endpoint)}})
	keys := &WebPushKeys{secret.NewToken(p256dh), secret.NewToken(auth)}
	bind("Mizutech Web Push with keys", "X-MPUSH: w:com.example.phone:"+endpoint+"|"+p256dh+"|"+auth,
		"mpush", "*", Address{Provider: WebPush, App: "com.example.phone", Tokens: []Token{token("", endpoint)}, Keys: keys})
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
