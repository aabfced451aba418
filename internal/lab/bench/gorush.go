package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// appleHost is where gorush pushes to. No setting changes it.
const appleHost = "api.push.apple.com"

// gorush is a running gorush, a push server that operators use where sipwake knows of
// calls. See https://github.com/appleboy/gorush.
type gorush struct {
	*target
	*stack.Process
	proxy *httptest.Server
}

func (g *gorush) stop() {
	g.Stop()
	g.proxy.Close()
}

// startGorush starts the gorush that is on PATH, or returns nil if there is none. It is
// configured as in production for such a load, and its pushes come to the simulator
// through an HTTP proxy. Its connection is HTTP/2 over TLS, stays open, and is verified:
// the simulator has a certificate for Apple's host name, and the process trusts no other
// authority. The proxy makes gorush put net/http above its HTTP/2 client, which costs it 3
// to 4 µs a push.
func (s *stage) startGorush(ctx context.Context) (*gorush, error) {
	program, err := exec.LookPath("gorush")
	if errors.Is(err, exec.ErrNotFound) {
		fmt.Fprintln(os.Stderr, "bench: there is no gorush on PATH, so it is left out")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	port, err := stack.FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(s.dir, "gorush.yml")
	proxy := connectProxy(appleHost+":443", s.apns.Host())
	if err := os.WriteFile(config, gorushConfig(port, proxy.URL, s.key), 0o600); err != nil {
		proxy.Close()
		return nil, err
	}
	at := fmt.Sprintf("127.0.0.1:%d", port)
	// It writes a line for each request to standard error, and no setting stops it.
	const line = `SSL_CERT_FILE=$2 SSL_CERT_DIR=/nonexistent exec "$0" -c "$1" 2>/dev/null`
	p, err := stack.StartProgram(ctx, "gorush", "/bin/sh", s.dir, []string{"-c", line, program, config, s.ca},
		func(ctx context.Context) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", at)
			if err == nil {
				conn.Close()
			}
			return err
		})
	if err != nil {
		proxy.Close()
		return nil, err
	}
	return &gorush{newTarget("http://" + at + "/api/push"), p, proxy}, nil
}

// gorushWorkers is how many pushes gorush sends at once. By default it is one for each
// core, which costs a push a third more. With 64 to 512 it costs the same.
const gorushWorkers = 200

// gorushConfig has no more than what differs from gorush's defaults. A request is answered
// when its push is queued, the usual way.
func gorushConfig(port int, proxy, key string) []byte {
	return fmt.Appendf(nil, `core: {address: 127.0.0.1, port: "%d", worker_num: %d, queue_num: 100000, mode: release, http_proxy: %q}
android: {enabled: false}
ios: {enabled: true, production: true, key_path: %q, key_type: p8, key_id: %s, team_id: %s, max_concurrent_pushes: 1000}
log: {access_log: /dev/null, access_level: error, error_log: stdout}
`, port, gorushWorkers, proxy, key, keyID, team)
}

// gorushPush returns what a proxy's script posts for the n-th call of a caller. The push
// is about as long as sipwake's, see TestGorushPush, but flat, which is cheaper to read.
func gorushPush(caller, n int) []byte {
	user := caller*callees + n%callees
	return fmt.Appendf(nil, `{"notifications":[{"tokens":["%s"],"platform":1,"topic":"%s.voip","push_type":"voip","priority":"high","expiration":%d,"data":%s}]}`,
		token(user, 64), bundle, time.Now().Add(30*time.Second).Unix(), gorushData(caller, n, user))
}

func gorushData(caller, n, user int) []byte {
	return fmt.Appendf(nil, `{"ntype":"0","nfromusername":"Alice","nfrom":"caller%d","nmsg":"","ncallid":"call-%d-%d","ntousr":"user%d",`+
		`"nfromuri":"sip:caller%d@example.com","handle":"caller%d","callUUID":"0193e1c4-0000-7000-8000-000000000001","display":"Alice","media":"","more":"%s"}`,
		caller, caller, n, user, caller, caller, strings.Repeat("x", 165))
}

// queued checks an answer of gorush.
func queued(answer []byte) error {
	if !bytes.Contains(answer, []byte(`"success":"ok"`)) || !bytes.Contains(answer, []byte(`"logs":[]`)) {
		return fmt.Errorf("not queued: %.200s", answer)
	}
	return nil
}

// gorushPushes measures the cost of a push, from the request to the push service's 200.
func (b *bench) gorushPushes(ctx context.Context) error {
	g := b.gorush
	if _, err := b.wakes(ctx, b.Round/5, g.target, gorushPush, queued); err != nil { // connects
		return err
	}
	err := b.loaded("gorush push", g.PID(), func() (int, error) { return b.wakes(ctx, b.Round, g.target, gorushPush, queued) })
	if err != nil {
		return err
	}
	b.ratio("gorush cpu of a call's, local", "gorush push cpu", "call, local cpu")
	b.ratio("gorush cpu of a call's without 180, local", "gorush push cpu", "call without 180, local cpu")
	return nil
}

// connectProxy starts an HTTP proxy that connects those who ask for the host to the
// address instead (RFC 9110 section 9.3.6), and nobody else.
func connectProxy(host, address string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != host {
			http.Error(w, "this proxy is for "+host, http.StatusForbidden)
			return
		}
		server, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		fmt.Fprintf(client, "HTTP/1.1 200 OK\r\n\r\n")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(server, client) // until one of them has gone
			server.Close()
		}()
		_, _ = io.Copy(client, server)
		client.Close()
		<-ended
	}))
}
