package demo

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// TestWebSocketScript: the lines still fit into kamailio.cfg, and a browser can connect.
func TestWebSocketScript(t *testing.T) {
	if _, err := stack.Find("kamailio"); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	lacks := false
	p, err := webSocketKamailio(func() { lacks = true }).start(ctx, "http://127.0.0.1:9/rpc", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if lacks {
		t.Skip("Kamailio has no module websocket: make setup")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.SIPAddress())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: " + p.SIPAddress() + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	n, err := conn.Read(b)
	if got := string(b[:n]); err != nil || !strings.Contains(got, " 101 ") {
		t.Errorf("the handshake got %q, %v", got, err)
	}
}

// TestReadSIPp: the last line counts, whatever columns there are.
func TestReadSIPp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sipp.csv")
	for name, c := range map[string]struct {
		text      string
		good, bad int
		fails     bool
	}{
		"all good":      {text: "Time;SuccessfulCall(P);SuccessfulCall(C);FailedCall(C);\n1;1;1;0;\n2;1;2;0;\n", good: 2},
		"some failed":   {text: "FailedCall(C);SuccessfulCall(C);\n3;7;\n", good: 7, bad: 3},
		"not a number":  {text: "FailedCall(C);SuccessfulCall(C);\nx;7;\n", fails: true},
		"nothing in it": {text: "", fails: true},
		"no calls yet":  {text: "FailedCall(C);SuccessfulCall(C);\n", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			good, bad, err := readSIPp(file)
			if good != c.good || bad != c.bad || (err != nil) != c.fails {
				t.Errorf("%d good, %d bad, %v", good, bad, err)
			}
		})
	}
}

// TestBaresipEvents: what ctrl_tcp sends is read to the letter, and a call that ends is
// no call that is answered.
func TestBaresipEvents(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ours, theirs := net.Pipe()
	_ = theirs.SetDeadline(time.Now().Add(10 * time.Second))
	b := &baresip{conn: ours, events: make(chan baresipEvent, 8)}
	go b.read()
	say := func(text string) {
		if _, err := fmt.Fprintf(theirs, "%d:%s,", len(text), text); err != nil {
			t.Error(err)
		}
	}
	say(`{"event":true,"type":"CALL_RINGING"}`)
	say(`{"event":true,"type":"CALL_ESTABLISHED"}`)
	if err := b.wait(ctx, "CALL_ESTABLISHED"); err != nil {
		t.Error(err)
	}
	say(`{"event":true,"type":"CALL_CLOSED","param":"480 No"}`)
	if err := b.wait(ctx, "CALL_ESTABLISHED"); err == nil || !strings.Contains(err.Error(), "480 No") {
		t.Errorf("a call that ended: %v", err)
	}
	theirs.Close()
	if err := b.wait(ctx, "CALL_CLOSED"); err == nil || ctx.Err() != nil {
		t.Errorf("baresip has ended: %v", err)
	}
}
