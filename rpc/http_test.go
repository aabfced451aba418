package rpc

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What is not HTTP as it should be is answered and closed.
func TestHTTPShapes(t *testing.T) {
	s := serve(t, Config{}, nil)
	chunked := "30\r\n" + info + "\r\n0\r\n\r\n"
	for name, c := range map[string]struct {
		text   string
		status int
		open   bool
	}{
		"plain":                   {post("", info), 200, true},
		"HTTP/1.0":                {"POST /rpc HTTP/1.0\r\nContent-Length: 48\r\n\r\n" + info, 200, false},
		"HTTP/1.0, to be kept":    {"POST /rpc HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 48\r\n\r\n" + info, 200, true},
		"chunked":                 {"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked, 200, true},
		"length, and chunked":     {"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 48\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked, 400, false},
		"chunked, and length":     {"POST /rpc HTTP/1.1\r\nHost: x\r\ntransfer-encoding: Chunked\r\ncontent-length: 3\r\n\r\n" + chunked, 400, false},
		"identity":                {"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 48\r\n\r\n" + info, 400, false},
		"identity without length": {"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n" + post("", info), 400, false},
		"HTTP/9.9":                {"POST /rpc HTTP/9.9\r\nHost: x\r\nContent-Length: 48\r\n\r\n" + info, 505, false},
		"HTTP/2.0":                {"POST /rpc HTTP/2.0\r\nHost: x\r\nContent-Length: 48\r\n\r\n" + info, 505, false},
		"HTTP/2's preface":        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, false},
		"HTTP/1.2":                {"POST /rpc HTTP/1.2\r\nHost: x\r\nContent-Length: 48\r\n\r\n" + info, 505, false},
		"two lengths":             {"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 48\r\nContent-Length: 48\r\n\r\n" + info, 400, false},
		"no HTTP":                 {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, false},
		"a body too large":        {post("", strings.Repeat(" ", 70_000)), 413, false},
		"no headers":              {"POST /rpc HTTP/1.1\r\n\r\n", 400, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.dial("")
			if status, body, open := ask(t, conn, c.text); status != c.status || open != c.open {
				t.Errorf("%d %s, open %v, want %d, open %v", status, body, open, c.status, c.open)
			}
			if !c.open {
				_, _ = io.Copy(io.Discard, conn) // ends, or the test does after half a minute
			}
		})
	}
}

// A client that asks first is told first.
func TestExpect(t *testing.T) {
	s := serve(t, withToken(t, Config{}), nil)
	const expect = "Expect: 100-continue\r\n"
	for name, c := range map[string]struct {
		headers string
		status  int
	}{
		"too large":    {proven + expect + "Content-Length: 10000000\r\n\r\n", 413},
		"another path": {proven + expect + "Content-Length: 48\r\n\r\n", 404},
		"two framings": {proven + expect + "Transfer-Encoding: chunked\r\nContent-Length: 48\r\n\r\n", 400},
	} {
		conn := s.dial("")
		path := "/rpc"
		if c.status == 404 {
			path = "/"
		}
		if status, _, open := ask(t, conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\n"+c.headers); status != c.status || open {
			t.Errorf("%s: %d, open %v, want %d", name, status, open, c.status)
		}
		closes(t, name, conn)
	}
	conn := s.dial("")
	if _, err := io.WriteString(conn, "POST /rpc HTTP/1.1\r\nHost: x\r\n"+proven+expect+"Content-Length: 48\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = r.ReadString('\n')
	if _, err := io.WriteString(conn, info); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
}

// Connections that are opened in advance, or hang in a request, end without a
// word: a request that is sent in that moment must not take it for its answer.
func TestIdleConnectionsEndSilently(t *testing.T) {
	s := serve(t, Config{}, nil, func(s *Server) { s.http.ReadTimeout = 200 * time.Millisecond })
	for name, text := range map[string]string{"nothing": "", "half a request": "POST /rpc HTTP/1.1\r\nHo", "half a body": "POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 48\r\n\r\n{"} {
		conn := s.dial("")
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		closes(t, name, conn)
	}
}
