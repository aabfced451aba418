package rpc

import (
	"bytes"
	"log/slog"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// A caller who shows nothing cannot have the tokens of the phones, not even from
// this machine, and is told how.
func TestExportNeedsProof(t *testing.T) {
	cfg := Config{Networks: []string{"192.0.2.0/24", "127.0.0.0/8", "::1/128"}}
	cfg.SetDefaults()
	s, err := New(cfg, Backend{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"binding.export", "binding.import", "store.backup"} {
		for _, body := range []string{`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"limit":0}}`,
			`[{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{"limit":0}}]`} {
			for _, peer := range []string{"192.0.2.7", "127.0.0.1", "::1"} {
				var ctx fasthttp.RequestCtx
				var req fasthttp.Request
				req.Header.SetMethod(fasthttp.MethodPost)
				req.SetRequestURI("/rpc")
				req.SetBodyString(body)
				ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(peer)}, nil)
				s.handle(&ctx)
				answer := ctx.Response.Body()
				if !bytes.Contains(answer, []byte(`"code":-32001`)) || !bytes.Contains(answer, []byte("rpc.token_files")) {
					t.Errorf("%s from %s: %s", method, peer, answer)
				}
			}
		}
	}
}
