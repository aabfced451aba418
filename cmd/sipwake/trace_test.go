package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"

	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/trace"
)

// call calls a method of the service.
func (s *service) call(method string, params, result any) {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		s.t.Fatal(err)
	}
	leak.Body(string(body))
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.rpc+"/rpc", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer 04d9-bearer-token") // of rpc.token; where none is wanted it does no harm
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var answer struct{ Result, Error json.RawMessage }
	if err := json.Unmarshal(text, &answer); err != nil || answer.Error != nil {
		s.t.Fatalf("%s: %v in %s", method, err, text)
	}
	if result != nil {
		if err := json.Unmarshal(answer.Result, result); err != nil {
			s.t.Fatalf("%s: %v in %s", method, err, text)
		}
	}
}

// at is the configuration of the service as its clients need it: with the port
// that it really has.
func (s *service) at(name string) {
	s.t.Helper()
	write(s.t, s.dir, name, []byte("rpc:\n  listen: "+s.rpc+"\n"))
}

// withToken has the service want rpc.token, and atWithToken its clients show it.
func withToken(t *testing.T, dir string) {
	t.Helper()
	edit(t, dir, "rpc:\n", "rpc:\n  token_files: [rpc.token]\n")
}

func (s *service) atWithToken(name string) {
	s.t.Helper()
	write(s.t, s.dir, name, []byte("rpc:\n  listen: "+s.rpc+"\n  token_files: [rpc.token]\n"))
}

