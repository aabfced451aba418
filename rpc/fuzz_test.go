package rpc

import (
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

// Whatever is a request has a method; whatever is not has an error that can be
// answered; the answer is JSON with the id that was sent.
func FuzzRequest(f *testing.F) {
	f.Add(`{"jsonrpc":"2.0","id":"a\u0000\"","method":"x","params":{"y":[1e9,null]}}`)
	f.Add(`{"jsonrpc":"2.0","id":1e400,"method":"x"}`)
	f.Add(`{"jsonrpc":"2.0","id":NaN,"method":"x"}`)
	f.Add(`[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]`)
	f.Fuzz(func(t *testing.T, body string) {
		var p fastjson.Parser
		deep := tooDeep([]byte(body))
		v, err := p.Parse(body)
		if err != nil {
			return
		}
		if got := depth(v) > maxDepth; got != deep {
			t.Fatalf("deeper than %d: %v, tooDeep says %v", maxDepth, got, deep)
		}
		req, e := parseRequest(v, nil)
		if e == nil && v.Type() != fastjson.TypeObject {
			t.Fatal("a request that is no object")
		}
		answer := append(beginResponse(nil, req.id), `,"result":{}}`...)
		if e != nil {
			answer = appendError(nil, req.id, e)
		}
		var read struct {
			ID            json.RawMessage
			Result, Error map[string]any
		}
		if err := json.Unmarshal(answer, &read); err != nil || (read.Result == nil) == (read.Error == nil) {
			t.Fatalf("%q: %v", answer, err)
		}
		if req.id != nil && utf8.ValidString(body) {
			back, err := fastjson.ParseBytes(read.ID)
			if err != nil || back.Type() != req.id.Type() || back.String() != req.id.String() {
				t.Fatalf("id %s became %s", req.id, read.ID)
			}
		}
		params := newParams(req.params)
		params.str("aor")
		params.number("cseq", 0, 0, 10)
		params.seconds("hold_s", maxHold)
		params.boolean("all")
		params.strings("live")
		params.stringMap("headers")
		if params.err != nil && !json.Valid(appendError(nil, nil, toError(params.err))) {
			t.Fatalf("%v makes no JSON", params.err)
		}
	})
}

func depth(v *fastjson.Value) int {
	deepest := 0
	switch v.Type() {
	case fastjson.TypeArray:
		for _, x := range v.GetArray() {
			deepest = max(deepest, depth(x))
		}
	case fastjson.TypeObject:
		v.GetObject().Visit(func(_ []byte, x *fastjson.Value) { deepest = max(deepest, depth(x)) })
	default:
		return 0
	}
	return 1 + deepest
}

// What binding.import takes is what binding.export would show of it.
func FuzzImport(f *testing.F) {
	f.Add(`[{"aor":"bob@example.com","provider":"apns","tokens":[{"service":"voip","token":"ab"},{"token":"cd"}],"no_calls":true}]`)
	f.Add(`[{"provider":"webpush","tokens":[{"token":"https://push.example.com/x"}],"p256dh":"a","auth":"b","expires_at":"2026-01-01T00:00:00Z"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		var list []exported
		if json.Unmarshal([]byte(text), &list) != nil {
			return
		}
		for _, e := range list {
			if e.P256dh == "" {
				e.Auth = "" // one without the other is no key
			}
			if e.Tokens == nil {
				e.Tokens = []exportedToken{}
			}
			if again := newExported(e.binding()); !reflect.DeepEqual(again, e) {
				t.Fatalf("%+v became %+v", e, again)
			}
		}
	})
}
