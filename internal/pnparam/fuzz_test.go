package pnparam

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "*", "<sip:alice@192.0.2.1:5060>;expires=60",
		`"A \"B\", C" <sip:alice@[2001:db8::1];transport=tls>;+sip.instance="<` + instance + `>";+sip.pnsreg`,
		"<sip:bob@h;pn-provider=webpush;pn-prid=https%3A%2F%2Fpush.example%2Fx>,<sip:c@h;pn-prid=null>;expires=0",
		"<sip:bob@h;pn-provider>", `<sip:a@h>;x="`, "sip:a@h;expires=", "<sip:a@h;pn-provider=fcm;pn-param=a;pn-prid=%zz>",
	} {
		f.Add(s)
	}
	for _, e := range examples() {
		if r := e.register(); len(r.Headers) == 0 {
			f.Add(r.Contact)
		}
	}
	f.Fuzz(func(t *testing.T, contact string) {
		checkProperties(t, Register{Contact: contact})
	})
}

func FuzzMPUSH(f *testing.F) {
	fuzzHeader(f, "X-MPUSH", "s:i:com.x.softphone.voip:"+hex1, "p:w:x:http://h/", "a:b", ":::", "i:ABCDE12345.:")
}

func FuzzXPush(f *testing.F) {
	fuzzHeader(f, "X-Push", `device-os="a\"b";device-uid="\"x\"";app-id=a\b`, ";=;", "device-uid")
}

func FuzzXPPush(f *testing.F) {
	fuzzHeader(f, "X-P-Push", "device-os=android;device-uid=a%zz;app-id=;allow-call-push=x", "device-os=ios;device-os=ios")
}

func FuzzPortsipPush(f *testing.F) {
	fuzzHeader(f, "Portsip-Push", "device-os=windows;device-uid=x;allow-message-push=false;allow-call-push=false")
}

func FuzzFeatureCaps(f *testing.F) {
	fuzzHeader(f, "Feature-Caps", `*;+sip.pns="apns";+sip.pnsreg="121"`, "+sip.pns", `*;+sip.pns="`)
}

// fuzzHeader fuzzes a header made for push, beginning with what clients send.
func fuzzHeader(f *testing.F, name string, seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	for _, e := range examples() {
		for n, v := range e.register().Headers {
			if strings.EqualFold(n, name) {
				f.Add(v)
			}
		}
	}
	f.Fuzz(func(t *testing.T, value string) {
		checkProperties(t, Register{"<sip:bob@192.0.2.7>", map[string]string{name: value}})
	})
}

// checkProperties checks what holds for every input: nothing is made up, a Bind
// is complete and within the limits, what is stored can be written down and read
// back, and an error shows nothing of the input.
func checkProperties(t *testing.T, r Register) {
	t.Helper()
	input := r.Contact
	for _, v := range r.Headers {
		input += "\n" + v
	}
	p, err := Parse(r)
	checkSaved(t, r, p)
	if err != nil {
		checkError(t, err, input)
		if !isPlain(p) {
			t.Fatalf("push data beside the error: %+v", p)
		}
		return
	}
	checkInside(t, p, input)
	if p.Expires < -1 || len(p.Address.App) > maxApp || len(p.Address.Tokens) > 2 || len(p.Device) > maxInstance ||
		len(p.Address.Provider) > maxProvider {
		t.Fatalf("beyond a limit: %+v", p)
	}
	if p.Intent == Bind {
		if p.Address.Provider == "" || len(p.Address.Tokens) == 0 || p.Device == "" || p.Contact == "" || p.Dialect == "" ||
			p.Address.Denied == (Denied{true, true}) {
			t.Fatalf("incomplete bind: %+v", p)
		}
		again, err := Parse(written(p.Address))
		if err != nil || again.Intent != Bind || !again.Address.Equal(p.Address) {
			t.Fatalf("%+v, written down, gives %+v, %v", p.Address, again.Address, err)
		}
	} else if len(p.Address.Tokens) != 0 || p.Address.Keys != nil {
		t.Fatalf("tokens without bind: %+v", p)
	}
	if same := p.Address; !p.Address.Equal(same) {
		t.Fatalf("address is not equal to itself: %+v", p.Address)
	}
	// What Contact says must be read the same when it is the only one.
	if p.Contact != "" && p.Dialect != "" && !behindURI(r.Contact) {
		again, err := Parse(Register{Contact: "<" + p.Contact + ">", Headers: r.Headers})
		if err != nil || again.Intent != p.Intent || !again.Address.Equal(p.Address) {
			t.Fatalf("read alone, the contact gives %+v, %v", again, err)
		}
	}
}

