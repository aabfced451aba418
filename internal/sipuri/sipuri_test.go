package sipuri

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// Each line is one user, however it is written; no two lines are the same.
func TestAOR(t *testing.T) {
	seen := map[string]string{}
	f := func(want string, uris ...string) {
		t.Helper()
		for _, uri := range append(uris, want) {
			got, err := AOR(uri)
			if err != nil || got != want {
				t.Errorf("%q is %q, %v, want %q", uri, got, err, want)
			}
		}
		if seen[want] != "" {
			t.Errorf("%q is there twice", want)
		}
		seen[want] = want
	}
	f("bob@example.com", "sip:bob@example.com", "SIPS:Bob@EXAMPLE.com", "sip:%62o%42@example.com", "sip:bob:secret@example.com",
		"sip:bob@example.com:5060", "sip:bob@example.com;transport=tls;lr", "sip:bob@example.com?Subject=x@y", "bob@example.com.",
		"sip:bob:p;w@example.com:5061;user=ip;x=%40?a=b&c=d", "sip:bob@ex%61mple.com")
	// RFC 3261 section 19.1.4: what is not reserved equals its escape.
	f("1234#x@example.com", "sip:1234%23x@example.com", "sip:1234#X@example.com")
	f("*97x@example.com", "sip:%2a97x@example.com", "sip:%2A97x@example.com")
	f("a-_.!~*'()^`{}|[]b@h", "sip:%61%2d%5F%2E%21%7e%2A%27%28%29%5E%60%7b%7d%7C%5b%5D%62@h")
	f("100%25@h", "100%@h", "sip:100%25@h")
	f("a%25zz@h", "a%zz@h")
	f("jürgen@h", "j%C3%BCrgen@h", "j%c3%bcrgen@h", "J%c3\xbcrgen@h")
	f("j%fcrgen@h", "j%FCrgen@h", "j\xfcrgen@h")
	f("a%e2%80%aeb@h", "a\u202eb@h", "a%E2%80%AEb@h")
	f("a%20b@h", "A%20B@h")
	f("a%00%0d%0ab@h", "a%00%0D%0Ab@h")
	f("a%3cb%3e%22@h", "a%3Cb%3E%22@h")
	// Reserved characters are not their escapes, but for "+".
	f("+4930121481@h", "sip:+4930121481@h;user=phone", "sip:%2B4930121481@h", "%2b4930121481@h")
	for _, c := range reserved {
		if c != ':' && c != '@' { // these end the user
			f("a"+string(c)+"b@h", "SIP:a"+string(c)+"b@H")
		}
		f("a%"+string([]byte{hexDigits[c>>4], hexDigits[c&15]})+"b@h", "A"+strings.ToUpper("%"+string([]byte{hexDigits[c>>4], hexDigits[c&15]}))+"B@h")
	}
	// Hosts.
	f("example.com", "sip:example.com", "sip:EXAMPLE.com:5060;lr", "sip:@example.com")
	f("bob@192.0.2.1", "sip:bob@192.0.2.1:5062", "bob@192.0.2.1")
	f("bob@[2001:db8::1]", "sip:bob@[2001:DB8:0:0::1]:5060", "sip:bob@[2001:db8::1]", "bob@2001:db8::1")
	f("[2001:db8::1]", "sip:[2001:db8::0:1]:5060")
	// RFC 3966.
	f("+4930121482", "tel:+4930121482", "TEL:+49-30-121482", "tel:+49.(30)121482", "tel:+4930121482;cpc=ordinary", "tel:%2B4930121482")
	f("+4930121482@example.com", "tel:+49-30-121482;phone-context=Example.com")
	f("7042@example.com", "tel:7042;phone-context=example.com", "tel:70-42;isub=1;Phone-Context=EXAMPLE.com;x=y")
	f("8631234@+1914555", "tel:863-1234;phone-context=+1-914-555")
	f("*97#", "tel:*97%23", "tel:*97#")
	f("0a1d", "tel:0A1D")

	bad := func(uri, want string) {
		t.Helper()
		if got, err := AOR(uri); err == nil || err.Error() != want {
			t.Errorf("%q is %q, %v, want %q", uri, got, err, want)
		}
	}
	for _, s := range []string{"", "sip:", "SIPS:", "tel:", "tel:-.()", "tel:;x=y", "sip:;lr"} {
		bad(s, "is missing")
	}
	for _, s := range []string{"bob@", "sip:bob@:5060", "sip:bob@;lr", "bob@.", "@"} {
		bad(s, "has no domain")
	}
	for _, s := range []string{"bob smith@h", "<sip:bob@h>", `"bob"@h`, "bob@h\r\n", "b\x00@h", "b\x7f@h"} {
		bad(s, "has a character that an address-of-record cannot have")
	}
}

