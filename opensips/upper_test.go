package opensips

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/upper"
)

// TestRegisterUpper: the script is told by an event what it sends; a contact of another
// node is not refreshed here, and a script without the event is that of no gateway.
func TestRegisterUpper(t *testing.T) {
	m := &mi{}
	n := serve(t, m)
	r := upper.Request{Node: "edge1", Key: "r1-4", AOR: "bob@example.com", Server: "sip:192.0.2.30:5060", URI: "sip:example.com",
		To: "sip:bob@example.com", Contact: "sip:bob@192.0.2.10:5060;swup=62", Expires: 60, Authorization: `Digest username="bob"`}
	if err := n.RegisterUpper(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	params := m.seen[0]["params"].(map[string]any)
	var e map[string]string
	if err := json.Unmarshal([]byte(params["params"].(string)), &e); err != nil {
		t.Fatal(err)
	}
	if e["key"] == "" {
		t.Error("no key")
	}
	delete(e, "key")
	want := map[string]string{"call": r.Key, "aor": r.AOR, "server": r.Server, "uri": r.URI, "to": r.To, "contact": r.Contact, "expires": "60",
		"authorization": r.Authorization}
	if d := cmp.Diff(want, e); d != "" || params["event"] != "E_GW_UPPER" {
		t.Errorf("event %v: want -, got +:\n%s", params["event"], d)
	}

	refused := func(n Node, node, contact string, want bool) {
		t.Helper()
		r.Node, r.Contact = node, contact
		if err := n.RegisterUpper(t.Context(), r); err == nil || errors.Is(err, upper.ErrRefused) != want {
			t.Errorf("%v, want refused %v", err, want)
		}
	}
	refused(n, "edge2", "sip:x@192.0.2.11", true)
	refused(n, "edge1", "", true)
	answers := func(status int, body string) Node {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
	}
	refused(answers(200, `{"jsonrpc":"2.0","error":{"code":404,"message":"Event not found"},"id":1}`), "edge1", "sip:x@192.0.2.10", true)
	refused(answers(503, ""), "edge1", "sip:x@192.0.2.10", false)
}