// checkSaved checks that what is saved is one line of the same contacts, in which
// nothing of the push data is left.
func checkSaved(t *testing.T, r Register, p Parsed) {
	t.Helper()
	saved := Saved(r, p, "bob@h")
	h := readHeaders(r.Headers)
	if saved == "" || h.servedDownstream() {
		return
	}
	if i := strings.IndexFunc(saved, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		t.Fatalf("a control character in %q", saved)
	}
	before, after := contacts(r.Contact), contacts(saved)
	if len(before) != len(after) {
		t.Fatalf("%q has %d contacts, %q has %d", r.Contact, len(before), saved, len(after))
	}
	ids := 0
	for i, c := range after {
		legal := strings.IndexFunc(r.Contact, isControl) < 0
		if legal && (before[i].instance != c.instance || before[i].expires != c.expires) {
			t.Fatalf("contact %d of %q differs in %q", i, r.Contact, saved)
		}
		if c.push.seen&^(1<<appID) != 0 {
			t.Fatalf("%q has push data", saved)
		}
		ids += strings.Count(c.params, swid+"=")
	}
	for _, token := range p.Address.Tokens {
		// Not one that is short enough to be anywhere, or stands elsewhere too.
		if v := token.Value.Reveal(); len(v) > 16 && strings.Contains(saved, v) && strings.Count(r.Contact, v) < 2 {
			t.Fatalf("the token is in %q", saved)
		}
	}
	if (p.Intent == Bind) != (ids == 1) && p.Intent != Unbind {
		t.Fatalf("%d phones have an ID in %q", ids, saved)
	}
}

func contacts(s string) (list []contact) {
	for more := true; more; {
		var c contact
		if s, more, _ = c.read(s); len(list) > 100 {
			return list
		}
		list = append(list, c)
	}
	return list
}

func checkError(t *testing.T, err error, input string) {
	t.Helper()
	var e *Error
	fields := []string{"contact", "X-MPUSH", "X-Push", "X-P-Push", "Portsip-Push"}
	if !errors.As(err, &e) || !slices.Contains(fields, e.Field) || e.Problem == "" {
		t.Fatalf("error is %#v", err)
	}
	// Whatever is long enough to be a token must not be in the text, and what is
	// in the text comes from us: it is the same for a garbled input.
	text := strings.ReplaceAll(err.Error(), "allow-message-push", "")
	for _, word := range strings.FieldsFunc(input, func(r rune) bool { return strings.ContainsRune(";:=&<>, \t\r\n", r) }) {
		if len(word) >= 16 && strings.Contains(text, word) {
			t.Fatalf("error %q quotes the input", err)
		}
	}
}

