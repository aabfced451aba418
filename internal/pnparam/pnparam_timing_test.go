package pnparam

import "testing"

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name string
		r    Register
	}{
		{"plain", Register{Contact: "<sip:alice@192.0.2.1:5060;transport=tcp>;expires=3600;+sip.instance=\"<" + instance + ">\";reg-id=1"}},
		{"fcm", Register{Contact: "<sip:bob@192.0.2.7:5060;transport=tls;pn-provider=fcm;pn-param=proj-1;pn-prid=" + fcmToken + ">;expires=3600;+sip.instance=\"<" + instance + ">\""}},
		{"fcm-escaped-hashed", Register{Contact: "<sip:bob@192.0.2.7:5060;transport=tls;pn-provider=fcm;pn-param=proj-1;pn-prid=" + fcmEscaped + ">;expires=3600"}},
		{"apns-two-tokens", Register{Contact: "<sip:bob@192.0.2.7;pn-provider=apns.dev;pn-prid=" + hex1 + ":remote&" + hex2 +
			":voip;pn-param=ABCD1234.org.linphone.phone.remote&voip;pn-msg-str=IM_MSG;pn-call-str=IC_MSG>;+sip.instance=\"<" + instance + ">\""}},
		{"linphone-old", Register{Contact: "<sip:alice@192.0.2.1:5060;app-id=929724111839;pn-type=google;pn-tok=" + fcmToken + ">"}},
		{"sylk", Register{Contact: "<sip:alice@192.0.2.1:5060;pn-type=ios;pn-app=com.x.app;pn-tok=" + hex1 + "-" + hex2 + ";pn-device=accc8375>"}},
		{"portsip", Register{Contact: "<sip:alice@192.0.2.1:5060>", Headers: map[string]string{
			"X-Push": "device-os=ios;device-uid=" + hex1 + "|" + hex2 + ";allow-call-push=true;allow-message-push=true;app-id=com.x.app"}}},
		{"mpush-webpush-keys", Register{Contact: "<sip:alice@192.0.2.1:5060>", Headers: map[string]string{
			"X-MPUSH": "w:com.x.app:" + endpoint + "|" + p256dh + "|" + auth}}},
		{"mpush", Register{Contact: "<sip:alice@192.0.2.1:5060>;expires=3600", Headers: map[string]string{"X-MPUSH": "i:com.x.softphone:" + hex1}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.r.Contact)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(c.r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
