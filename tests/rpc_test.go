package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestRPCEnvelope(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{rpc: "  max_batch: 3\n  max_body: 2048"})
	for _, c := range []struct {
		name, body string
		status     int
		want       string // substring of the answer; "" for an empty one
	}{
		{"not JSON", `{"jsonrpc":"2.0",`, 200, `"code":-32700`},
		{"empty body", ``, 200, `"code":-32700`},
		{"a string", `"x"`, 200, `"code":-32600`},
		{"version 1", `{"jsonrpc":"1.0","id":1,"method":"service.load"}`, 200, `"code":-32600`},
		{"id is an object", `{"jsonrpc":"2.0","id":{},"method":"service.load"}`, 200, `"code":-32600`},
		{"method is a number", `{"jsonrpc":"2.0","id":"a","method":1}`, 200, `"id":"a","error":{"code":-32600`},
		{"no such method", `{"jsonrpc":"2.0","id":7,"method":"no.such"}`, 200, `"id":7,"error":{"code":-32601`},
		{"params by position", `{"jsonrpc":"2.0","id":7,"method":"binding.list","params":["x"]}`, 200, `"field":"params"`},
		{"id is kept", `{"jsonrpc":"2.0","id":"x\"y","method":"service.load"}`, 200, `"id":"x\"y","result":{"load":0`},
		{"null id", `{"jsonrpc":"2.0","id":null,"method":"service.load"}`, 200, `"id":null,"result"`},
		{"notification", `{"jsonrpc":"2.0","method":"service.load"}`, 204, ``},
		{"notification of an unknown method", `{"jsonrpc":"2.0","method":"no.such"}`, 204, ``},
		{"batch", `[{"jsonrpc":"2.0","id":1,"method":"service.load"},{"jsonrpc":"2.0","method":"service.load"},{"jsonrpc":"2.0","id":2,"method":"no.such"}]`, 200, `[{"jsonrpc":"2.0","id":1,"result"`},
		{"batch of notifications", `[{"jsonrpc":"2.0","method":"service.load"}]`, 204, ``},
		{"empty batch", `[]`, 200, `"code":-32600`},
		{"batch too large", `[1,2,3,4]`, 200, `"code":-32600`},
		{"too deep", strings.Repeat("[", 17) + strings.Repeat("]", 17), 200, `nested deeper than 16`},
		{"brackets in a string are not depth", `{"jsonrpc":"2.0","id":1,"method":"binding.list","params":{"aor":"` + strings.Repeat("[", 40) + `@x"}}`, 200, `"bindings":[]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, answer := r.post(c.body)
			if status != c.status || !strings.Contains(string(answer), c.want) || (c.want == "") != (len(answer) == 0) {
				t.Errorf("got %d %s, want %d %s", status, answer, c.status, c.want)
			}
			if len(answer) > 0 && !json.Valid(answer) {
				t.Errorf("the answer is not JSON: %s", answer)
			}
		})
	}
	t.Run("body too large", func(t *testing.T) {
		if status, _ := r.post(strings.Repeat(" ", 2049)); status != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d", status)
		}
	})
	t.Run("wrong path and method", func(t *testing.T) {
		for _, c := range []struct {
			method, path string
			want         int
		}{{http.MethodGet, "/rpc", http.StatusMethodNotAllowed}, {http.MethodPost, "/", http.StatusNotFound}} {
			req, err := http.NewRequest(c.method, strings.TrimSuffix(r.url, "/rpc")+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != c.want {
				t.Errorf("%s %s: %d, want %d", c.method, c.path, res.StatusCode, c.want)
			}
		}
	})
}

// A wrong parameter is named, and nothing is stored.
func TestRPCBadParams(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	contact := apnsContact("bob", apnsToken(1))
	good := map[string]obj{
		"binding.register": {"node": nodeID, "aor": "bob@example.com", "contact": contact, "call_id": "r", "cseq": 1, "expires": 60},
		"wake.start":       {"node": nodeID, "aor": "bob@example.com", "call_id": "c", "call": "1-1", "kind": "call", "hold_s": 30},
		"wake.end":         {"node": nodeID, "aor": "bob@example.com", "call_id": "c", "call": "1-1", "reason": "answered"},
		"push.send":        {"aor": "bob@example.com", "kind": "custom"},
		"binding.list":     {"aor": "bob@example.com"},
		"wake.trace":       {"aor": "bob@example.com"},
	}
	for _, c := range []struct {
		method, param string
		value         any
		field         string
		code          int
	}{
		{"binding.register", "aor", 5, "aor", -32602},
		{"binding.register", "aor", nil, "aor", -32602},
		{"binding.register", "aor", "bob@", "aor", -32602},
		{"binding.register", "aor", "bob smith@x", "aor", -32602},
		{"binding.register", "aor", strings.Repeat("a", 300), "aor", -32602},
		{"binding.register", "contact", []int{1}, "contact", -32602},
		{"binding.register", "contact", "<sip:bob@192.0.2.7", "contact", -32602},
		{"binding.register", "call_id", "", "call_id", -32602},
		{"binding.register", "cseq", "many", "cseq", -32602},
		{"binding.register", "cseq", -1, "cseq", -32602},
		{"binding.register", "cseq", 1.5, "cseq", -32602},
		{"binding.register", "expires", "soon", "expires", -32602},
		{"binding.register", "headers", "X", "headers", -32602},
		{"binding.register", "headers", obj{"X-MPUSH": 1}, `headers."X-MPUSH"`, -32602},
		{"binding.register", "node", "", "node", -32602},
		{"binding.register", "node", "http://192.0.2.1/", "node", -32004},
		{"wake.start", "call", nil, "call", -32602},
		{"wake.start", "kind", "custom", "kind", -32602},
		{"wake.start", "contact", 5, "contact", -32602},
		{"wake.start", "source", 5, "source", -32602},
		{"wake.start", "hold_s", -1, "hold_s", -32602},
		{"wake.start", "hold_s", "long", "hold_s", -32602},
		{"wake.start", "node", "other", "node", -32004},
		{"wake.end", "reason", "tired", "reason", -32602},
		{"wake.end", "code", 1000, "code", -32602},
		{"push.send", "data", obj{"a": 1}, `data."a"`, -32602},
		{"push.send", "ttl_s", 1e9, "ttl_s", -32602},
		{"push.send", "aor", nil, "aor", -32602},
		{"binding.list", "aor", nil, "aor", -32602},
		{"wake.trace", "aor", "bob@", "aor", -32602},
		{"wake.trace", "user", "bob", "user", -32602},
		{"wake.trace", "since_ms", "soon", "since_ms", -32602},
		{"wake.trace", "limit", 0, "limit", -32602},
		{"wake.trace", "limit", 201, "limit", -32602},
		{"wake.trace", "cursor", "%", "cursor", -32602},
	} {
		t.Run(fmt.Sprintf("%s %s %.20v", c.method, c.param, c.value), func(t *testing.T) {
			p := obj{}
			for k, v := range good[c.method] {
				p[k] = v
			}
			p[c.param] = c.value
			e := r.try(c.method, p, nil)
			if e == nil || e.Code != c.code || e.Data.Field != c.field {
				t.Errorf("got %+v, want %d for %s", e, c.code, c.field)
			}
		})
	}
	if n := r.bindings("bob@example.com"); n != 0 {
		t.Errorf("bad requests stored %d bindings", n)
	}
	p := good["binding.register"]
	p["cseq"], p["expires"], p["surprise"] = "3", "60", []int{1} // strings of digits, unknown parameters
	r.call("binding.register", p, nil)
}

func TestRPCAuthentication(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, "81d0-first-token\n") + ", " + writeTemp(t, "52fa-second-token") + "]\n" +
		"  networks: [127.0.0.0/8]"})
	for token, want := range map[string]int{"": 401, "a-wrong-token": 401, "81d0-first-toke": 401, "81d0-first-token": 200, "52fa-second-token": 200} {
		r.auth = token
		if status, answer := r.post(`{"jsonrpc":"2.0","id":1,"method":"service.load"}`); status != want {
			t.Errorf("token %q: %d %s", token, status, answer)
		}
	}
	other := newRig(t, rigOptions{rpc: "  networks: [192.0.2.0/24]"})
	if status, _ := other.post(`{"jsonrpc":"2.0","id":1,"method":"service.load"}`); status != http.StatusForbidden {
		t.Errorf("from a network that may not: %d", status)
	}
}

func writeTemp(t *testing.T, text string) string {
	t.Helper()
	return (&rig{t: t, dir: t.TempDir()}).write("file", text)
}

// RFC 8599: what a REGISTER is told about push.
func TestRegisterAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{wake: "  reject_555: true"})
	const unserved = "the push service or the app is not served here"
	for _, c := range []struct {
		name, contact string
		headers       obj
		want          registerResult
	}{
		{"apns", apnsContact("bob", apnsToken(1)), nil,
			registerResult{Status: "stored", Code: 200, Sleeps: true, FeatureCaps: []string{`*;+sip.pns="apns"`}, Devices: 1}},
		{"the same again", apnsContact("bob", apnsToken(1)), nil,
			registerResult{Status: "refreshed", Code: 200, Sleeps: true, FeatureCaps: []string{`*;+sip.pns="apns"`}, Devices: 1}},
		{"second device by X-MPUSH", "<sip:bob@192.0.2.9>", obj{"X-MPUSH": "a:org.example.phone:fcm:with:colons"},
			registerResult{Status: "stored", Code: 200, Sleeps: true, FeatureCaps: []string{`*;+sip.pns="fcm"`}, Devices: 2}},
		{"query for all", "<sip:bob@192.0.2.9;pn-provider>", nil,
			registerResult{Status: "queried", Code: 200, FeatureCaps: []string{`*;+sip.pns="apns"`, `*;+sip.pns="fcm"`}, Devices: 2}},
		{"unknown service", "<sip:bob@192.0.2.9;pn-provider=acme;pn-prid=x>", nil,
			registerResult{Status: "refused", Code: 555, FeatureCaps: []string{}, Devices: 2, Problem: unserved}},
		{"app of somebody else", strings.Replace(apnsContact("bob", apnsToken(2)), bundle, "com.other", 1), nil,
			registerResult{Status: "refused", Code: 555, FeatureCaps: []string{}, Devices: 2, Problem: unserved}},
		{"push data that cannot be", strings.Replace(apnsContact("bob", apnsToken(1)), "voip", "voip%", 1), nil,
			registerResult{Status: "refused", Code: 200, FeatureCaps: []string{}, Devices: 2, Problem: "contact: pn-param has a bad percent escape"}},
		{"a header that cannot be", "<sip:bob@192.0.2.9>", obj{"X-MPUSH": "nonsense"},
			registerResult{Status: "refused", Code: 200, FeatureCaps: []string{}, Devices: 2, Problem: "X-MPUSH: is not PROVIDER:PACKAGE:TOKEN"}},
		{"ordinary SIP", "<sip:bob@192.0.2.10>", nil,
			registerResult{Status: "none", Code: 200, FeatureCaps: []string{}, Devices: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := r.register("bob@example.com", c.contact, obj{"headers": c.headers, "call_id": c.name})
			if strings.Contains(got.Contact, "pn-") || got.Sleeps && !strings.Contains(got.Contact, ";swid=") || c.name == "ordinary SIP" && got.Contact != "" {
				t.Errorf("the Contact to save is %q", got.Contact)
			}
			got.Contact = ""
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	t.Run("X-MPUSH: null unbinds", func(t *testing.T) {
		got := r.register("bob@example.com", "<sip:bob@192.0.2.9>", obj{"headers": obj{"X-MPUSH": "null"}, "call_id": "second device by X-MPUSH", "cseq": 2})
		if got.Status != "removed" || got.Devices != 1 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("the app switches to another account", func(t *testing.T) {
		r.register("carol@example.com", apnsContact("carol", apnsToken(1)), obj{"call_id": "carol"})
		if n := r.bindings("bob@example.com"); n != 1 {
			t.Errorf("an account that is registered keeps %d bindings, want 1", n)
		}
		r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "the same again", "cseq": 2, "expires": 0})
		r.register("carol@example.com", apnsContact("carol", apnsToken(1)), obj{"call_id": "carol", "cseq": 2})
		if n := r.bindings("bob@example.com"); n != 0 {
			t.Errorf("the old account keeps %d bindings", n)
		}
		if n := r.bindings("carol@example.com"); n != 1 {
			t.Errorf("the new account has %d bindings, want 1", n)
		}
	})
}

// Who asks for a registration at a PBX hears what is missing, and not that sipwake fails.
func TestUpperErrorsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, docToken) + "]"})
	r.auth = docToken
	if answer := r.as(docToken, "upper.refresh", obj{"aor": "ann@acme.example"}); !strings.Contains(answer, `"code":-32601`) || !strings.Contains(answer, "upper.key_file is not set") {
		t.Errorf("switched off: %s", answer)
	}
	on := newRig(t, rigOptions{more: upperSection(t, ""), rpc: "  token_files: [" + writeTemp(t, docToken) + "]"})
	on.auth = docToken
	var res registerResult
	on.call("binding.register", obj{"node": nodeID, "aor": "ann@acme.example", "contact": fcmContact("ann", "fcm-token-ann"), "call_id": "a", "cseq": 1, "expires": 600,
		"headers": obj{"X-PIID": ha1("x", "y")}, "upper": obj{"granted": "600", "server": "sip:pbx.example", "uri": "sip:pbx.example",
			"to": "sip:ann@acme.example", "user": "ann", "realm": "pbx.example"}}, &res)
	for _, method := range []string{"upper.refresh", "upper.remove"} { // the node of this test is no gateway
		if answer := on.as(docToken, method, obj{"aor": "ann@acme.example"}); !strings.Contains(answer, `"code":-32003`) || !strings.Contains(answer, "no gateway can ask") {
			t.Errorf("%s: %s", method, answer)
		}
	}
}
