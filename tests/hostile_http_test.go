package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// chaotic is a client that sends almost HTTP.
type chaotic struct {
	*rand.Rand
	addr string
}

// text returns a request, or several, with what a chaotic client does to them.
func (c *chaotic) text() []byte {
	info := `{"jsonrpc":"2.0","id":1,"method":"service.info"}`
	body := []string{info, "[" + info + "," + info + ",7]", `{"jsonrpc":"2.0","method":"wake.start","params":{}}`, "[[[[", ""}[c.IntN(5)]
	head := []string{"POST /rpc HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1\r\nHost: x\r\n", "POST /rpc HTTP/1.0\r\n", "PRI * HTTP/2.0\r\n\r\n"}[c.IntN(4)]
	auth := []string{"", "Authorization: Bearer no\r\n", "Authorization: Bearer " + chaoticToken + "\r\n"}[c.IntN(3)]
	var b []byte
	switch c.IntN(4) {
	case 0:
		b = fmt.Appendf(nil, "%s%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, auth, len(body), body)
	case 1:
		b = fmt.Appendf(nil, "%s%sExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", head, auth, len(body), body)
	default:
		b = fmt.Appendf(nil, "%s%sContent-Length: %d\r\n\r\n%s", head, auth, len(body), body)
	}
	b = bytes.Repeat(b, 1+c.IntN(3))
	for range c.IntN(6) {
		i := c.IntN(len(b) + 1)
		j := i + c.IntN(len(b)-i+1)
		switch c.IntN(5) {
		case 0:
			b = append(bytes.Clone(b[:i]), b[min(j, i+8):]...)
		case 1:
			b = append(bytes.Clone(b[:j]), b[i:]...)
		case 2:
			if i < len(b) {
				b[i] ^= byte(1 + c.IntN(255))
			}
		case 3:
			b = b[:i]
		case 4:
			parts := []string{"\r\n", "\n", "\x00", " ", ":", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n",
				"HTTP/9.9", "99999999999999999999", "-1", "Connection: close\r\n", strings.Repeat("X-A: b\r\n", 500), strings.Repeat("a", 5000)}
			b = append(append(bytes.Clone(b[:i]), parts[c.IntN(len(parts))]...), b[i:]...)
		}
		if len(b) == 0 {
			break
		}
	}
	return b
}

// once sends it, and waits for the answers, leaves, or stays with half of it.
func (c *chaotic) once(stay *[]net.Conn) {
	conn, err := net.DialTimeout("tcp", c.addr, 5*time.Second)
	if err != nil {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
	_, _ = conn.Write(c.text())
	switch c.IntN(3) {
	case 0:
		_, _ = io.Copy(io.Discard, conn)
	case 1:
		if len(*stay) < 200 {
			*stay = append(*stay, conn)
			return
		}
	}
	conn.Close()
}

const chaoticToken = "c4a0-token-of-the-proxy"

// While others send almost HTTP and hold all connections that they get, every request of
// the proxy is answered, on its old connections and on new ones.
func TestHostileHTTP(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{rpc: patient + "\n  connections: 100\n  token_files: [" + writeTemp(t, chaoticToken) + "]"})
	r.auth = chaoticToken
	const seed = 20260101
	var (
		stop atomic.Bool
		sent atomic.Int64
		all  sync.WaitGroup
	)
	for i := range 4 {
		all.Go(func() {
			c := &chaotic{rand.New(rand.NewPCG(seed, uint64(i))), r.app.RPCAddr()}
			var stay []net.Conn
			for !stop.Load() {
				c.once(&stay)
				sent.Add(1)
			}
			for _, conn := range stay {
				conn.Close()
			}
		})
	}
	began, good := time.Now(), 0
	for ; time.Since(began) < 4*time.Second; good++ {
		if good%10 == 9 { // another connection
			http.DefaultClient.CloseIdleConnections()
		}
		aor := fmt.Sprintf("user%d@example.com", good%20)
		status, answer := r.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"binding.list","params":{"aor":%q}}`, good, aor))
		if status != 200 || !strings.HasPrefix(string(answer), fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":`, good)) {
			t.Errorf("request %d of the proxy: %d %s", good, status, answer)
			break
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if status, text := r.get(path); status != 200 {
				t.Errorf("%s: %d %s", path, status, text)
			}
		}
	}
	stop.Store(true)
	all.Wait()
	took := time.Since(began)
	t.Logf("%d of the proxy's requests beside %d chaotic ones", good, sent.Load())
	if n := r.requests("unknown", "-32603"); n != 0 {
		t.Errorf("%v internal errors", n)
	}
	kinds := map[string]int{}
	for line := range strings.Lines(r.logs.String()) {
		var l struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Errorf("not a line of the log: %s", line)
		}
		if l.Level != "DEBUG" {
			kinds[l.Msg]++
		}
	}
	for kind, n := range kinds {
		if n > int(took.Seconds())+3 {
			t.Errorf("%d lines of %q in %s", n, kind, took)
		}
	}
}
