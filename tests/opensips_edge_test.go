package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// An INVITE that another node relays to a phone here ends by itself as soon as one that
// is held here would: the node that holds the call may have died, and its CANCEL or the
// phone's answer may be lost.
func TestOpenSIPSEdgeEndsInvites(t *testing.T) {
	t.Parallel()
	kind := openSIPS()
	kind.found(t)
	node, err := openSIPSNode(t.Context(), proxyConfig{URL: "http://127.0.0.1:1/rpc"}, stack.OpenSIPSConfig{Address: "127.0.0.2",
		Settings: map[string]string{"sip_peer": "s:127.0.0.1", "sipwake_fr_s": "i:1", "sipwake_ring_s": "i:2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.(*stack.OpenSIPS).Stop)
	for name, c := range map[string]struct{ rings, cancel bool }{
		"a phone that rings":                         {rings: true},
		"a phone that is silent":                     {},
		"a phone that is gone when the CANCEL comes": {rings: true, cancel: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holder, phone := udp(t), udp(t)
			to := must2(net.ResolveUDPAddr("udp", node.SIPAddress()))(t)
			invite := fmt.Sprintf("INVITE sip:user@%[2]s SIP/2.0\r\nVia: SIP/2.0/UDP %[1]s;branch=z9hG4bK%[3]d\r\n"+
				"Route: <sip:%[4]s;lr;received=sip:%[2]s>\r\nMax-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a\r\n"+
				"To: <sip:user@example.com>\r\nCall-ID: %[3]d@holder\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@%[1]s>\r\nContent-Length: 0\r\n\r\n",
				holder.LocalAddr(), phone.LocalAddr(), time.Now().UnixNano(), node.SIPAddress())
			sendSIP(t, holder, invite, to)
			request, from := readSIP(t, phone)
			if !strings.HasPrefix(request, "INVITE ") {
				t.Fatalf("the phone got\n%s", request)
			}
			if c.rings {
				sendSIP(t, phone, ringing(request), from)
			}
			cancelled := !c.cancel
			for {
				answer, _ := readSIP(t, holder) // tm's own time-outs are 30 s and 120 s
				if strings.HasPrefix(answer, "SIP/2.0 180") && !cancelled {
					cancelled = true
					sendSIP(t, holder, strings.NewReplacer("INVITE sip", "CANCEL sip", "1 INVITE", "1 CANCEL").Replace(invite), to)
				}
				if strings.HasPrefix(answer, "SIP/2.0 1") || strings.Contains(answer, "1 CANCEL") {
					continue
				}
				if !strings.HasPrefix(answer, "SIP/2.0 408 ") {
					t.Errorf("the INVITE ended with\n%s", answer)
				}
				return
			}
		})
	}
}

func udp(t *testing.T) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func sendSIP(t *testing.T, conn net.PacketConn, text string, to net.Addr) {
	t.Helper()
	if _, err := conn.WriteTo([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}

// readSIP reads one message, for which it waits 20 s at most.
func readSIP(t *testing.T, conn net.PacketConn) (text string, from net.Addr) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	n, from, err := conn.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), from
}

// ringing returns the 180 to an INVITE.
func ringing(invite string) string {
	var b strings.Builder
	b.WriteString("SIP/2.0 180 Ringing\r\n")
	for line := range strings.SplitSeq(invite, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch name {
		case "Via", "Record-Route", "From", "Call-ID", "CSeq":
			b.WriteString(line + "\r\n")
		case "To":
			b.WriteString(line + ";tag=p\r\n")
		}
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return b.String()
}