// checkInside checks that every stored value is one that the client sent.
func checkInside(t *testing.T, p Parsed, input string) {
	t.Helper()
	// Decoding is per value, so a stray % elsewhere must not stop it here.
	decoded := decodeAll(input)
	bare := strings.ReplaceAll(decoded, `\`, "")
	inside := func(what, s string) {
		t.Helper()
		if !strings.Contains(strings.ReplaceAll(input, `\`, ""), strings.ReplaceAll(s, `\`, "")) && !strings.Contains(decoded, s) &&
			!strings.Contains(bare, decodeAll(strings.ReplaceAll(s, `\`, ""))) {
			t.Fatalf("%s %q is not in the input", what, s)
		}
	}
	inside("contact", p.Contact)
	inside("app", p.Address.App)
	inside("team", p.Address.Team)
	if p.Device != "" && (len(p.Device) != 20 || !isHex(p.Device)) {
		inside("device", p.Device)
	}
	if a := p.Address.Provider; a != APNs && a != FCM && a != WebPush && a != HMS {
		inside("provider", string(a))
	}
	for _, tok := range p.Address.Tokens {
		inside("token", tok.Value.Reveal())
		if n := len(tok.Value.Reveal()); n == 0 || n > maxToken {
			t.Fatalf("a token of %d bytes", n)
		}
	}
	if k := p.Address.Keys; k != nil {
		alphabet := strings.NewReplacer("+", "-", "/", "_")
		decoded = alphabet.Replace(decoded)
		inside("key", k.P256dh.Reveal())
		inside("key", k.Auth.Reveal())
	}
}

// written writes an address down as a client that has it would send it.
func written(a Address) Register {
	const contact = "sip:bob@192.0.2.7"
	switch {
	case a.Keys != nil:
		env := map[Environment]string{Sandbox: "s:", Production: "p:"}[a.Environment]
		return Register{contact, map[string]string{"X-MPUSH": env + "w:" + a.App + ":" + a.Token("").Reveal() + "|" +
			a.Keys.P256dh.Reveal() + "|" + a.Keys.Auth.Reveal()}}
	case a.Denied != Denied{}:
		return Register{contact, map[string]string{"X-Push": writtenXPush(a)}}
	}
	app, prid := a.App, a.Token("").Reveal()
	if a.Provider == APNs {
		var services, tokens []string
		for _, t := range a.Tokens {
			services = append(services, string(t.Service))
			tokens = append(tokens, t.Value.Reveal()+":"+string(t.Service))
		}
		app, prid = withTeam(a)+"."+strings.Join(services, "&"), strings.Join(tokens, "&")
	}
	production := map[Environment]string{Sandbox: ";pn-production=false", Production: ";pn-production=true"}[a.Environment]
	return Register{Contact: "<" + contact + ";pn-provider=" + url.PathEscape(string(a.Provider)) + production +
		";pn-param=" + url.PathEscape(app) + ";pn-prid=" + url.PathEscape(prid) + ">"}
}

func writtenXPush(a Address) string {
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	system, app, uid := string(a.Provider), a.App, a.Token("").Reveal()
	if a.Provider == APNs {
		app, uid = withTeam(a)+".voip", a.Token(VoIP).Reveal()+"|"+a.Token(Remote).Reveal()
		if a.Environment == Sandbox {
			system += ".dev"
		}
	}
	s := "device-os=" + quote(system) + ";device-uid=" + quote(uid) + ";app-id=" + quote(app)
	if a.Denied.Calls {
		s += ";allow-call-push=false"
	}
	if a.Denied.Messages {
		s += ";allow-message-push=false"
	}
	return s
}

func withTeam(a Address) string {
	if a.Team == "" {
		return a.App
	}
	return a.Team + "." + a.App
}

// behindURI reports whether a contact has push parameters behind its URI, which
// are not in Parsed.Contact.
func behindURI(s string) bool {
	for more := true; more; {
		var c contact
		var problem string
		if s, more, problem = c.read(trimLWS(s)); problem != "" {
			return false
		}
		if c.push.behind != 0 {
			return true
		}
	}
	return false
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

// FuzzPlainURI: what is taken without asking sipgo is what sipgo takes.
func FuzzPlainURI(f *testing.F) {
	f.Add("sip:alice@example.com:5060")
	f.Add("sip:+49@192.0.2.1")
	f.Add("sip:a@b:65536")
	f.Add("sip:a@b:")
	f.Fuzz(func(t *testing.T, s string) {
		if !plainURI(s) {
			return
		}
		var u sip.Uri
		if err := sip.ParseUri(s, &u); err != nil || u.Scheme != "sip" || u.HierarhicalSlashes || !validHost(u.Host) || u.Port < 0 || u.Port > 65535 {
			t.Errorf("%q is taken, and sipgo says %v %+v", s, err, u)
		}
	})
}
