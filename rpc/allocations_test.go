//go:build !race

package rpc

import (
	"testing"

	"github.com/valyala/fastjson"
)

// TestAllocations holds what a request costs before its method and after it.
func TestAllocations(t *testing.T) {
	body := []byte(`{"jsonrpc":"2.0","id":7,"method":"wake.start","params":{"node":"edge1","aor":"user@example.com","call_id":"call-1",` +
		`"call":"1-1","kind":"call","from":"sip:caller@example.com","display":"Alice","hold_s":30}}`)
	var parser fastjson.Parser
	dst := make([]byte, 0, 512)
	f := func(what string, most float64, do func()) {
		t.Helper()
		if n := testing.AllocsPerRun(200, do); n > most {
			t.Errorf("%s: %v allocations, %v are allowed", what, n, most)
		}
	}
	f("a request read and answered", 3, func() {
		v, err := parser.ParseBytes(body)
		if err != nil {
			t.Fatal(err)
		}
		req, e := parseRequest(v, dst[:0])
		if e != nil || newParams(req.params).str("aor") == "" {
			t.Fatal(e)
		}
		dst = beginResponse(dst[:0], req.id)
	})
	r := registerResult{Status: "refreshed", Code: 200, FeatureCaps: []string{`*;+sip.pns="apns"`}, Devices: 1, Sleeps: true, Contact: `"A" <sip:a@192.0.2.1>`}
	f("the result of binding.register", 0, func() { dst = r.appendJSON(dst[:0]) })
	s := startResult{Outcome: "pushing", Devices: 1, HoldS: 30, UUID: "0193e1c4-0000-7000-8000-000000000001"}
	f("the result of wake.start", 0, func() { dst = s.appendJSON(dst[:0]) })
}
