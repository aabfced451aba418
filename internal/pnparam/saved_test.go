package pnparam

import (
	"strings"
	"testing"
)

// bobsPhone is the ID of the phone with the instance of the tests.
const (
	bob       = "bob@example.com"
	bobsPhone = "c0810aeccba2"
)

func TestSaved(t *testing.T) {
	const inst = `;+sip.instance="<` + instance + `>"`
	f := func(name string, r Register, want string) {
		t.Helper()
		p, _ := Parse(r)
		got := Saved(r, p, bob)
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	c := func(name, contact, want string) { t.Helper(); f(name, Register{Contact: contact}, want) }
	bound := func(name, contact, want string) {
		t.Helper()
		c(name, contact, strings.ReplaceAll(want, "SWID", "swid="+bobsPhone))
	}

	const pn = ";pn-provider=fcm;pn-param=app;pn-prid=TOKEN"
	const uri = "<sip:bob@10.0.0.7:5070;transport=tcp"
	const saved = uri + ";SWID>" + inst
	bound("in the URI", uri+pn+">"+inst, saved)
	bound("between others", "<sip:bob@10.0.0.7:5070;pn-provider=fcm;ob;pn-prid=TOKEN;transport=tcp;pn-param=app>"+inst,
		"<sip:bob@10.0.0.7:5070;ob;transport=tcp;SWID>"+inst)
	bound("behind the URI", uri+">"+pn+inst+";expires=60", saved+";expires=60")
	bound("behind the URI, quoted", uri+`>;pn-provider="fcm";pn-param="app";pn-prid="TOKEN"`+inst, saved)
	bound("quoted with what would end it", uri+`>;pn-provider=fcm;pn-param=app;x="a;pn-prid=b,>";pn-prid="TOKEN"`+inst, uri+`;SWID>;x="a;pn-prid=b,>"`+inst)
	bound("white space", uri+"> ; pn-provider = fcm\t; pn-param= app; pn-prid =TOKEN"+inst, saved)
	bound("folded", uri+">\r\n ;pn-provider=fcm;\r\n\tpn-param\r\n =\r\n app;pn-prid=TOKEN\r\n "+inst, saved)
	bound("upper case", uri+";PN-Provider=fcm;Pn-Param=app;PN-PRID=TOKEN>"+inst, saved)
	bound("escaped names", uri+";%70n-provider=fcm;pn%2dparam=app;pn-pri%64=TOKEN>"+inst, saved)
	bound("escaped names behind the URI", uri+">;%70n-provider=fcm;pn%2Dparam=app;pn-pri%64=TOKEN"+inst, saved)
	bound("some in the URI, some behind it", uri+";pn-provider=fcm;pn-param=app>;pn-prid=TOKEN"+inst, saved)
	bound("addr-spec", "sip:bob@10.0.0.7;pn-provider=fcm;expires=60;pn-param=app;pn-prid=TOKEN"+inst,
		"<sip:bob@10.0.0.7;SWID>;expires=60"+inst)
	bound("headers of the URI", uri+pn+"?Subject=x&Priority=urgent>"+inst, saved)
	bound("push data in headers of the URI", uri+pn+"?pn-prid=TOKEN>"+inst, saved)
	bound("push data in headers of the URI, escaped", uri+pn+"?X-MP%55SH=a:b:TOKEN>"+inst, saved)
	bound("push data in headers of the URI, twice escaped", uri+pn+"?Contact=%3Csip:a@h%3B%2570n-prid=TOKEN%3E>"+inst, saved)
	bound("display name", `"Bob, <b> \"x\"" `+uri+pn+">"+inst, `"Bob, <b> \"x\"" `+saved)
	bound("display name of tokens, folded", "Bob\r\n  B. "+uri+pn+">"+inst, "Bob  B. "+saved)
	bound("user with parameters", "<sip:bob;pn-prid=x@h"+pn+">"+inst, "<sip:bob;pn-prid=x@h;SWID>"+inst)
	bound("other parameters of the kind", uri+";pn-msg-str=IM;pn-silent=1;pn-whatever"+pn+">;pn-timeout=0"+inst, saved)
	bound("old Linphone", "<sip:bob@h;app-id=929;pn-type=google;pn-tok=TOKEN>"+inst, "<sip:bob@h;SWID>"+inst)
	bound("old Linphone behind the URI", "<sip:bob@h>;app-id=929;pn-type=google; pn-tok = TOKEN"+inst, "<sip:bob@h;SWID>"+inst)
	bound("push-token", "<sip:bob@h;push-token-type=a;push-token-app=x;push-token-id=TOKEN>"+inst, "<sip:bob@h;SWID>"+inst)
	bound("an ID that came back", uri+";swid=0123456789ab"+pn+">"+inst, saved)
	bound("an ID behind the URI", uri+pn+">;swid=0123456789ab"+inst, saved)
	bound("two contacts", "<sip:desk@h>;q=0.5 , "+uri+pn+">"+inst, "<sip:desk@h>;q=0.5, "+saved)
	bound("two contacts with push", uri+pn+">"+inst+",<sip:c@h"+pn+">", saved+", <sip:c@h>")
	bound("the same URI, one removed", uri+pn+">;expires=0"+inst+","+uri+pn+">"+inst, uri+">;expires=0"+inst+", "+saved)
	bound("un-REGISTER", uri+pn+">;expires=0"+inst, uri+";SWID>;expires=0"+inst)
	bound("unbind", uri+";pn-provider=fcm;pn-prid=null>"+inst, saved)
	bound("empty parameters", uri+";;"+pn+">;;"+inst+";", saved)
	f("X-MPUSH", Register{uri + ">" + inst, map[string]string{"X-MPUSH": "a:app:TOKEN"}}, strings.ReplaceAll(saved, "SWID", "swid="+bobsPhone))

	// Not bound: the data goes all the same.
	c("query", uri+";pn-provider>"+inst, uri+">"+inst)
	c("no device", uri+";pn-prid=null>", uri+">")
	c("an error", uri+";pn-provider=apns;pn-param=com.x;pn-prid=TOKEN>"+inst, uri+">"+inst)
	f("an error in X-MPUSH", Register{uri + pn + ">" + inst, map[string]string{"X-MPUSH": "x"}}, uri+">"+inst)
	c("a bad instance", uri+pn+`>;+sip.instance="a b"`, uri+`>;+sip.instance="a b"`)
	c("a quote in the URI", uri+`;pn-prid="TOKEN">`, uri+">")
	c("push data in the headers alone", uri+"?pn-prid=TOKEN>", uri+">")
	c("push data in the headers alone, escaped", uri+"?x=%zz&X-MP%55SH=a:b:TOKEN>", uri+">")
	c("no push, a made-up ID", uri+";swid=0123456789ab>", uri+">")

	// Nothing must change, or nothing can.
	for _, s := range []string{"", "*", " * ", uri + ">" + inst, "sip:bob@h;expires=60", "<sip:a@h>,<sip:b@h>", "<sip:a@h?Subject=x>",
		uri + ";app-id=7>", "<sip:a@h>\r\n ;x=y", `<sip:a@h>;x="`, "<sip:a@h" + pn, `"Bob ` + uri + pn + ">"} {
		c("unchanged", s, "")
	}
	served := Register{uri + pn + ">" + inst, map[string]string{"Feature-Caps": `*;+sip.pns="fcm"`}}
	f("served downstream", served, "")
	served.Headers["X-MPUSH"] = "a:app:TOKEN"
	f("served downstream, and by a header", served, uri+pn+";swid="+bobsPhone+">"+inst)
}

// A phone keeps its ID when its token changes, and has another one for each user.
func TestSavedID(t *testing.T) {
	id := func(aor, token, behind string) string {
		t.Helper()
		r := Register{Contact: "<sip:bob@h;pn-provider=fcm;pn-param=app;pn-prid=" + token + ">" + behind}
		p, err := Parse(r)
		if err != nil {
			t.Fatal(err)
		}
		_, id, ok := strings.Cut(Saved(r, p, aor), ";swid=")
		id, _, _ = strings.Cut(id, ">")
		if !ok || len(id) != 12 || !isHex(id) {
			t.Fatalf("the ID is %q", id)
		}
		return id
	}
	const inst = `;+sip.instance="<` + instance + `>"`
	if id(bob, "a", inst) != id(bob, "b", inst) {
		t.Error("another token, another ID")
	}
	if id(bob, "a", inst) == id("carol@example.com", "a", inst) {
		t.Error("another user, the same ID")
	}
	if id(bob, "a", inst) == id(bob, "a", `;+sip.instance="<urn:uuid:1>"`) {
		t.Error("another phone, the same ID")
	}
	if again := id(bob, "a", ""); id(bob, "a", "") != again || again == id(bob, "b", "") {
		t.Error("without an instance, the token makes the ID")
	}
	// But of a token no more than 16 bits: among so many some have the same.
	seen := map[string]bool{}
	for i := range 2000 {
		seen[id(bob, strings.Repeat("x", i+1), "")] = true
	}
	if len(seen) == 2000 {
		t.Error("the ID is as good as the token's hash")
	}
}
