package rpc

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/valyala/fastjson"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

// Error codes: those of JSON-RPC 2.0 and our own.
const (
	codeParse         = -32700
	codeInvalid       = -32600
	codeNoMethod      = -32601
	codeParams        = -32602
	codeInternal      = -32603
	codeNotAuthorised = -32001
	codeOverloaded    = -32002
	codeNoStore       = -32003
	codeUnknownNode   = -32004
	codeNotAllowed    = -32005
)

// rpcError is a JSON-RPC error object.
type rpcError struct {
	Code    int        `json:"code"`
	Message string     `json:"message"`
	Data    *errorData `json:"data,omitempty"`
}

type errorData struct {
	Field string `json:"field"`
}

func (e *rpcError) Error() string { return e.Message }

// toError converts an error of the rules to the error for the caller. Errors that
// are not the caller's concern are reported as internal errors.
func toError(err error) *rpcError {
	var (
		known *rpcError
		param *wake.ParamError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &param):
		return &rpcError{codeParams, "invalid params: " + param.Error(), &errorData{param.Field}}
	case errors.Is(err, wake.ErrUnknownNode):
		return &rpcError{codeUnknownNode, err.Error(), &errorData{"node"}}
	case errors.Is(err, upper.ErrOff):
		return &rpcError{Code: codeNoMethod, Message: "method not found: " + err.Error()}
	case errors.Is(err, upper.ErrRefused):
		return &rpcError{Code: codeNoStore, Message: upper.ErrAway.Error() + ": " + upper.ErrRefused.Error()}
	case errors.Is(err, upper.ErrAway): // its own error may be a timeout
		return &rpcError{Code: codeNoStore, Message: upper.ErrAway.Error() + ": service.info has how the nodes answer"}
	case errors.Is(err, wake.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &rpcError{Code: codeNoStore, Message: "store unavailable"}
	case errors.Is(err, wake.ErrBusy), errors.Is(err, outbox.ErrFull), errors.Is(err, upper.ErrBusy):
		return &rpcError{Code: codeOverloaded, Message: err.Error()}
	case errors.Is(err, wake.ErrStopped):
		return &rpcError{Code: codeOverloaded, Message: "stopping"}
	}
	return &rpcError{Code: codeInternal, Message: "internal error"}
}

// maxDepth limits the nesting of a request; the methods need four levels.
const maxDepth = 16

// tooDeep reports whether JSON text nests deeper than maxDepth. It looks only at
// brackets outside strings, so it is correct for valid JSON and harmless for
// anything else.
func tooDeep(b []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case inString:
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// request is one JSON-RPC request. Its values are valid as long as their parser.
type request struct {
	id     *fastjson.Value // nil for a notification
	method string
	params *fastjson.Value
}

func parseRequest(v *fastjson.Value, scratch []byte) (request, *rpcError) {
	var req request
	invalid := func(msg string) (request, *rpcError) {
		return req, &rpcError{Code: codeInvalid, Message: "invalid request: " + msg}
	}
	if v.Type() != fastjson.TypeObject {
		return invalid("must be an object")
	}
	id := v.Get("id")
	if id != nil && !isID(id, scratch) {
		return invalid("id must be a string, a number or null")
	}
	req.id = id
	if string(v.GetStringBytes("jsonrpc")) != "2.0" {
		return invalid(`jsonrpc must be "2.0"`)
	}
	m := v.Get("method")
	if m == nil || m.Type() != fastjson.TypeString {
		return invalid("method must be a string")
	}
	req.method, req.params = string(m.GetStringBytes()), v.Get("params")
	return req, nil
}

func isID(v *fastjson.Value, scratch []byte) bool {
	switch v.Type() {
	case fastjson.TypeString, fastjson.TypeNull:
		return true
	case fastjson.TypeNumber:
		text := v.MarshalTo(scratch)[len(scratch):]
		return plainNumber(text) || json.Valid(text) // the parser accepts NaN and the like
	}
	return false
}

// plainNumber reports whether the text is a number that consists only of digits.
func plainNumber(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) == 1 || len(b) > 1 && b[0] != '0'
}

// appendValue appends v as JSON. The parser's own writer quotes strings like Go, which
// is not valid JSON for control characters.
func appendValue(dst []byte, v *fastjson.Value) []byte {
	text := func(s []byte) { dst = appendText(dst, s) }
	switch v.Type() {
	case fastjson.TypeString:
		text(v.GetStringBytes())
	case fastjson.TypeArray:
		dst = append(dst, '[')
		for i, item := range v.GetArray() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, item)
		}
		dst = append(dst, ']')
	case fastjson.TypeObject:
		dst = append(dst, '{')
		first := true
		v.GetObject().Visit(func(key []byte, item *fastjson.Value) {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			text(key)
			dst = appendValue(append(dst, ':'), item)
		})
		dst = append(dst, '}')
	default:
		dst = v.MarshalTo(dst)
	}
	return dst
}

// beginResponse appends a response object up to its result or error. A nil id is
// written as null.
func beginResponse(dst []byte, id *fastjson.Value) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	if id == nil {
		return append(dst, "null"...)
	}
	return appendValue(dst, id)
}

// appendError appends a response object with an error.
func appendError(dst []byte, id *fastjson.Value, e *rpcError) []byte {
	dst = append(beginResponse(dst, id), `,"error":`...)
	b, err := json.Marshal(e)
	if err != nil {
		panic("BUG: cannot marshal an error object: " + err.Error())
	}
	dst = append(dst, b...)
	return append(dst, '}')
}
