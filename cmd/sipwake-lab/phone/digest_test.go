package phone_test

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icholy/digest"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
)

// challenger is a server over UDP that asks for the password "secret", and counts ACKs.
type challenger struct {
	net.PacketConn
	acks atomic.Int64
}

func newChallenger(t *testing.T) *challenger {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, done := &challenger{PacketConn: conn}, make(chan struct{})
	go func() {
		defer close(done)
		c.serve()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return c
}

var copied = regexp.MustCompile(`(?m)^(?:Via|From|To|Call-ID|CSeq): .*\r\n`)

func (c *challenger) serve() {
	b := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		text := string(b[:n])
		method, _, _ := strings.Cut(text, " ")
		if method == "ACK" {
			c.acks.Add(1)
			continue
		}
		code, ask, show := 401, "WWW-Authenticate", "Authorization"
		if method == "INVITE" {
			code, ask, show = 407, "Proxy-Authenticate", "Proxy-Authorization"
		}
		const challenge = `Digest realm="r", nonce="n", qop="auth"`
		_, value, shown := strings.Cut(text, "\r\n"+show+": ")
		value, _, _ = strings.Cut(value, "\r\n")
		if got, err := digest.ParseCredentials(value); shown && err == nil && right(got, challenge, method) {
			code = 200
		}
		head := strings.Join(copied.FindAllString(text, -1), "")
		_, _ = c.WriteTo(fmt.Appendf(nil, "SIP/2.0 %d X\r\n%s%s: %s\r\nContent-Length: 0\r\n\r\n", code, head, ask, challenge), from)
	}
}

func right(got *digest.Credentials, challenge, method string) bool {
	asked, err := digest.ParseChallenge(challenge)
	if err != nil {
		return false
	}
	want, err := digest.Digest(asked, digest.Options{Method: method, URI: got.URI, Username: "bob", Password: "secret", Count: got.Nc, Cnonce: got.Cnonce})
	return err == nil && want.Response == got.Response
}

// TestAnswersChallenges: a request that is challenged is sent again with the password,
// once.
func TestAnswersChallenges(t *testing.T) {
	f := func(password string, register, invite, acks int) {
		t.Helper()
		ctx, c := bound(t), newChallenger(t)
		p := must(phone.New(phone.Config{User: "bob", Domain: "example.com", Proxy: c.LocalAddr().String(), Password: password}))(t)
		defer p.Close()
		if m := must(p.Register(ctx, time.Minute))(t); m.Code() != register {
			t.Errorf("REGISTER with %q got %d, want %d", password, m.Code(), register)
		}
		call := must(p.Invite(ctx, "alice", phone.InviteOptions{}))(t)
		final(t, call, invite)
		if n := c.acks.Load(); n > int64(acks) {
			t.Errorf("%d ACKs with %q, want %d", n, password, acks)
		}
	}
	f("secret", 200, 200, 2)
	f("wrong", 401, 407, 2)
	f("", 401, 407, 1)
}
