package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
)

// FuzzRPC sends arbitrary bodies to a whole sipwake. It must not crash, must answer JSON-RPC
// with a documented code and never an internal error, and must store only valid data.
func FuzzRPC(f *testing.F) {
	call := func(method, params string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
	}
	for _, body := range []string{
		call("binding.register", `{"node":"edge1","aor":"bob@example.com","contact":"<sip:bob@192.0.2.7;pn-provider=hms;pn-prid=token-of-the-phone>","call_id":"r","cseq":1,"expires":600}`),
		call("binding.register", `{"node":"edge1","aor":"bob@example.com","contact":"<sip:bob@192.0.2.7>","headers":{"X-MPUSH":"a:app:fcm:x"},"call_id":"r","expires":0}`),
		call("wake.start", `{"node":"edge1","aor":"bob@example.com","call_id":"c","call":"1-1","kind":"call","from":"sip:a@b","live":["r"],"hold_s":"1.5"}`),
		call("wake.progress", `{"node":"edge1","aor":"bob@example.com","call_id":"c","call":"1-1","contact":"r","code":180}`),
		call("wake.end", `{"node":"edge1","aor":"bob@example.com","call_id":"c","call":"1-1","reason":"answered","code":200}`),
		call("push.send", `{"provider":"hms","token":"token-of-the-phone","kind":"custom","data":{"a":"b"},"ttl_s":1}`),
		call("push.status", `{"id":"x"}`),
		call("binding.list", `{"all":true,"limit":2,"cursor":"x"}`),
		call("binding.remove", `{"aor":"bob@example.com","device":"x"}`),
		call("binding.import", `{"bindings":[{"aor":"bob@example.com","provider":"hms","tokens":[{"token":"x"}],"registered_at":"2026-01-01T00:00:00Z"}]}`),
		call("wake.trace", `{"call_id":"c"}`), call("service.load", `null`), call("service.info", `{}`),
		"[" + call("service.load", `{}`) + "," + call("none", `[]`) + ",1]",
		`{"jsonrpc":"2.0","method":"wake.end"}`, `[]`, `{`, "\xff", strings.Repeat("[", 40),
	} {
		f.Add([]byte(body))
	}
	a := fuzzed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		status, answer := send(t, a, body)
		switch {
		case status == http.StatusNoContent && len(answer) == 0:
		case status == http.StatusRequestEntityTooLarge:
		case status == http.StatusOK || status == http.StatusServiceUnavailable:
			checkAnswer(t, answer)
		default:
			t.Fatalf("%d %s", status, answer)
		}
		checkStored(t, a)
	})
}

const fuzzToken = "2b90-token-of-the-fuzzer"

// fuzzed returns a sipwake with one push service, which is not there.
func fuzzed(f *testing.F) *app.App {
	f.Helper()
	dir := f.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
		return file
	}
	cfg, err := config.Load(write("sipwake.yml", fmt.Sprintf(`
rpc: {listen: "127.0.0.1:0", deadline: 10s, token_files: [%s]}
operations: {listen: "127.0.0.1:0"}
store: {local: {path: %s}}
nodes: [{id: edge1, url: "http://127.0.0.1:1", secret_file: %s}]
webhooks: [{provider: hms, url: "http://127.0.0.1:1/", secret_file: %s}]
`, write("token", fuzzToken), filepath.Join(dir, "bindings.db"), write("node", nodeSecret), write("hook", "7d20a1-of-the-webhook"))))
	if err != nil {
		f.Fatal(err)
	}
	a, err := app.New(cfg, "fuzz", slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = a.Stop(f.Context()) })
	if err := a.Start(); err != nil {
		f.Fatal(err)
	}
	return a
}

func send(t *testing.T, a *app.App, body []byte) (status int, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.RPCAddr()+"/rpc", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+fuzzToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

// checkAnswer checks one response or a batch of them.
func checkAnswer(t *testing.T, text []byte) {
	t.Helper()
	list := []json.RawMessage{text}
	if bytes.HasPrefix(text, []byte("[")) {
		if err := json.Unmarshal(text, &list); err != nil || len(list) == 0 {
			t.Fatalf("%v: %s", err, text)
		}
	}
	for _, one := range list {
		var r struct {
			JSONRPC string
			Result  json.RawMessage
			Error   *rpcError
		}
		if err := json.Unmarshal(one, &r); err != nil || r.JSONRPC != "2.0" || (r.Result == nil) == (r.Error == nil) {
			t.Fatalf("%v: %s", err, one)
		}
		known := []int{-32700, -32600, -32601, -32602, -32001, -32002, -32004}
		if r.Error != nil && (!slices.Contains(known, r.Error.Code) || r.Error.Message == "") {
			t.Fatalf("%s", one)
		}
	}
}

// checkStored checks that every binding is whole, and removes it.
func checkStored(t *testing.T, a *app.App) {
	t.Helper()
	var r struct {
		Result struct {
			Bindings []struct {
				AOR, Device, Provider string
				Tokens                []struct{ Token string }
				Registered            string `json:"registered_at"`
			}
		}
	}
	_, text := send(t, a, []byte(`{"jsonrpc":"2.0","id":1,"method":"binding.export"}`))
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, b := range r.Result.Bindings {
		if !strings.Contains(b.AOR, "@") || b.Device == "" || b.Provider == "" || len(b.Tokens) == 0 || b.Tokens[0].Token == "" || b.Registered == "" {
			t.Fatalf("half a binding: %+v", b)
		}
		params, err := json.Marshal(obj{"jsonrpc": "2.0", "id": 1, "method": "binding.remove", "params": obj{"aor": b.AOR}})
		if err != nil {
			t.Fatal(err)
		}
		if _, text := send(t, a, params); !bytes.Contains(text, []byte(`"removed":`)) {
			t.Fatalf("a binding that cannot be removed: %+v: %s", b, text)
		}
	}
}
