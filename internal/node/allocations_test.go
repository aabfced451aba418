//go:build !race

package node

import (
	"net"
	"testing"

	"github.com/sipwake/sipwake/internal/secret"
)

// TestAllocations holds what a signal costs.
func TestAllocations(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 52\r\n\r\n" + `{"jsonrpc":"2.0","id":1,"result":{"status":"added"}}`)
		buf := make([]byte, 4096)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}()
	c := newClient(t, Config{URL: "http://" + l.Addr().String(), Secret: secret.NewText("x")})
	params := struct {
		Call string `json:"call"`
	}{"1-1"}
	n := testing.AllocsPerRun(200, func() {
		ctx, cancel := c.Bound(t.Context())
		defer cancel()
		var res struct{ Status string }
		if err := c.Call(ctx, "wake", params, &res); err != nil || res.Status != "added" {
			t.Fatal(res.Status, err)
		}
	})
	const most = 30
	if n > most {
		t.Errorf("%v allocations a signal, %v are allowed", n, most)
	}
}
