package kamailio

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

// says is a node's answer to everything.
type says struct {
	status int
	body   []byte
}

// Whatever a node answers is a signal that we know, or an error that names neither
// the secret nor what a phone sent.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"jsonrpc":"2.0","id":1,"result":{"status":"added"}}`))
	f.Add(200, []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no\u0000such"}}`))
	f.Add(200, []byte(`{"result":{"status":"ok"},"error":null}`))
	f.Add(403, []byte("Forbidden"))
	var now atomic.Pointer[says]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(now.Load().status)
		_, _ = w.Write(now.Load().body)
	}))
	f.Cleanup(server.Close)
	n, err := New("edge1", node.Config{URL: server.URL, Secret: secret.NewText(password)}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		now.Store(&says{200 + max(status, -status)%400, body})
		w, err1 := n.Wake(t.Context(), held, back, true)
		g, err2 := n.GiveUp(t.Context(), held)
		if err1 == nil && !slices.Contains([]wake.Signal{wake.SignalAdded, wake.SignalDuplicate, wake.SignalUnsent, wake.SignalGone, wake.SignalNoContact}, w) ||
			err2 == nil && !slices.Contains([]wake.Signal{wake.SignalOK, wake.SignalGone, wake.SignalBusy}, g) {
			t.Fatalf("%q, %q", w, g)
		}
		for _, err := range []error{err1, err2} {
			if err != nil && (strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "pn-prid") && !bytes.Contains(body, []byte("pn-prid"))) {
				t.Fatal(err)
			}
		}
	})
}
