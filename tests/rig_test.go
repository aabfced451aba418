// Package tests has the end-to-end tests: whole sipwakes with real servers. rig_test.go
// starts a sipwake with a simulated APNs, a simulated FCM and a recorded SIP node.
// proxy_*_test.go runs on any real SIP proxy, kamailio_*_test.go on Kamailio only.
package tests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
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

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/leak"
)

const (
	bundle  = "org.example.phone"
	team    = "TEAM123456"
	project = "example-phone"
	nodeID  = "edge1"
)

// rig is one sipwake with everything around it.
type rig struct {
	t       *testing.T
	apns    *apnssim.Server
	fcm     *fcmsim.Server
	node    *node
	app     *app.App
	logs    *lockedBuffer // nil: nothing is logged
	said    *said
	dir     string
	file    string // configuration
	url     string // RPC
	auth    string // bearer token, if any
	prepare func(*rig, *config.Config)
}

type rigOptions struct {
	store  string // lines below "store:"; default the embedded store
	rpc    string // lines below "rpc:" besides listen
	wake   string // lines below "wake:" besides recent
	recent time.Duration
	apns   apnssim.Options
	fcm    fcmsim.Options

	operations string // more lines of "operations:"
	more       string // more sections
	apnsConfig string // more lines of the APNs app
	fcmConfig  string // more lines of the FCM app

	prepare func(*rig, *config.Config) // changes what was loaded before it starts
}

// noLimits lets a few callers call without end.
const noLimits = "  limits: {pair: 0, caller: 0, aor: 0}"

// newRig starts everything and ends it with the test.
func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	leak.Secret(nodeSecret)
	r := &rig{t: t, dir: t.TempDir(), logs: &lockedBuffer{}, said: newSaid(t), node: newNode(t)}
	r.startProviders(o)
	r.writeConfig(o)
	r.prepare = o.prepare
	r.start()
	return r
}

func (r *rig) startProviders(o rigOptions) {
	var err error
	if r.apns, err = apnssim.Start(o.apns); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.apns.Close)
	if r.fcm, err = fcmsim.Start(o.fcm); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.fcm.Close)
}

func (r *rig) writeConfig(o rigOptions) {
	r.t.Helper()
	key, err := r.apns.MakeKey(r.dir, team, "KEY1234567")
	if err != nil {
		r.t.Fatal(err)
	}
	account, err := r.fcm.MakeAccount(r.dir, project)
	if err != nil {
		r.t.Fatal(err)
	}
	if o.store == "" {
		o.store = "  type: local\n  local:\n    path: " + filepath.Join(r.dir, "bindings.db")
	}
	if strings.Contains(o.store, "type: redis") && !strings.Contains(o.store, "fallback:") {
		o.store += "\n  fallback:\n    spool: " + filepath.Join(r.dir, "spool")
	}
	if o.recent == 0 {
		o.recent = 50 * time.Millisecond
	}
	text := fmt.Sprintf(`
rpc:
  listen: 127.0.0.1:0
%s
operations:
  listen: 127.0.0.1:0
%s
log:
  level: debug
store:
%s
wake:
  recent: %s
%s
nodes:
  - id: %s
    url: %s
    secret_file: %s
apns:
  - bundle_id: %s
    team_id: %s
    key_id: KEY1234567
    key_file: %s
    endpoint: %s
    sandbox_endpoint: %s
    ca_file: %s
%s
fcm:
  - packages: [org.example.phone]
    credentials_file: %s
    endpoint: %s
    ca_file: %s
%s
%s
`, o.rpc, o.operations, o.store, o.recent, o.wake, nodeID, r.node.url(), r.write("node.secret", nodeSecret), bundle, team, key,
		r.apns.URL(), r.apns.URL(), r.write("apns-ca.pem", string(r.apns.CA())), o.apnsConfig, account, r.fcm.URL(),
		r.write("fcm-ca.pem", string(r.fcm.CA())), o.fcmConfig, o.more)
	r.file = r.write("sipwake.yml", text)
}

