package kamailio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "s3cret-of-the-node"

var (
	held = wake.Wake{AOR: "alice@example.com", Node: "edge1", Call: "4711-99", CallID: "call@host"}
	back = wake.Registration{Binding: wake.Binding{
		AOR: "alice@example.com", Node: "edge1", Contact: "sip:alice@192.0.2.7;pn-provider=apns;pn-prid=A%3AB",
		CallID: "reg@host", CSeq: 4294967295, Source: "tls:192.0.2.7:5061",
	}}
)

var edges = map[string]string{"edge1": "sip:192.0.2.1", "edge2": "sip:192.0.2.2:5060;transport=tcp"}

// serve starts a server and a node that signals it.
func serve(t *testing.T, h http.HandlerFunc, change ...func(*node.Config)) Node {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cfg := node.Config{URL: s.URL, Secret: secret.NewText(password), Timeout: 10 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	n, err := New("edge1", cfg, edges, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func answer(status string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"status":%q}}`, status)
	}
}

// received is one request as a node sees it.
type received struct {
	Method, Path, Authorization, ContentType string
	Body                                     map[string]any
}

func TestWhatIsSent(t *testing.T) {
	var got received
	n := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = received{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), nil}
		if err := json.NewDecoder(r.Body).Decode(&got.Body); err != nil {
			t.Error(err)
		}
		status := "added"
		if got.Body["method"] == "give_up" {
			status = "ok"
		}
		answer(status)(w, r)
	})
	f := func(what string, signal func() (wake.Signal, error), status wake.Signal, body map[string]any) {
		t.Helper()
		s, err := signal()
		if err != nil || s != status {
			t.Errorf("%s: got %q, %v; want %q", what, s, err, status)
		}
		body["jsonrpc"], body["id"] = "2.0", 1.0
		want := received{"POST", "/sipwake", "Bearer " + password, "application/json", body}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	params := func() map[string]any {
		return map[string]any{
			"call": "4711-99", "contact": back.Contact, "call_id": "reg@host",
			"cseq": 4294967295.0, "source": "tls:192.0.2.7:5061",
		}
	}
	f("wake", func() (wake.Signal, error) { return n.Wake(t.Context(), held, back, false) }, wake.SignalAdded,
		map[string]any{"method": "wake", "params": params()})
	forced := params()
	forced["force"] = 1.0
	f("forced", func() (wake.Signal, error) { return n.Wake(t.Context(), held, back, true) }, wake.SignalAdded,
		map[string]any{"method": "wake", "params": forced})
	for flow, want := range map[string]string{
		"tls:192.0.2.7:5061":     "<sip:192.0.2.2:5060;transport=tcp;lr;received=sip:192.0.2.7:5061%3Btransport%3Dtls>",
		"wss:[2001:db8::7]:5061": "<sip:192.0.2.2:5060;transport=tcp;lr;received=sip:[2001:db8::7]:5061%3Btransport%3Dws>",
		"udp:192.0.2.7:5061":     "<sip:192.0.2.2:5060;transport=tcp;lr;received=sip:192.0.2.7:5061%3Btransport%3Dudp>",
		"udp:x>;<sip:evil":       "",
		"":                       "",
	} {
		elsewhere, sent := back, params()
		elsewhere.Node, elsewhere.Source, sent["source"] = "edge2", flow, flow
		if want != "" {
			sent["path"] = want
		}
		f("from another node", func() (wake.Signal, error) { return n.Wake(t.Context(), held, elsewhere, false) }, wake.SignalAdded,
			map[string]any{"method": "wake", "params": sent})
	}
	f("give up", func() (wake.Signal, error) { return n.GiveUp(t.Context(), held) }, wake.SignalOK,
		map[string]any{"method": "give_up", "params": map[string]any{"call": "4711-99"}})
}

func TestStatuses(t *testing.T) {
	type signal func(Node) (wake.Signal, error)
	wakes := func(n Node) (wake.Signal, error) { return n.Wake(t.Context(), held, back, false) }
	givesUp := func(n Node) (wake.Signal, error) { return n.GiveUp(t.Context(), held) }
	good := func(s signal, status wake.Signal) {
		t.Helper()
		if got, err := s(serve(t, answer(string(status)))); err != nil || got != status {
			t.Errorf("%s: got %q, %v", status, got, err)
		}
	}
	bad := func(s signal, status string) {
		t.Helper()
		got, err := s(serve(t, answer(status)))
		if got != "" || err == nil || !strings.Contains(err.Error(), `node "edge1"`) {
			t.Errorf("%s: got %q, %v", status, got, err)
		}
	}
	for _, s := range []wake.Signal{wake.SignalAdded, wake.SignalDuplicate, wake.SignalGone, wake.SignalNoContact} {
		good(wakes, s)
	}
	for _, s := range []wake.Signal{wake.SignalOK, wake.SignalGone, wake.SignalBusy} {
		good(givesUp, s)
	}
	for _, s := range []string{"ok", "busy", "", "Added", "something"} {
		bad(wakes, s)
	}
	for _, s := range []string{"added", "dup", "nocontact", ""} {
		bad(givesUp, s)
	}
}

func TestBadAnswers(t *testing.T) {
	f := func(code int, body, want string) {
		t.Helper()
		n := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
		_, err := n.Wake(t.Context(), held, back, false)
		if want = `cannot signal node "edge1": ` + want; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if got := fmt.Sprintf("%v %+v %#v", err, n, n); strings.Contains(got, password) {
			t.Errorf("shows the secret: %s", got)
		}
	}
	f(403, "forbidden\n", "it refused the secret: compare secret_file with the node's SIPWAKE_SECRET")
	f(404, "", "it answered HTTP 404")
	f(500, `{"result":{"status":"added"}}`, "it answered HTTP 500")
	f(307, "", "it answered HTTP 307")
	f(200, "", "its answer is not JSON-RPC")
	f(200, "<html>", "its answer is not JSON-RPC")
	f(200, `{"result":{"status":1}}`, "its answer has an unexpected form")
	f(200, `{"result":{"status":"`+strings.Repeat("x", 16<<10)+`"}}`, "its answer is not JSON-RPC")
	f(200, `{"error":{"code":-32601,"message":"method not found"}}`, `it answered error -32601: "method not found"`)
	f(200, `{}`, "its answer is not JSON-RPC")
	f(200, `{"result":{}}`, `it answered with the unknown status ""`)
}

func TestForbiddenIsKnown(t *testing.T) {
	n := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	if _, err := n.GiveUp(t.Context(), held); !errors.Is(err, wake.ErrForbidden) {
		t.Errorf("got %v", err)
	}
}

func TestContextAndTimeoutEndASignal(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 2)
	silent := func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
	}
	t.Run("cancelled", func(t *testing.T) {
		n := serve(t, silent)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		if _, err := n.Wake(ctx, held, back, false); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		release <- struct{}{}
	})
	t.Run("timeout", func(t *testing.T) {
		n := serve(t, silent, func(c *node.Config) { c.Timeout = 20 * time.Millisecond })
		_, err := n.Wake(t.Context(), held, back, false)
		if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	n := serve(t, nil, func(c *node.Config) { c.URL = "http://" + addr })
	if _, err := n.GiveUp(t.Context(), held); err == nil || !strings.HasPrefix(err.Error(), `cannot signal node "edge1": `) {
		t.Errorf("got %v", err)
	}
}

// One connection serves signals one after another, and at most Connections are
// ever open.
func TestConnectionsAreKeptAndBounded(t *testing.T) {
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(answer("added"))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	signals := func(n Node, parallel int) {
		var wg sync.WaitGroup
		for range parallel {
			wg.Go(func() {
				for range 20 {
					if _, err := n.Wake(t.Context(), held, back, false); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	atMost := func(url string, parallel, connections int) {
		t.Helper()
		opened.Store(0)
		n := serve(t, nil, func(c *node.Config) { c.URL, c.Connections = url, connections })
		signals(n, parallel)
		if got := int(opened.Load()); got > min(parallel, connections) {
			t.Errorf("%d connections for %d callers, bound %d", got, parallel, connections)
		}
	}
	atMost(s.URL, 1, 64)
	atMost(s.URL, 16, 4)
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	base := func() node.Config {
		return node.Config{URL: "http://192.0.2.1:5060", SecretFile: file("good", password+"\n")}
	}
	bad := func(change func(*node.Config), want string) {
		t.Helper()
		c := base()
		change(&c)
		_, err := New("edge1", c, nil, slog.New(slog.DiscardHandler))
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	bad(func(c *node.Config) { c.URL = "" }, "url: must be http or https, host and port, such as http://192.0.2.1:5060")
	bad(func(c *node.Config) { c.URL = "sip:host" }, "url: must be http or https, host and port, such as http://192.0.2.1:5060")
	bad(func(c *node.Config) { c.URL = "192.0.2.1:5060" }, "url: must be http or https, host and port, such as http://192.0.2.1:5060")
	bad(func(c *node.Config) { c.URL = "http://me:pw@192.0.2.1" }, "url: must hold no user, query or fragment")
	bad(func(c *node.Config) { c.SecretFile = "" }, "secret_file: must be set: the file with the node's SIPWAKE_SECRET")
	bad(func(c *node.Config) { c.Secret = secret.NewText("x") }, "secret: must not be set beside secret_file")
	bad(func(c *node.Config) { c.SecretFile, c.Secret = "", secret.NewText("a\r\nb") }, "secret: "+"must be printable ASCII without spaces and double quotes")
	bad(func(c *node.Config) { c.Timeout = time.Hour }, "timeout: must be from 1ms to 1m")
	bad(func(c *node.Config) { c.Timeout = -1 }, "timeout: must be from 1ms to 1m")
	bad(func(c *node.Config) { c.Connections = -1 }, "connections: must be from 1 to 10000")
	empty, odd := file("empty", "\n"), file("odd", "two words")
	bad(func(c *node.Config) { c.SecretFile = empty }, "secret_file: cannot read secret: "+empty+" is empty")
	bad(func(c *node.Config) { c.SecretFile = odd }, "secret_file: "+odd+" "+"must be printable ASCII without spaces and double quotes")
}

// A probe tells apart what can be wrong.
func TestProbe(t *testing.T) {
	f := func(code int, body string, want error) {
		t.Helper()
		var got received
		n := serve(t, func(w http.ResponseWriter, r *http.Request) {
			got = received{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), nil}
			_ = json.NewDecoder(r.Body).Decode(&got.Body)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
		if err := n.Probe(t.Context()); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("HTTP %d %s: got %v, want %v", code, body, err, want)
		}
		// The script wants a call's key in each request.
		if got.Body["method"] != "probe" || got.Authorization != "Bearer "+password || got.Body["params"].(map[string]any)["call"] != "probe" {
			t.Errorf("sent was %+v", got)
		}
	}
	f(200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found"}}`, nil)
	f(403, "forbidden", errForbidden)
	f(404, "not found", node.ErrOther)
	f(200, "<html>", node.ErrOther)
	f(200, `{"result":{"status":"ok"}}`, node.ErrOther)
	f(200, `{"error":{"code":500,"message":"Method Not Found"}}`, node.ErrOther)
	n := serve(t, nil, func(c *node.Config) { c.URL = "http://127.0.0.1:1" })
	if err := n.Probe(t.Context()); !errors.As(err, new(*node.NoAnswerError)) {
		t.Errorf("nobody listens: %v", err)
	}
}