func TestCaller(t *testing.T) {
	f := func(want string, uris ...string) {
		t.Helper()
		for _, uri := range uris {
			if got := Caller(uri); got != want {
				t.Errorf("%q is %q, want %q", uri, got, want)
			}
		}
	}
	f("mallory@example.com", "sip:mallory@example.com", "sips:Mallory@Example.com:5061", "mallory@example.com", "sip:mallory:p1@example.com",
		"sip:mallory:p1@example.com:5062;user=phone", "sip:mallory@example.com?Subject=1", "sip:%6d%61llory@example.com", "sip:mallory@ex%41mple.com",
		"sip:mallory;x=1@example.com", "sip:mallory@example.com;x=a@b", "sip:mallory@example.com?x=a@b", "sip:mallory@example.com.:5060", "sip:mallory:%40@example.com")
	f("+49170123@h", "sip:+49170123@h", "sip:%2B49170123;cpc=ordinary@h;user=phone", "sip:+49170123:x@h")
	f("+420123456", "tel:+420123456", "tel:+420-123-456;phone-context=1", "tel:+420123456;cpc=ordinary", "TEL:+420(123)456")
	f("7042@example.com", "tel:7042;phone-context=example.com")
	f("192.0.2.1", "sip:192.0.2.1", "sip:192.0.2.1:5060;lr", "sip:@192.0.2.1", "sip::p@192.0.2.1")
	f("[2001:db8::1]", "sip:[2001:db8::1]:5060", "sip:[2001:DB8:0::1]")
	f("", "", "sip:", "sip:;x", "tel:", "sip:anonymous@anonymous.invalid", "sip:x@anonymous.invalid:5060;y", "sip:x@Anonymous.Invalid.",
		"sip:Anonymous@gateway.example.com", "sip:%61nonymous@h", "sip:anonymous:x@h", "sip:anonymous;cpc=ordinary@h", "sip:unknown@h", "sip:unavailable@h",
		"sip:restricted@h", "tel:anonymous")
}

func TestDial(t *testing.T) {
	f := func(want string, uris ...string) {
		t.Helper()
		for _, uri := range uris {
			if got := Dial(uri); got != want {
				t.Errorf("%q is %q, want %q", uri, got, want)
			}
		}
	}
	f("+49170123", "sip:%2B49170123@h", "sip:+49170123;cpc=ordinary@h;user=phone", "tel:+49170123;cpc=ordinary", "tel:+49-170.(123)", "sip:+49-170-123@h",
		"sip:%2b49170123;phone-context=x;cpc=payphone@h", "sip:+49170123:secret@h", "+49170123@h")
	f("030123", "sip:030-123@h;user=phone", "tel:030-123;phone-context=+49")
	f("030-123", "sip:030-123@h")
	f("1234#", "sip:1234%23@h", "sip:1234#@h", "tel:1234%23")
	f("*97", "sip:%2A97@h")
	f("juergen", "sip:%6Auergen@h")
	f("jürgen", "sip:j%C3%BCrgen@h")
	f("Alice.B-C", "sip:Alice.B-C@example.com;user=phone", "sips:Alice.B-C@example.com")
	f("anonymous", "sip:anonymous@anonymous.invalid")
	f("192.0.2.1", "sip:192.0.2.1:5060", "sip:192.0.2.1;x")
	f("example.com", "sip:example.com")
	f(`a%0d%0a"b`, "sip:a%0D%0A%22b@h")
	f("a%e2%80%aeb%ff", "sip:a%E2%80%AEb%FF@h")
	f("", "", "sip:", "tel:")
}

func seeds(f *testing.F) {
	for _, s := range []string{"", "sip:bob@example.com", "SIPS:%62ob:pw@[2001:db8::1]:5061;user=phone?x=y", "tel:+49-30;phone-context=+1-2",
		"sip:a;b?c@h;d@e", ";;;@@:", "%", "%%41", "a%25%34%31@h..", "[::1", "1.2.3.4.", "j\xfc%c3%bc@h", "::ffff:1.2.3.4", "fe80::1%25e"} {
		f.Add(s)
	}
}

func FuzzAOR(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		aor, err := AOR(s)
		if err != nil {
			return
		}
		if again, err := AOR(aor); err != nil || again != aor {
			t.Fatalf("%q is %q, and that is %q, %v", s, aor, again, err)
		}
		if aor == "" || !utf8.ValidString(aor) || strings.IndexFunc(aor, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '<' || r == '"' }) >= 0 {
			t.Fatalf("%q is %q", s, aor)
		}
		if equal := rewritten(aor); equal != "" {
			if got, err := AOR(equal); err != nil || got != aor {
				t.Fatalf("%q is %q, but %q is %q, %v", s, aor, equal, got, err)
			}
		}
	})
}

// rewritten writes a canonical user@domain as another URI that is equal to it.
func rewritten(aor string) string {
	user, host, ok := strings.Cut(aor, "@")
	if !ok || host == "" {
		return ""
	}
	b := []byte("sip:")
	for i := range len(user) {
		c := user[i]
		switch {
		case c != '%' && strings.IndexByte(reserved, c) < 0 && rand.IntN(2) == 0:
			b = appendEscape(b, c)
		case c == '%' || 'a' <= c && c <= 'z' && (i < 2 || user[i-1] != '%' && user[i-2] != '%'):
			b = append(b, strings.ToUpper(string(c))...)
		default:
			b = append(b, c)
		}
	}
	// An escape that was taken apart is another text.
	if strings.Contains(user, "%") {
		b = append(b[:4], strings.ToUpper(user)...)
		if !isASCII(user) {
			return ""
		}
	}
	return string(b) + ":pw@" + host + ":5060;lr?Subject=x"
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

func FuzzCaller(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		caller := Caller(s)
		if !utf8.ValidString(caller) {
			t.Fatalf("%q is %q", s, caller)
		}
		// Nobody becomes another caller by what stands around user and host.
		user, host, ok := strings.Cut(caller, "@")
		if !ok || user == "" || strings.ContainsAny(user, ";") || strings.HasPrefix(host, "+") {
			return
		}
		for _, same := range []string{"sip:" + caller, "sips:" + user + ":pw@" + host + ":5062;x=y?a=b", "SIP:" + user + ";cpc=x@" + host} {
			if got := Caller(same); got != caller {
				t.Fatalf("%q is %q, but %q is %q", s, caller, same, got)
			}
		}
		if d := Dial(s); !utf8.ValidString(d) {
			t.Fatalf("%q is dialed as %q", s, d)
		}
	})
}