func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// start starts sipwake from the configuration file; stop ends it, at the latest
// with the test.
func (r *rig) start() {
	r.t.Helper()
	cfg, err := config.Load(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.prepare != nil {
		r.prepare(r, cfg)
	}
	log := slog.DiscardHandler
	if r.logs != nil {
		log = slog.NewJSONHandler(io.MultiWriter(r.logs, r.said), &slog.HandlerOptions{Level: slog.LevelDebug})
	}
	a, err := app.New(cfg, "test", slog.New(log))
	if err != nil {
		r.t.Fatal(err)
	}
	r.app = a
	r.t.Cleanup(func() { stop(r.t, a) })
	if err := a.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.url = "http://" + a.RPCAddr() + "/rpc"
	r.t.Cleanup(func() { r.said.last(a, r.auth) })
}

func stop(t *testing.T, a *app.App) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		t.Errorf("cannot stop: %v", err)
	}
}

// rpcError is the error object of an answer.
type rpcError struct {
	Code    int
	Message string
	Data    struct{ Field string }
}

// try calls a method and returns the error object of the answer, if there is one.
func (r *rig) try(method string, params, result any) *rpcError {
	r.t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		r.t.Fatal(err)
	}
	var answer struct {
		Result json.RawMessage
		Error  *rpcError
	}
	_, text := r.post(string(body))
	if err := json.Unmarshal(text, &answer); err != nil {
		r.t.Fatalf("%s: %v in %q", method, err, text)
	}
	if answer.Error == nil && result != nil {
		if err := json.Unmarshal(answer.Result, result); err != nil {
			r.t.Fatalf("%s: %v in %q", method, err, text)
		}
	}
	return answer.Error
}

// call is try for a method that must succeed.
func (r *rig) call(method string, params, result any) {
	r.t.Helper()
	if e := r.try(method, params, result); e != nil {
		r.t.Fatalf("%s: %d %s", method, e.Code, e.Message)
	}
}

// post sends a body to the RPC interface.
func (r *rig) post(body string) (status int, answer []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	leak.Body(body)
	if r.auth != "" {
		leak.Secret(r.auth)
		req.Header.Set("Authorization", "Bearer "+r.auth)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		r.t.Fatal(err)
	}
	r.said.answer(body, b.Bytes())
	return res.StatusCode, b.Bytes()
}

