package phone_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/sipwake/sipwake/internal/lab/labca"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

// A phone over TLS says so; a browser has another name nobody can resolve on each
// connection.
func TestTransports(t *testing.T) {
	ca, err := labca.New("phones")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	for transport, wants := range map[string]struct {
		tls, ws bool
		via     string
		contact string
	}{
		phone.TLS: {tls: true, via: `SIP/2\.0/TLS 127\.0\.0\.1:\d+;`, contact: `<sip:bob@127\.0\.0\.1:\d+;transport=tls>`},
		phone.WS:  {ws: true, via: `SIP/2\.0/WS \w+\.invalid;`, contact: `<sip:bob@\w+\.invalid;transport=ws>`},
		phone.WSS: {tls: true, ws: true, via: `SIP/2\.0/WSS \w+\.invalid;`, contact: `<sip:bob@\w+\.invalid;transport=ws>`},
	} {
		t.Run(transport, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if wants.tls {
				l = tls.NewListener(l, secure)
			}
			heard := make(chan string, 2)
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					answerOne(conn, wants.ws, heard)
				}
			}()
			p, err := phone.New(phone.Config{User: "bob", Domain: "example.com", Proxy: l.Addr().String(),
				Transport: transport, RootCAs: ca.Pool()})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			var contacts []string
			for range 2 {
				if m, err := p.Wake(t.Context()); err != nil || m.Code() != 200 {
					t.Fatalf("REGISTER: %v, %v", m, err)
				}
				p.Sleep()
				got := <-heard
				for _, want := range []string{"Via: " + wants.via, "Contact: " + wants.contact} {
					if !regexp.MustCompile(want).MatchString(got) {
						t.Errorf("no %s in\n%s", want, got)
					}
				}
				contacts = append(contacts, regexp.MustCompile("Contact: .*").FindString(got))
			}
			if contacts[0] == contacts[1] {
				t.Errorf("the same %s on another connection", contacts[0])
			}
		})
	}
}

// answerOne answers the first message on a connection with 200.
func answerOne(conn net.Conn, framed bool, heard chan<- string) {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var text string
	if framed {
		upgrader := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == "sip" }}
		if _, err := upgrader.Upgrade(conn); err != nil {
			return
		}
		b, err := wsutil.ReadClientText(conn)
		if err != nil {
			return
		}
		text = string(b)
	} else {
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		text = string(b[:n])
	}
	heard <- text
	var kept []string
	for _, line := range strings.Split(text, "\r\n") {
		if name, _, _ := strings.Cut(line, ":"); slices.Contains([]string{"Via", "From", "To", "Call-ID", "CSeq"}, name) {
			kept = append(kept, line)
		}
	}
	answer := fmt.Appendf(nil, "SIP/2.0 200 OK\r\n%s\r\nContent-Length: 0\r\n\r\n", strings.Join(kept, "\r\n"))
	if framed {
		_ = wsutil.WriteServerText(conn, answer)
		return
	}
	_, _ = conn.Write(answer)
}
