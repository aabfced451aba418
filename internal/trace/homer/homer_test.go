package homer_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/trace/homer"
)

const callID = "19e9257c-849c-424a@192.0.2.4"

var started = time.Date(2026, 5, 1, 12, 0, 0, 123456000, time.UTC)

// part returns a call with an event of each direction.
func part(node string) trace.Part {
	after := func(d time.Duration, name trace.EventName) trace.Event {
		return trace.Event{At: started.Add(d), Name: name, Device: "urn:uuid:1"}
	}
	accepted := after(250*time.Millisecond, trace.Accepted)
	accepted.Provider, accepted.App, accepted.ID, accepted.Tries, accepted.Detail = "apns", "com.example.phone", "8E4F", 1, "apns"
	return trace.Part{Whole: true, Verdict: "rang after 1.9 s", Timeline: trace.Timeline{
		Head:    trace.Head{ID: "0193e1c4-0000-7000-8000-000000000001", AOR: "bob@example.com", Node: node, CallID: callID, Kind: "call", StartedAt: started},
		Outcome: "pushing", Reason: "answered", Instance: "one",
		Events: []trace.Event{after(0, trace.Held), accepted, after(1900*time.Millisecond, trace.Signalled)}}}
}

func exporter(t *testing.T, c homer.Config, node string) *homer.Exporter {
	t.Helper()
	c.SetDefaults()
	e, err := homer.New(c, homer.Where{RPC: "10.0.0.5:8060", Node: func(string) string { return node }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// capture starts a Kamailio as a capture server, which writes a line for each packet,
// and returns its address and the lines.
func capture(t *testing.T) (addr string, lines <-chan string) {
	t.Helper()
	prog, err := exec.LookPath("kamailio")
	if err != nil {
		if os.Getenv("SIPWAKE_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip("no Kamailio, which decodes HEP here")
	}
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.LocalAddr().String()
	_ = l.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	write("version", "table_name(string) table_version(int)\n")
	cfg := write("kamailio.cfg", `
debug=-1
log_stderror=yes
children=1
disable_tcp=yes
listen=udp:`+addr+`
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "db_text.so"
loadmodule "sipcapture.so"
modparam("sipcapture", "db_url", "text://`+dir+`")
modparam("sipcapture", "hep_capture_on", 1)
modparam("sipcapture", "nonsip_hook", 1)
request_route { drop; }
event_route[sipcapture:request] {
	xlog("L_ALERT", "HEP|$hep(version)|$hep(0x001)|$hep(0x003)|$hep(0x004)|$hep(0x005)|$hep(0x006)|$hep(0x007)|$hep(0x008)|$hep(0x009)|$hep(0x00a)|$hep(0x00b)|$hep(0x00c)|$hep(0x00e)|$hep(0x011)|$hep(0x00f)|\n");
}
`)
	cmd := exec.Command(prog, "-f", cfg, "-DD", "-E", "-w", dir, "-Y", dir, "-m", "64", "-M", "8")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all := make(chan string, 1000)
	go func() {
		defer close(all)
		for s := bufio.NewScanner(out); s.Scan(); {
			if _, packet, ok := strings.Cut(s.Text(), "HEP|"); ok {
				all <- packet
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		for range all {
		}
		_ = cmd.Wait()
	})
	return addr, all
}

// next returns the next packet that is about the call.
func next(t *testing.T, lines <-chan string, call string) []string {
	t.Helper()
	timeout := time.After(15 * time.Second)
	for {
		select {
		case l, ok := <-lines:
			if f := strings.Split(l, "|"); ok && len(f) >= 15 && f[13] == call {
				return f
			} else if !ok {
				t.Fatal("Kamailio ended")
			}
		case <-timeout:
			t.Fatal("no packet came")
		}
	}
}

// wait sends until the capture server answers.
func wait(t *testing.T, e *homer.Exporter, lines <-chan string) {
	t.Helper()
	probe := part("")
	probe.CallID, probe.Events, probe.Whole, probe.Verdict = "probe", probe.Events[:1], false, ""
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 150 {
		_, _ = e.Export(deadline(t), []trace.Part{probe})
		select {
		case <-lines:
			return
		case <-tick.C:
		}
	}
	t.Fatal("Kamailio takes no packet")
}

// Kamailio's module sipcapture, which others have written, reads what is sent: one
// packet an event, with the Call-ID, between the addresses of proxy and sipwake.
func TestKamailioDecodes(t *testing.T) {
	addr, lines := capture(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("myHep\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := exporter(t, homer.Config{Address: addr, Node: 2077, NodeName: "edge", AuthKeyFile: key}, "10.0.0.11:5060")
	wait(t, e, lines)
	if lost, err := e.Export(deadline(t), []trace.Part{part("sip1")}); lost > 0 || err != nil {
		t.Fatal(lost, err)
	}
	const proxy, here = "10.0.0.11:5060", "10.0.0.5:8060"
	for _, want := range []struct {
		event, source, target, micros string
		after                         float64
	}{
		{"held", proxy, here, "123456", 0}, {"accepted", here, here, "373456", 250},
		{"signalled", here, proxy, "23456", 1900}, {"verdict", here, here, "23456", 1900},
	} {
		f := next(t, lines, callID)
		got := fmt.Sprintf("%s:%s %s:%s", f[2], f[6], f[3], f[7])
		if f[0] != "3" || f[1] != "2" || got != want.source+" "+want.target || f[9] != want.micros || f[10] != "100" || f[11] != "2077" || f[12] != "myHep" {
			t.Errorf("%s: Kamailio reads %q", want.event, f)
		}
		var payload map[string]any
		if err := json.Unmarshal([]byte(f[14]), &payload); err != nil {
			t.Fatal(err, f[14])
		}
		if payload["event"] != want.event || payload["after_ms"] != want.after || payload["call_id"] != callID || payload["user"] != "bob@example.com" {
			t.Errorf("the payload is %v", payload)
		}
		if want.event == "accepted" && (payload["provider"] != "apns" || payload["push_id"] != "8E4F" || payload["message"] != "sipwake: accepted: apns") {
			t.Errorf("the push is %v", payload)
		}
		if want.event == "verdict" && (payload["message"] != "sipwake: rang after 1.9 s" || payload["reason"] != "answered") {
			t.Errorf("the verdict is %v", payload)
		}
	}
}

// A proxy with an IPv6 address makes the packet one of IPv6.
func TestKamailioDecodesIPv6(t *testing.T) {
	addr, lines := capture(t)
	e := exporter(t, homer.Config{Address: addr}, "[2001:db8::11]:5060")
	wait(t, e, lines)
	if _, err := e.Export(deadline(t), []trace.Part{part("sip1")}); err != nil {
		t.Fatal(err)
	}
	if f := next(t, lines, callID); f[1] != "10" || f[4] != "2001:db8::11" || f[5] != "::ffff:10.0.0.5" || f[6] != "5060" || f[11] != "2001" {
		t.Errorf("Kamailio reads %q", f)
	}
}

// readPacket reads one packet from a stream: its length is in bytes 4 and 5.
func readPacket(r io.Reader) (string, error) {
	head := make([]byte, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	rest := make([]byte, int(head[4])<<8+int(head[5])-6)
	_, err := io.ReadFull(r, rest)
	return string(head[:4]) + string(rest), err
}

// Over TCP packets follow one another; a server that has started anew is connected
// to again.
func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := exporter(t, homer.Config{Address: l.Addr().String(), Transport: homer.TCP}, "")
	for round := range 2 {
		conns := make(chan net.Conn, 1)
		go func() {
			c, _ := l.Accept()
			conns <- c
		}()
		var c net.Conn
		for c == nil { // that a connection was closed shows after a write or two
			_, _ = e.Export(deadline(t), []trace.Part{part("sip1")})
			select {
			case c = <-conns:
			case <-time.After(10 * time.Millisecond):
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		for i, event := range []string{"held", "accepted", "signalled", "verdict"} {
			if i > 0 && round > 0 {
				break // the connection may have been opened between two packets
			}
			p, err := readPacket(c)
			if err != nil || !strings.HasPrefix(p, "HEP3") || !strings.Contains(p, callID) || round == 0 && !strings.Contains(p, `"event":"`+event+`"`) {
				t.Fatalf("%v, packet %q", err, p)
			}
		}
		_ = c.Close()
	}
}

// A server that is not there costs the call's packets, and nothing else; the key is
// in no error.
func TestAbsentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("top-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, transport := range []string{homer.UDP, homer.TCP} {
		e := exporter(t, homer.Config{Address: addr, Transport: transport, AuthKeyFile: key}, "")
		lost, err := e.Export(deadline(t), []trace.Part{part("sip1"), part("sip1")})
		if lost == 0 || err == nil || strings.Contains(err.Error(), "top-secret") {
			t.Errorf("%s: %d lost, %v", transport, lost, err)
		}
	}
}

func TestConfig(t *testing.T) {
	f := func(c homer.Config, want string) {
		t.Helper()
		c.SetDefaults()
		got := ""
		c.Validate(func(field, _ string) { got += field + " " })
		if strings.TrimSpace(got) != want {
			t.Errorf("%+v: problems of %q, want %q", c, got, want)
		}
	}
	f(homer.Config{}, "")
	f(homer.Config{Address: "homer.example.com:9060", Transport: "tcp"}, "")
	f(homer.Config{Address: "homer.example.com"}, "address")
	f(homer.Config{Address: ":9060"}, "address")
	f(homer.Config{Address: "127.0.0.1:99999"}, "address")
	f(homer.Config{Transport: "tls"}, "transport")
	f(homer.Config{NodeName: `a"b`}, "node_name")
	if _, err := homer.New(homer.Config{AuthKeyFile: "/nonexistent"}, homer.Where{}); err == nil || !strings.HasPrefix(err.Error(), "auth_key_file: ") {
		t.Errorf("a key file that is not there: %v", err)
	}
}
