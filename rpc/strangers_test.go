package rpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/labca"
)

const proven = "Authorization: Bearer " + serveToken + "\r\n"

// Who is refused is not kept.
func TestRefusedConnectionsAreClosed(t *testing.T) {
	s := serve(t, withToken(t, Config{RateLimit: 3}), nil)
	for name, c := range map[string]struct {
		from, text string
		status     int
	}{
		"no token":       {"127.0.0.2", post("", info), 401},
		"another token":  {"127.0.0.2", post("Authorization: Bearer no\r\n", info), 401},
		"another path":   {"127.0.0.3", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"another method": {"127.0.0.3", "GET /rpc HTTP/1.1\r\nHost: x\r\n\r\n", 405},
	} {
		conn := s.dial(c.from)
		if status, _, open := ask(t, conn, c.text); status != c.status || open {
			t.Errorf("%s: %d, open %v, want %d and closed", name, status, open, c.status)
		}
		closes(t, name, conn)
	}
	known := s.dial("127.0.0.4")
	for range 3 {
		if status, _, open := ask(t, known, post(proven, info)); status != 200 || !open {
			t.Fatalf("with the token: %d, open %v", status, open)
		}
	}
	if status, _, open := ask(t, known, post(proven, info)); status != 503 || !open {
		t.Errorf("too many requests of a client that is known: %d, open %v", status, open)
	}
	stranger := s.dial("127.0.0.4")
	if status, _, open := ask(t, stranger, post(proven, info)); status != 503 || open {
		t.Errorf("too many requests on a new connection: %d, open %v", status, open)
	}
	eventually := s.dial("127.0.0.5")
	if status, _, open := ask(t, eventually, post("", info)); status != 401 || open {
		t.Errorf("%d, open %v", status, open)
	}

	elsewhere := serve(t, Config{Networks: []string{"192.0.2.0/24"}}, nil)
	if status, _, _ := ask(t, elsewhere.dial(""), "GET / HTTP/1.0\r\n\r\n"); status != 404 || elsewhere.logs.String() != "" {
		t.Errorf("how sipwake looks whether RPC answers: %d, %s", status, elsewhere.logs)
	}
	conn := elsewhere.dial("")
	if status, _, open := ask(t, conn, post("", info)); status != 403 || open {
		t.Errorf("from another network: %d, open %v", status, open)
	}
	closes(t, "from another network", conn)
}

// However many connections strangers open, a proxy has its own, keeps it and gets
// new ones: with a token and without, with TLS and without.
func TestStrangersLeaveRoom(t *testing.T) {
	ca, cert, key := certified(t)
	token := withToken(t, Config{})
	for name, c := range map[string]struct {
		cfg     Config
		headers string
		tls     bool
	}{
		"token":         {Config{TokenFiles: token.TokenFiles}, proven, false},
		"token and TLS": {Config{TokenFiles: token.TokenFiles, CertFile: cert, KeyFile: key}, proven, true},
		"nothing":       {Config{}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Connections = 20
			s := serve(t, c.cfg, nil)
			if c.tls {
				s.ca = ca
			}
			old := s.dial("")
			if status, _, _ := ask(t, old, post(c.headers, info)); status != 200 {
				t.Fatalf("before: %d", status)
			}
			var strangers []net.Conn
			for i := range 100 { // silent ones, and ones that drip
				conn, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if i%2 == 0 {
					_, _ = conn.Write([]byte("POST /rpc HT"))
				}
				strangers = append(strangers, conn)
			}
			for range 40 {
				conn := s.dial("")
				if status, _, _ := ask(t, conn, post(c.headers, info)); status != 200 {
					t.Fatalf("a new connection of the proxy: %d", status)
				}
				conn.Close()
			}
			status, _, _ := ask(t, old, post(c.headers, info))
			if want := c.headers != ""; (status == 200) != want { // who proves nothing gives way
				t.Errorf("the old connection of the proxy: %d", status)
			}
			closes(t, "the first stranger", strangers[0])
		})
	}
}

// A proxy without a token that works on more connections than a client may have
// waiting is not refused.
func TestManyWorkersOfOneProxy(t *testing.T) {
	const workers = 30
	begun, gate := make(chan struct{}), make(chan struct{})
	s := serve(t, Config{Connections: 100, ConnectionsPerClient: 5}, map[string]method{
		"service.wait": func(context.Context, *params) (any, error) {
			begun <- struct{}{}
			<-gate
			return "done", nil
		}})
	answered := make(chan int, workers)
	for range workers {
		conn := s.dial("")
		go func() {
			status, _, _ := ask(t, conn, post("", `{"jsonrpc":"2.0","id":1,"method":"service.wait"}`))
			answered <- status
		}()
		<-begun
	}
	close(gate)
	for range workers {
		if status := <-answered; status != 200 {
			t.Errorf("one of the workers: %d", status)
		}
	}
}

// certified returns a CA and the files of a certificate of 127.0.0.1.
func certified(t *testing.T) (ca *labca.CA, certFile, keyFile string) {
	t.Helper()
	ca, err := labca.New("test")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return ca, write("cert.pem", "CERTIFICATE", c.Certificate[0]), write("key.pem", "PRIVATE KEY", der)
}

// Refusals without end are a line a second, with the number dropped.
func TestRefusalsAreALineASecond(t *testing.T) {
	s := serve(t, withToken(t, Config{}), nil)
	began := time.Now()
	for range 200 {
		if status, _, _ := ask(t, s.dial(""), post("", info)); status != 401 {
			t.Fatalf("%d", status)
		}
	}
	most := int(time.Since(began).Seconds()) + 2
	s.log.Close() // says what is left
	n, said := 0, s.logs.String()
	for line := range strings.Lines(said) {
		if strings.Contains(line, `"level":"WARN","msg":"request not authorised"`) && strings.Contains(line, `"peer":"127.0.0.1"`) {
			n++
		}
	}
	if n < 2 || n > most+1 || !strings.Contains(said, `"dropped":`) {
		t.Errorf("%d lines of 200 refusals:\n%s", n, said)
	}
}
