package upper

import (
	"errors"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/secret"
)

// TestSealed: only the key opens it, and only for its user.
func TestSealed(t *testing.T) {
	key := func(text string) Key {
		k, err := NewKey(secret.NewText(text))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	one, other := key(strings.Repeat("1", 32)), key(strings.Repeat("2", 32))
	const ha1 = "939e7578ed9e3c518a452acee763bce9"
	sealed := one.seal("bob@example.com", secret.NewText(ha1))
	if strings.Contains(string(sealed), ha1) {
		t.Error("it can be read")
	}
	if text, err := one.open("bob@example.com", sealed); err != nil || text.Reveal() != ha1 {
		t.Errorf("%v", err)
	}
	if _, err := one.open("alice@example.com", sealed); err == nil {
		t.Error("it is good for another user")
	}
	for _, bad := range [][]byte{nil, sealed[:5], sealed[:len(sealed)-1]} {
		if _, err := one.open("bob@example.com", bad); err == nil {
			t.Errorf("%d bytes were opened", len(bad))
		}
	}
	if _, err := other.open("bob@example.com", sealed); err == nil {
		t.Error("another key opened it")
	}
	if _, err := NewKey(secret.NewText("short")); err == nil {
		t.Error("a short key was taken")
	}
}

// TestAnswer: the example of RFC 2617 section 3.5, without qop, and what is refused.
func TestAnswer(t *testing.T) {
	ha1 := hash("Mufasa:testrealm@host.com:Circle Of Life")
	f := func(challenge string, want error, has ...string) {
		t.Helper()
		got, _, err := answer([]string{"X: y", "WWW-Authenticate: " + challenge}, "Mufasa", "testrealm@host.com", ha1, "sip:host.com")
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", challenge, err, want)
		}
		for _, text := range has {
			if !strings.Contains(got, text) {
				t.Errorf("%s: %q has no %q", challenge, got, text)
			}
		}
	}
	response := hash(ha1 + ":n1:" + hash("REGISTER:sip:host.com"))
	f(`Digest realm="testrealm@host.com", nonce="n1", opaque="o"`, nil, `username="Mufasa"`, `uri="sip:host.com"`, `opaque="o"`, response)
	f(`Digest realm="testrealm@host.com", nonce="n1", qop="auth,auth-int", algorithm=MD5`, nil, "qop=auth", "nc=00000001", "cnonce=")
	f(`Digest realm="testrealm@host.com", nonce="n1", algorithm=SHA-256`, errNoChallenge)
	f(`Digest realm="testrealm@host.com", nonce="n1", qop="auth-int"`, errNoChallenge)
	f(`Digest realm="elsewhere", nonce="n1"`, errRealm)
	f(`Basic realm="testrealm@host.com"`, errNoChallenge)
	f("", errNoChallenge)
	if _, stale, err := answer([]string{`WWW-Authenticate: Digest realm="testrealm@host.com", nonce="n2", stale=true`}, "Mufasa",
		"testrealm@host.com", ha1, "sip:host.com"); err != nil || !stale {
		t.Errorf("stale: %v %v", stale, err)
	}
}

func TestAttempt(t *testing.T) {
	a := newAttempt()
	a.ends, a.try = true, 2
	if b, ok := parseAttempt(a.String()); !ok || b != a {
		t.Errorf("%v is %v", a, b)
	}
	for _, bad := range []string{"", "r", "r0-1", "x1-1", "r4-1", "r1-99999999999"} {
		if _, ok := parseAttempt(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}