// get fetches a path of the operations listener.
func (r *rig) get(path string) (status int, text string) {
	r.t.Helper()
	res, err := http.Get("http://" + r.app.OperationsAddr() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, b.String()
}

type (
	obj            map[string]any
	registerResult struct {
		Status      string
		Code        int
		MinExpires  int      `json:"min_expires"`
		FeatureCaps []string `json:"feature_caps"`
		Devices     int
		Wakes       int
		Sleeps      bool
		Contact     string
		Problem     string
	}
	startResult struct {
		Outcome string
		Devices int
		HoldS   int `json:"hold_s"`
	}
)

// register reports a REGISTER; over overrides parameters.
func (r *rig) register(aor, contact string, over obj) (res registerResult) {
	r.t.Helper()
	p := obj{"node": nodeID, "aor": aor, "contact": contact, "call_id": "reg-" + aor, "cseq": 1,
		"expires": 600, "source": "udp:127.0.0.1:5070", "user_agent": "phone/1"}
	for k, v := range over {
		p[k] = v
	}
	r.call("binding.register", p, &res)
	return res
}

// startWake reports a held INVITE.
func (r *rig) startWake(aor, call string, over obj) (res startResult) {
	r.t.Helper()
	p := obj{"node": nodeID, "aor": aor, "call_id": "call-" + call, "call": call, "kind": "call",
		"from": "sip:alice@example.com", "display": "Alice", "hold_s": 30}
	for k, v := range over {
		p[k] = v
	}
	r.call("wake.start", p, &res)
	return res
}

// endWake reports the end of a held INVITE.
func (r *rig) endWake(aor, call, reason string) (pending bool) {
	r.t.Helper()
	var res struct{ Pending bool }
	r.call("wake.end", obj{"node": nodeID, "aor": aor, "call_id": "call-" + call, "call": call, "reason": reason, "code": 200}, &res)
	return res.Pending
}

// bindings counts the bindings of an AOR.
func (r *rig) bindings(aor string) int {
	r.t.Helper()
	var res struct{ Bindings []any }
	r.call("binding.list", obj{"aor": aor}, &res)
	return len(res.Bindings)
}

// apnsContact and fcmContact return Contact headers of phones that sleep.
func apnsContact(user, token string) string {
	return fmt.Sprintf("<sip:%s@192.0.2.7:5070;pn-provider=apns;pn-param=%s.%s.voip;pn-prid=%s>", user, team, bundle, token)
}

func fcmContact(user, token string) string {
	return fmt.Sprintf("<sip:%s@192.0.2.8:5070;pn-provider=fcm;pn-param=%s;pn-prid=%s>", user, project, token)
}

// apnsToken returns a device token of 32 bytes, different for each n.
func apnsToken(n int) string {
	token := fmt.Sprintf("%x", sha256.Sum256([]byte(fmt.Sprint("apns", n))))
	leak.Secret(token)
	return token
}

// pushes counts the pushes that the simulated APNs saw for a token.
func (r *rig) pushes(token string) int {
	n := 0
	for _, p := range r.apns.Pushes() {
		if p.Token.Reveal() == token {
			n++
		}
	}
	return n
}

// eventually waits for a condition on a system that gives no event to wait for.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// lockedBuffer collects logs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const nodeSecret = "5f1c93-of-the-node"

// signal is one request that a node got.
type signal struct {
	Method string
	Params struct {
		Call    string
		Contact string
		CallID  string `json:"call_id"`
		CSeq    int
		Source  string
		Force   int
	}
	At time.Time
}

// node is a SIP node as sipwake sees it: an HTTP server that answers signals. It
// says "added" to the first wake of a contact, "dup" to the next, and "ok" to
// give_up, unless answer says otherwise.
type node struct {
	server         *httptest.Server
	opened, closed atomic.Int64 // connections

	mu      sync.Mutex
	signals []signal
	rung    map[string]bool
	answer  func(s signal, n int) string // n counts the signals, from 1; "" is the default answer
	arrived chan struct{}
}

func newNode(t *testing.T) *node {
	n := &node{rung: make(map[string]bool), arrived: make(chan struct{}, 1<<16)}
	n.server = httptest.NewUnstartedServer(http.HandlerFunc(n.serve))
	n.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			n.opened.Add(1)
		case http.StateClosed:
			n.closed.Add(1)
		}
	}
	n.server.Start()
	t.Cleanup(n.server.Close)
	return n
}

func (n *node) url() string { return n.server.URL }

func (n *node) serve(w http.ResponseWriter, req *http.Request) {
	var s signal
	if req.Header.Get("Authorization") != "Bearer "+nodeSecret || json.NewDecoder(req.Body).Decode(&s) != nil {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if s.Method == "probe" {
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found"}}`)
		return
	}
	if s.Method == "alert" { // the caller is its own affair
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"status":"ok"}}`)
		return
	}
	s.At = time.Now()
	n.mu.Lock()
	n.signals = append(n.signals, s)
	status := ""
	if n.answer != nil {
		status = n.answer(s, len(n.signals))
	}
	key := s.Params.Call + " " + s.Params.Contact
	switch {
	case status != "":
	case s.Method == "give_up":
		status = "ok"
	case s.Method == "over":
		status = "told"
	case n.rung[key]:
		status = "dup"
	default:
		n.rung[key] = true
		status = "added"
	}
	n.mu.Unlock()
	if status == "broken" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"status":%q}}`, status)
	n.arrived <- struct{}{}
}

// seen returns the signals of a method for a held request.
func (n *node) seen(method, call string) []signal {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []signal
	for _, s := range n.signals {
		if s.Method == method && s.Params.Call == call {
			found = append(found, s)
		}
	}
	return found
}

// waitFor waits until the node has got a signal.
func (n *node) waitFor(t *testing.T, method, call string) signal {
	t.Helper()
	for {
		if s := n.seen(method, call); len(s) > 0 {
			return s[0]
		}
		select {
		case <-n.arrived:
		case <-time.After(30 * time.Second):
			t.Fatalf("the node was never told to %s %s", method, call)
		}
	}
}
