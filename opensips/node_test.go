package opensips

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	password = "s3cret-of-the-proxy"
	key      = "f8a0c112.4b1"
	leg      = "1c2d.99"
)

var (
	held = wake.Wake{AOR: "alice@example.com", Node: "edge1", Call: key, CallID: "call@host"}
	back = wake.Registration{Binding: wake.Binding{
		AOR: "alice@example.com", Contact: "sip:alice@192.0.2.7;pn-provider=apns;foo=bar;pn-prid=A%3AB",
		CallID: "reg@host", CSeq: 4294967295, Source: "tls:192.0.2.7:5061", Node: "edge1",
	}}
)

// mi speaks MI as OpenSIPS 3.6.8 was heard to: HTTP 200 for errors too.
type mi struct {
	mu      sync.Mutex
	notes   map[string]string        // cachedb_local
	raised  func(m *mi, e wakeEvent) // runs the script's part, in the lock
	reply   string                   // answer to t_reply
	fetches int
	seen    []map[string]any
	auth    []string
	types   []string
}

func (m *mi) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var q struct {
		Method string
		Params map[string]any
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.URL.Path != "/mi" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m.auth = append(m.auth, r.Header.Get("Authorization"))
	m.types = append(m.types, r.Header.Get("Content-Type"))
	m.seen = append(m.seen, map[string]any{"method": q.Method, "params": q.Params})
	w.Header().Set("Content-Type", "application/json")
	const ok = `{"jsonrpc":"2.0","result":"OK","id":1}`
	switch q.Method {
	case "raise_event":
		var e wakeEvent
		if json.Unmarshal([]byte(q.Params["params"].(string)), &e) == nil && m.raised != nil {
			m.raised(m, e)
		}
		_, _ = io.WriteString(w, ok)
	case "cache_fetch":
		m.fetches++
		value, found := m.notes[q.Params["attr"].(string)]
		if !found {
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","error":{"code":400,"message":"Value not found"},"id":1}`)
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","result":{"key":%q,"value":%q},"id":1}`, q.Params["attr"], value)
	case "t_reply":
		if m.reply == "" {
			m.reply = ok
		}
		_, _ = io.WriteString(w, m.reply)
	default:
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":1}`)
	}
}

// notes returns those of a call that is held.
func notes() map[string]string {
	return map[string]string{"sipwake_held_" + key: "alice@example.com", "sipwake_leg_" + key: leg}
}

// serve starts a server and a node that signals it.
func serve(t *testing.T, h http.Handler, change ...func(*node.Config)) Node {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cfg := node.Config{URL: s.URL, Timeout: 10 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	n, err := New("edge1", cfg, map[string]string{"edge2": "sip:198.51.100.2:5060"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func TestOutcomes(t *testing.T) {
	f := func(m *mi, want wake.Signal) {
		t.Helper()
		got, err := serve(t, m).Wake(t.Context(), held, back, false)
		if err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	for _, s := range []wake.Signal{wake.SignalAdded, wake.SignalDuplicate, wake.SignalGone, wake.SignalUnsent} {
		f(&mi{notes: notes(), raised: func(m *mi, e wakeEvent) { m.notes["sipwake_op_"+e.Op] = string(s) }}, s)
	}
	f(&mi{}, wake.SignalGone) // nobody holds it, so nobody heard the event
	// The event is only on its way when MI says OK.
	slow := &mi{notes: notes()}
	slow.raised = func(m *mi, e wakeEvent) {
		go func() {
			for done := false; !done; {
				m.mu.Lock()
				if done = m.fetches >= 6; done {
					m.notes["sipwake_op_"+e.Op] = "added"
				}
				m.mu.Unlock()
			}
		}()
	}
	f(slow, wake.SignalAdded)
	// The call ends before the event is taken.
	ends := &mi{notes: notes()}
	ends.raised = func(m *mi, _ wakeEvent) { delete(m.notes, "sipwake_held_"+key) }
	f(ends, wake.SignalGone)
}

func TestEvent(t *testing.T) {
	f := func(change func(*wake.Registration), want wakeEvent) {
		t.Helper()
		var got wakeEvent
		m := &mi{notes: notes(), raised: func(m *mi, e wakeEvent) { got = e; m.notes["sipwake_op_"+e.Op] = "added" }}
		r := back
		change(&r)
		if _, err := serve(t, m).Wake(t.Context(), held, r, false); err != nil {
			t.Error(err)
		}
		if got.Op == "" {
			t.Error("no op")
		}
		got.Op = ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		raise := m.seen[0]["params"].(map[string]any)
		var raw map[string]any
		if err := json.Unmarshal([]byte(raise["params"].(string)), &raw); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"uri", "received", "path", "qval", "socket", "bflags"} {
			if _, ok := raw[name]; !ok {
				t.Errorf("no %s: OpenSIPS adds no branch", name)
			}
		}
	}
	attr := "1 tls:192.0.2.7:5061 0 reg@host"
	f(func(*wake.Registration) {}, wakeEvent{Call: key, Attr: attr, URI: "sip:alice@192.0.2.7;foo=bar",
		Received: "sip:192.0.2.7:5061;transport=tls", QVal: -1})
	f(func(r *wake.Registration) { r.Node = "edge2" }, wakeEvent{Call: key, Attr: attr, URI: "sip:alice@192.0.2.7;foo=bar",
		Path: "<sip:198.51.100.2:5060;lr;received=sip:192.0.2.7:5061%3Btransport%3Dtls>", QVal: -1})
}

func TestWhatCannotBeSignalled(t *testing.T) {
	f := func(want string, change func(*wake.Registration)) {
		t.Helper()
		m := &mi{notes: notes()}
		r := back
		change(&r)
		_, err := serve(t, m).Wake(t.Context(), held, r, false)
		if want = `cannot signal node "edge1": ` + want; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if len(m.seen) > 0 {
			t.Errorf("sent %v", m.seen)
		}
	}
	f(`the phone is at node "edge3", whose sip is not set`, func(r *wake.Registration) { r.Node = "edge3" })
	const odd = "the registration's flow or contact is not a plain one"
	f(odd, func(r *wake.Registration) { r.Source = "" })
	f(odd, func(r *wake.Registration) { r.Source = "udp:192.0.2.7:1>;lr" })
	f(odd, func(r *wake.Registration) { r.Contact = "sip:a@b>,<sip:c" })
}

// A call key is part of a pattern there: what is none of the script's is not sent.
func TestOddCallIsGone(t *testing.T) {
	for _, call := range []string{"", "*", "f8.1*", "[a-f].1", "1-1", strings.Repeat("9", 300) + ".1"} {
		m := &mi{notes: notes()}
		n := serve(t, m)
		w := held
		w.Call = call
		if s, err := n.Wake(t.Context(), w, back, false); s != wake.SignalGone || err != nil {
			t.Errorf("%q: wake got %q, %v", call, s, err)
		}
		if s, err := n.GiveUp(t.Context(), w); s != wake.SignalGone || err != nil {
			t.Errorf("%q: give_up got %q, %v", call, s, err)
		}
		if len(m.seen) > 0 {
			t.Errorf("%q: sent %v", call, m.seen)
		}
	}
}

func TestGiveUp(t *testing.T) {
	f := func(m *mi, want wake.Signal) {
		t.Helper()
		got, err := serve(t, m).GiveUp(t.Context(), held)
		if err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	m := &mi{notes: notes()}
	f(m, wake.SignalOK)
	want := map[string]any{"method": "t_reply", "params": map[string]any{
		"code": 599.0, "reason": "Nobody To Wait For", "trans_id": leg, "to_tag": "sipwake"}}
	if diff := cmp.Diff(want, m.seen[1]); diff != "" {
		t.Error(diff)
	}
	f(&mi{}, wake.SignalGone)
	f(&mi{notes: notes(), reply: `{"jsonrpc":"2.0","error":{"code":404,"message":"Transaction not found"},"id":1}`}, wake.SignalGone)
	f(&mi{notes: notes(), reply: `{"jsonrpc":"2.0","error":{"code":500,"message":"Reply failed"},"id":1}`}, wake.SignalGone)
}

func TestHeaders(t *testing.T) {
	f := func(want string, change func(*node.Config)) {
		t.Helper()
		m := &mi{}
		if _, err := serve(t, m, change).Wake(t.Context(), held, back, false); err != nil {
			t.Fatal(err)
		}
		for i := range m.auth {
			if m.auth[i] != want || m.types[i] != "application/json" {
				t.Errorf("Authorization %q, Content-Type %q", m.auth[i], m.types[i])
			}
		}
	}
	f("", func(*node.Config) {})
	f("Bearer "+password, func(c *node.Config) { c.Secret = secret.NewText(password) })
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f("Bearer "+password, func(c *node.Config) { c.SecretFile = file })
}

func TestBadAnswers(t *testing.T) {
	f := func(code int, body, want string) {
		t.Helper()
		n := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}), func(c *node.Config) { c.Secret = secret.NewText(password) })
		_, err := n.Wake(t.Context(), held, back, false)
		if want = `cannot signal node "edge1": ` + want; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if _, err := n.GiveUp(t.Context(), held); err == nil {
			t.Errorf("HTTP %d %q: give_up succeeded", code, body)
		}
		if got := fmt.Sprintf("%v %+v %#v", err, n, n); strings.Contains(got, password) {
			t.Errorf("shows the secret: %s", got)
		}
	}
	f(403, "", errForbidden.Error())
	f(401, "", errForbidden.Error())
	f(404, "", "it answered HTTP 404")
	f(307, "", "it answered HTTP 307")
	f(200, "", "its answer is not JSON-RPC")
	f(200, "<html>", "its answer is not JSON-RPC")
	f(200, "{}", "its answer is not JSON-RPC")
	f(200, `{"error":{"code":404,"message":"Event not registered"}}`, `it answered error 404: "Event not registered"`)
	f(200, `{"result":"OK"}`, "its answer has an unexpected form")
}

func TestUnknownOutcome(t *testing.T) {
	m := &mi{notes: notes(), raised: func(m *mi, e wakeEvent) { m.notes["sipwake_op_"+e.Op] = "nonsense" }}
	_, err := serve(t, m).Wake(t.Context(), held, back, false)
	if want := `cannot signal node "edge1": it wrote the unknown outcome "nonsense"`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestTimeoutAndContext(t *testing.T) {
	m := &mi{notes: notes()} // takes the event, notes nothing
	n := serve(t, m, func(c *node.Config) { c.Timeout = 50 * time.Millisecond })
	if _, err := n.Wake(t.Context(), held, back, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	n = serve(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.GiveUp(ctx, held); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("two words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := func(change func(*node.Config), want string) {
		t.Helper()
		cfg := node.Config{URL: "http://127.0.0.1:8888"}
		change(&cfg)
		if _, err := New("edge1", cfg, nil, slog.New(slog.DiscardHandler)); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	bad(func(c *node.Config) { c.URL = "" }, "url: must be http or https, host and port, such as http://127.0.0.1:8888")
	bad(func(c *node.Config) { c.URL = "sip:127.0.0.1" }, "url: must be http or https, host and port, such as http://127.0.0.1:8888")
	bad(func(c *node.Config) { c.URL = "http://u:p@127.0.0.1/" }, "url: must hold no user, query or fragment")
	bad(func(c *node.Config) { c.Secret = secret.NewText("a b") }, "secret: "+"must be printable ASCII without spaces and double quotes")
	bad(func(c *node.Config) { c.Secret, c.SecretFile = secret.NewText("a"), file }, "secret: must not be set beside secret_file")
	bad(func(c *node.Config) { c.SecretFile = file }, "secret_file: "+file+" "+"must be printable ASCII without spaces and double quotes")
	bad(func(c *node.Config) { c.Timeout = -1 }, "timeout: must be from 1ms to 1m")
	bad(func(c *node.Config) { c.Connections = -1 }, "connections: must be from 1 to 10000")
}

// A probe tells apart what can be wrong.
func TestProbe(t *testing.T) {
	m := &mi{notes: notes()}
	if err := serve(t, m).Probe(t.Context()); err != nil {
		t.Error(err)
	}
	want := map[string]any{"method": "cache_fetch", "params": map[string]any{"system": "local", "attr": "sipwake_probe"}}
	if diff := cmp.Diff([]map[string]any{want}, m.seen); diff != "" {
		t.Error(diff)
	}
	f := func(code int, body string, want error) {
		t.Helper()
		n := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}))
		if err := n.Probe(t.Context()); !errors.Is(err, want) {
			t.Errorf("HTTP %d %s: got %v, want %v", code, body, err, want)
		}
	}
	f(403, "", errForbidden)
	f(401, "", errForbidden)
	f(404, "", node.ErrOther)
	f(200, `{"result":{"key":"sipwake_probe","value":"x"}}`, node.ErrOther)
	f(200, `{"error":{"code":-32601,"message":"Method not found"}}`, node.ErrOther)
	f(200, `{"error":{"code":500,"message":"Cache fetch command failed"}}`, node.ErrOther) // without the script
	n := serve(t, m, func(c *node.Config) { c.URL = "http://127.0.0.1:1" })
	if err := n.Probe(t.Context()); !errors.As(err, new(*node.NoAnswerError)) {
		t.Errorf("nobody listens: %v", err)
	}
}