// A call to a phone that sleeps, one to a user without any, and one that goes on.
func TestTrace(t *testing.T) {
	apns, err := apnssim.Start(apnssim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer apns.Close()
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"status":"added"}}`)
	}))
	defer node.Close()
	dir := configured(t)
	write(t, dir, "apns-ca.pem", apns.CA())
	key, err := apns.MakeKey(dir, "ABCDE12345", "12345ABCDE")
	if err != nil {
		t.Fatal(err)
	}
	edit(t, dir, "key_file: key.p8", "key_file: "+key+"\n    endpoint: "+apns.URL()+"\n    ca_file: apns-ca.pem")
	edit(t, dir, "http://127.0.0.1:5060", node.URL)
	edit(t, dir, "store:", "wake:\n  recent: 10ms\nstore:")
	s := serve(t, dir)
	s.at("client.yml")

	type obj map[string]any
	register := obj{"node": "sip1", "aor": "bob@example.com", "call_id": "r1", "cseq": 1, "expires": 0, "source": "udp:192.0.2.7:5070",
		"contact": fmt.Sprintf("<sip:bob@192.0.2.7;pn-provider=apns;pn-param=ABCDE12345.com.example.phone.voip;pn-prid=%064x>", 7)}
	register["expires"] = 600
	s.call("binding.register", register, nil)
	register["expires"], register["cseq"] = 0, 2
	s.call("binding.register", register, nil)
	start := obj{"node": "sip1", "aor": "bob@example.com", "call_id": "c1", "call": "1-1", "kind": "call", "hold_s": 30}
	var res struct{ Outcome string }
	if s.call("wake.start", start, &res); res.Outcome != "pushing" {
		t.Fatalf("wake.start: %s", res.Outcome)
	}
	trace := func(args ...string) string {
		t.Helper()
		stdout, stderr, status := sipwake(t, dir, append([]string{"trace", "--config", "client.yml"}, args...)...)
		if status != 0 || stderr != "" {
			t.Fatalf("status %d: %s", status, stderr)
		}
		return stdout
	}
	match := func(got, want string) {
		t.Helper()
		if !regexp.MustCompile(`\A` + want + `\z`).MatchString(got) {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	// until reads the trace again and again: pushes and signals end by themselves.
	until := func(text string) string {
		t.Helper()
		deadline := time.Now().Add(patience)
		for {
			got := trace("--aor", "Bob@Example.com")
			if strings.Contains(got, text) || time.Now().After(deadline) {
				return got
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	const (
		span   = `[0-9.]+ m?s`
		at     = ` *` + span + `  `
		device = `unnamed-[0-9a-f]{4} `
		pushed = at + `held           sip1\n` + at + `pushing        ` + device + `apns\n` + at + `accepted       ` + device +
			`apns within ` + span + `(, queued for ` + span + `)?, its id [-0-9a-f]+\n`
		head = `\d{4}-\d\d-\d\dT[0-9:]{8}\S*  call for (bob|nobody)@example.com at node sip1: `
	)
	match(until("accepted"), head+`pushing, open  \(Call-ID c1\)\n  Apple took the push after `+span+`, the phone has not registered yet\n`+pushed)
	register["expires"], register["cseq"] = 600, 3
	s.call("binding.register", register, nil)
	until("proxy told")
	s.call("wake.end", obj{"node": "sip1", "aor": "bob@example.com", "call_id": "c1", "call": "1-1", "reason": "answered", "code": 200}, nil)
	ended := head + `pushing, answered  \(Call-ID c1\)\n  rang after ` + span + `, answered after ` + span + `\n` + pushed +
		at + `registered     ` + device + `udp:192.0.2.7:5070\n` + at + `proxy told     ` + device + `rings the phone\n` + at + `ended          answered \(SIP 200\)\n`
	for _, args := range [][]string{{"--call-id", "c1"}, {"--aor", "BOB"}, {"--outcome", "answered"}, {"--outcome", "pushing", "--since", "1h"},
		{"--app", "com.example.phone", "--until", "2999-01-01"}, {"--last", "1"}} {
		match(trace(args...), ended)
	}

	start["aor"], start["call_id"], start["call"] = "nobody@example.com", "c2", "2-2"
	s.call("wake.start", start, nil)
	nobody := head + `none  \(Call-ID c2\)\n  nobody to wake: no binding\n` + at + `held           sip1\n`
	match(trace("--aor", "nobody@example.com"), nobody)
	match(trace(), ended+nobody) // all, the newest last
	for _, line := range strings.Split(strings.TrimSpace(trace("--json")), "\n") {
		var one struct{ Verdict string }
		if err := json.Unmarshal([]byte(line), &one); err != nil || one.Verdict == "" {
			t.Errorf("%v: %s", err, line)
		}
	}
	nothing := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, status := sipwake(t, dir, append([]string{"trace", "--config", "client.yml"}, args...)...)
		if stderr != "sipwake: "+want+"\n" || stdout != "" || status != 1 {
			t.Errorf("status %d, want %s, got\n%s%s", status, want, stdout, stderr)
		}
	}
	nothing("no call was found", "--aor", "eve@example.com")
	nothing("no call was found; did you mean bob@example.com?", "--aor", "bobby@example.com")
	nothing("no call was found; did you mean bob@example.com?", "--aor", "bobb")
	nothing("no call was found", "--outcome", "busy")
	nothing("no call was found", "--aor", "bob", "--until", "1h")
	nothing(`--since: "yesterday" is neither a time such as 2026-11-22T01:30:00Z nor how long ago, such as 2h`, "--since", "yesterday")

	// They are there after a restart, too.
	s.signal(syscall.SIGTERM)
	s.status()
	s = serve(t, dir)
	s.at("client.yml")
	match(trace(), ended+nobody)
}

// A client that does not find its server says where it looked, and where that
// comes from.
func TestTraceWithoutServer(t *testing.T) {
	dir := configured(t)
	s := serve(t, dir)
	f := func(config, want string) {
		t.Helper()
		write(t, dir, "client.yml", []byte(config))
		stdout, stderr, status := sipwake(t, dir, "trace", "--config", "client.yml", "--aor", "bob@example.com")
		if stderr != "sipwake: "+want+"\n" || stdout != "" || status != 1 {
			t.Errorf("status %d, want %s, got\n%s%s", status, want, stdout, stderr)
		}
	}
	closed := freePort(t)
	f("rpc: {listen: \""+closed+"\"}", "cannot reach sipwake at "+closed+" (rpc.listen of client.yml): dial tcp "+closed+": connect: connection refused")
	f("rpc: {listen: \""+s.operations+"\"}\noperations: {listen: \"127.0.0.1:1\"}",
		"cannot read the answer of sipwake at "+s.operations+" (rpc.listen of client.yml): HTTP 405, and no JSON-RPC: is it another program's port?")
	f("rpc:\n  listen: "+s.rpc+"\n  cert_file: key.p8\n  key_file: key.p8",
		"client.yml:3: rpc.cert_file: cannot read certificate: key.p8 holds no PEM certificate")
	f("rpc:\n  listen: "+s.rpc+"\n  token_files: [none]",
		"client.yml:3: rpc.token_files[0]: cannot read secret: open none: no such file or directory")
	f("rpc:\n  listen: "+s.rpc+"\n  cert_file: cert.pem\n  key_file: key.pem",
		"cannot reach sipwake at "+s.rpc+" (rpc.listen of client.yml): http: server gave HTTP response to HTTPS client")
}

// With TLS and tokens, whatever name the certificate has.
func TestTraceWithTLS(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "sip.example.com", "*.example.com"} {
		t.Run(host, func(t *testing.T) {
			dir := configured(t)
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "key.pem", pkcs8(t, key))
			write(t, dir, "cert.pem", certificate(t, key, host))
			edit(t, dir, "listen: 127.0.0.1:0", "listen: 127.0.0.1:0\n  cert_file: cert.pem\n  key_file: key.pem\n  token_files: [rpc.token]")
			s := serve(t, dir)
			tls := "rpc:\n  listen: " + s.rpc + "\n  cert_file: cert.pem\n  key_file: key.pem\n"
			write(t, dir, "client.yml", []byte(tls+"  token_files: [rpc.token]\n"))
			stdout, stderr, status := sipwake(t, dir, "trace", "--config", "client.yml", "--aor", "bob@example.com")
			if stderr != "sipwake: no call was found\n" || status != 1 {
				t.Errorf("status %d: %s%s", status, stdout, stderr)
			}
			write(t, dir, "client.yml", []byte(tls))
			want := "sipwake: sipwake at " + s.rpc + " (rpc.listen of client.yml) answered: not authorised\n"
			if _, stderr, status := sipwake(t, dir, "trace", "--config", "client.yml", "--aor", "bob@example.com"); stderr != want || status != 1 {
				t.Errorf("without a token: status %d: %s", status, stderr)
			}
		})
	}
}

// Where clients must show a certificate, a command shows sipwake's own.
func TestTraceWithClientCertificate(t *testing.T) {
	dir := configured(t)
	edit(t, dir, "listen: 127.0.0.1:0", "listen: 127.0.0.1:0\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: cert.pem")
	s := serve(t, dir)
	tls := "rpc:\n  listen: " + s.rpc + "\n  cert_file: cert.pem\n  key_file: key.pem\n"
	write(t, dir, "client.yml", []byte(tls+"  client_ca_file: cert.pem\n"))
	stdout, stderr, status := sipwake(t, dir, "trace", "--config", "client.yml", "--aor", "bob@example.com")
	if stderr != "sipwake: no call was found\n" || status != 1 {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
	write(t, dir, "client.yml", []byte(tls))
	want := "sipwake: cannot reach sipwake at " + s.rpc + " (rpc.listen of client.yml): "
	if _, stderr, status := sipwake(t, dir, "trace", "--config", "client.yml", "--aor", "bob@example.com"); !strings.HasPrefix(stderr, want) ||
		!strings.HasSuffix(stderr, "remote error: tls: certificate required\n") || status != 1 {
		t.Errorf("without a certificate: status %d: %s", status, stderr)
	}
}

// What the README shows is what is printed.
func TestTraceInREADME(t *testing.T) {
	start := time.Date(2026, 11, 22, 1, 34, 35, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	const device = "unnamed-5e1f"
	l := &trace.Timeline{Head: trace.Head{AOR: "bob@example.com", Node: "sip1", CallID: "19e9257c-849c-424a@192.0.2.4", Kind: "call", StartedAt: start},
		Outcome: "pushing", Reason: "timeout", Events: []trace.Event{
			{At: at(0), Name: trace.Held, Detail: "sip1"},
			{At: at(0), Name: trace.Pushing, Device: device, Provider: "apns"},
			{At: at(48), Name: trace.Accepted, Device: device, Provider: "apns", Tries: 1, SentAt: at(2), ID: "3F2A9C60-9B1E-4A4C-8E0D-7D1C5B2A6F10"},
			{At: at(30000), Name: trace.HoldOver},
			{At: at(30012), Name: trace.Ended, Detail: "timeout", Code: 408},
		}}
	c := tracedCall{AOR: l.AOR, Node: l.Node, CallID: l.CallID, Kind: l.Kind, StartedMS: l.StartedAt.UnixMilli(), Outcome: l.Outcome, Reason: l.Reason,
		Verdict: trace.Verdict(l)}
	for _, e := range l.Events {
		one := tracedEvent{AtMS: e.At.UnixMilli(), Event: e.Name, Device: e.Device, Detail: e.Detail, Provider: e.Provider, ID: e.ID, Tries: e.Tries, Code: e.Code}
		if !e.SentAt.IsZero() {
			one.SentMS = e.SentAt.UnixMilli()
		}
		c.Events = append(c.Events, one)
	}
	var out bytes.Buffer
	c.print(&out, painter(false))
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := out.String()
	if zone := start.Local().Format(time.RFC3339); zone != start.Format(time.RFC3339) {
		want = strings.Replace(want, zone, start.Format(time.RFC3339), 1)
	}
	if !strings.Contains(string(readme), "```\n"+want+"```\n") {
		t.Errorf("the README does not show\n%s", want)
	}
}

// Words for what others than people read elsewhere, colours only where they are
// wanted, and nothing that could confuse a terminal.
func TestTracePrint(t *testing.T) {
	c := tracedCall{AOR: "bob@example.com", Node: "sip1", CallID: "c\x1b[31m\n", Kind: "call", StartedMS: 5000, Outcome: "awake", Reason: "answered",
		Verdict: "rang at once", Omitted: 3, Events: []tracedEvent{
			{AtMS: 3966, Event: trace.Awake, Device: "d", Detail: "tls:192.0.2.1:5"},
			{AtMS: 5001, Event: trace.Withheld, Device: "d", Detail: "1s"},
			{AtMS: 5002, Event: trace.Signalled, Device: "d", Detail: "dup"},
			{AtMS: 5003, Event: trace.Failed, Device: "e", Detail: "no_token"},
			{AtMS: 5004, Event: trace.Failed, Device: "e", Detail: "token_dead: Unregistered", Tries: 3},
			{AtMS: 5004, Event: trace.Pushing, Device: "f", Detail: "cancel", Provider: "fcm", Kind: "cancel"},
			{AtMS: 5004, Event: trace.Lost, Device: "f", Detail: "sip1: connection refused"},
		}}
	var out bytes.Buffer
	c.print(&out, painter(false))
	_, got, _ := strings.Cut(out.String(), "\n")
	const want = `  rang at once
  1 s before  was awake      d tls:192.0.2.1:5
        1 ms  withheld       d it is being rung, a push would follow after 1s
        2 ms  proxy told     d rung already
        3 ms  not pushed     e no_token
        4 ms  failed         e token_dead: Unregistered, try 3
        4 ms  telling        f fcm, to say that the call is over
        4 ms  node not told  f sip1: connection refused
              and 3 more events
`
	if got != want || strings.Contains(out.String(), "\x1b") {
		t.Errorf("got\n%q\nwant\n%s", out.String(), want)
	}
	out.Reset()
	c.print(&out, painter(true))
	if text := out.String(); !strings.Contains(text, "\x1b[1;32mrang at once\x1b[0m") || strings.Count(text, "\x1b[31m") != 3 {
		t.Errorf("with colours: %q", text)
	}
}

// --follow prints a call when it is over, once.
func TestTraceFollow(t *testing.T) {
	dir := configured(t)
	s := serve(t, dir)
	s.at("client.yml")
	call := func(id string) {
		s.call("wake.start", map[string]any{"node": "sip1", "aor": "bob@example.com", "call_id": id, "call": id, "kind": "call"}, nil)
	}
	call("before")
	cmd := command(t, dir, "trace", "--config", "client.yml", "--follow", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	lines := bufio.NewScanner(out)
	for _, id := range []string{"before", "one", "two"} {
		if id != "before" {
			call(id)
		}
		if !lines.Scan() || !strings.Contains(lines.Text(), `"call_id":"`+id+`"`) {
			t.Fatalf("waiting for %s: %s, %v", id, lines.Text(), lines.Err())
		}
	}
}
