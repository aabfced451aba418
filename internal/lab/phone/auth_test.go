package phone_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/icholy/digest"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// guard is a relay that wants the password "secret" for every request outside of
// dialogs. It returns the branches of INVITEs that it has challenged and not seen the
// ACK of.
func guard(t *testing.T, r *relay, challenges string) (open func() []string) {
	t.Helper()
	branches := make(map[string]bool)
	branch := func(text string) string {
		_, b, _ := strings.Cut(first(header(text, "Via")), ";branch=")
		b, _, _ = strings.Cut(b, ";")
		return b
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop = func(text string) bool {
		acked := strings.HasPrefix(text, "ACK ") && branches[branch(text)]
		if acked {
			delete(branches, branch(text))
		}
		return acked
	}
	r.challenge = func(text string) string {
		method, _, _ := strings.Cut(text, " ")
		if method == "ACK" || method == "CANCEL" || method == "BYE" || strings.HasPrefix(text, "SIP/2.0") {
			return ""
		}
		status, ask, answer := "407 Proxy Authentication Required", "Proxy-Authenticate", "Proxy-Authorization"
		if method == "REGISTER" {
			status, ask, answer = "401 Unauthorized", "WWW-Authenticate", "Authorization"
		}
		if got := header(text, answer); len(got) == 1 && good(t, method, challenges, got[0]) {
			return ""
		}
		if method == "INVITE" {
			branches[branch(text)] = true
		}
		var b strings.Builder
		for line := range strings.Lines(challenges) {
			fmt.Fprintf(&b, "%s: %s\r\n", ask, strings.TrimSpace(line))
		}
		return reply(text, status, b.String())
	}
	return func() []string {
		r.mu.Lock()
		defer r.mu.Unlock()
		var list []string
		for b := range branches {
			list = append(list, b)
		}
		return list
	}
}

func good(t *testing.T, method, challenges, value string) bool {
	got, err := digest.ParseCredentials(value)
	if err != nil {
		t.Errorf("%q: %v", value, err)
		return false
	}
	for line := range strings.Lines(challenges) {
		c, err := digest.ParseChallenge(strings.TrimSpace(line))
		if err != nil || !digest.CanDigest(c) {
			continue
		}
		want, err := digest.Digest(c, digest.Options{Method: method, URI: got.URI, Username: "alice", Password: "secret", Cnonce: got.Cnonce, Count: got.Nc})
		return err == nil && want.Response == got.Response && got.Username == "alice"
	}
	return false
}

func password(p string) func(*phone.Config) { return func(c *phone.Config) { c.Password = p } }

func TestPassword(t *testing.T) {
	for name, challenges := range map[string]string{
		"MD5":         `Digest realm="example.com", nonce="abc"`,
		"qop":         `Digest realm="example.com", nonce="abc", qop="auth", algorithm=MD5, opaque="x"`,
		"SHA-256":     `Digest realm="example.com", nonce="abc", qop="auth", algorithm=SHA-256`,
		"one unknown": "Digest realm=\"example.com\", nonce=\"abc\", algorithm=AKAv1-MD5\nDigest realm=\"example.com\", nonce=\"abc\"",
	} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
				r := newRelay(t)
				alice := newPhone(t, r, "alice", func(c *phone.Config) { set(c); password("secret")(c) })
				unacked := guard(t, r, challenges)
				register(t, alice)
				register(t, alice) // in the order of their CSeq
				var seen []string
				for _, text := range r.seenRegisters() {
					seen = append(seen, first(header(text, "CSeq")))
				}
				if want := []string{"2 REGISTER", "4 REGISTER"}; !slices.Equal(seen, want) {
					t.Errorf("%q, want %q", seen, want)
				}
				c := must(alice.Invite(bound(t), "alice", phone.InviteOptions{}))(t)
				final(t, c, 200)
				if m := must(c.Bye(bound(t)))(t); m.Code() != 200 {
					t.Errorf("BYE got %d", m.Code())
				}
				if m := must(alice.Message(bound(t), "alice", "hello"))(t); m.Code() != 200 {
					t.Errorf("MESSAGE got %d", m.Code())
				}
				if list := unacked(); len(list) > 0 {
					t.Errorf("no ACK to a challenge: %q", list)
				}
			})
		})
	}
}

// A phone without the right password hears it once it has tried.
func TestWrongPassword(t *testing.T) {
	const realm = `Digest realm="example.com", nonce="abc"`
	for name, f := range map[string]struct {
		password, challenge string
		tries               int
	}{
		"wrong": {"guess", realm, 2}, "none": {"", realm, 1}, "nothing known": {"secret", `Basic realm="x"`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			alice := newPhone(t, r, "alice", password(f.password))
			guard(t, r, f.challenge)
			if m := must(alice.Register(bound(t), time.Minute))(t); m.Code() != 401 || m.CSeq() != uint32(f.tries) {
				t.Errorf("REGISTER %d got %d, want 401 at try %d", m.CSeq(), m.Code(), f.tries)
			}
			final(t, must(alice.Invite(bound(t), "bob", phone.InviteOptions{}))(t), 407)
		})
	}
}
