package rpc

import (
	"bytes"
	"log/slog"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// A caller from a network that may connect, but without a token and from another
// machine, cannot have the tokens of the phones.
func TestExportFromAnotherMachine(t *testing.T) {
	cfg := Config{Networks: []string{"192.0.2.0/24", "127.0.0.0/8"}}
	cfg.SetDefaults()
	s, err := New(cfg, Backend{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"binding.export", "binding.import"} {
		for _, body := range []string{`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"limit":0}}`,
			`[{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"limit":0}}]`} {
			for peer, code := range map[string]string{"192.0.2.7": `"code":-32001`, "127.0.0.1": `"code":-32602`} {
				var ctx fasthttp.RequestCtx
				var req fasthttp.Request
				req.Header.SetMethod(fasthttp.MethodPost)
				req.SetRequestURI("/rpc")
				req.SetBodyString(body)
				ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(peer)}, nil)
				s.handle(&ctx)
				if !bytes.Contains(ctx.Response.Body(), []byte(code)) {
					t.Errorf("%s from %s: %s, want %s", method, peer, ctx.Response.Body(), code)
				}
			}
		}
	}
}
