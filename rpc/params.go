package rpc

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/valyala/fastjson"

	"github.com/sipwake/sipwake/internal/copied"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// params reads the named parameters of a request. The first parameter of a wrong type
// becomes the error; after that the readers return zero values. Strings are copies:
// nothing of the request outlives its handler.
type params struct {
	v   *fastjson.Value
	err error

	traceParent string  // of the HTTP request
	by          *tenant // the caller

	texts copied.Texts
}

// usualTexts is how many bytes the strings of most requests have together.
const usualTexts = 192

func newParams(v *fastjson.Value) *params {
	p := &params{v: v, texts: copied.Texts{Usual: usualTexts}}
	if v != nil && v.Type() != fastjson.TypeObject {
		p.fail("params", "must be an object")
	}
	return p
}

func (p *params) fail(field, problem string) {
	if p.err == nil {
		p.err = &wake.ParamError{Field: field, Problem: problem}
	}
}

// get returns the parameter, or nil if it is absent or null.
func (p *params) get(name string) *fastjson.Value {
	if p.err != nil || p.v == nil {
		return nil
	}
	v := p.v.Get(name)
	if v == nil || v.Type() == fastjson.TypeNull {
		return nil
	}
	return v
}

func (p *params) str(name string) string {
	v := p.get(name)
	if v == nil {
		return ""
	}
	if v.Type() != fastjson.TypeString {
		p.fail(name, "must be a string")
		return ""
	}
	return p.texts.Copy(v.GetStringBytes())
}

// kind returns a push's kind, given as a word or a number. It returns unknown words
// unchanged.
func (p *params) kind(name string) push.Kind {
	v := p.get(name)
	if v == nil {
		return ""
	}
	text := p.text(name, v)
	if k, ok := push.ParseKind(text); ok {
		return k
	}
	return push.Kind(text)
}

// text returns a string, or a number as it is written in the request.
func (p *params) text(name string, v *fastjson.Value) string {
	if v.Type() == fastjson.TypeNumber {
		return string(v.MarshalTo(nil))
	}
	return p.str(name)
}

func (p *params) boolean(name string) bool {
	v := p.get(name)
	if v == nil {
		return false
	}
	b, err := v.Bool()
	if err != nil {
		p.fail(name, "must be true or false")
	}
	return b
}

// number returns an integer, def if absent. It accepts a string of digits: OpenSIPS
// sends numbers as strings.
func (p *params) number(name string, def, low, high int64) int64 {
	v := p.get(name)
	if v == nil {
		return def
	}
	var (
		n   int64
		err error
	)
	switch v.Type() {
	case fastjson.TypeNumber:
		n, err = v.Int64()
	case fastjson.TypeString:
		n, err = strconv.ParseInt(string(v.GetStringBytes()), 10, 64)
	default:
		err = strconv.ErrSyntax
	}
	if err != nil || n < low || n > high {
		p.fail(name, fmt.Sprintf("must be a whole number from %d to %d", low, high))
		return def
	}
	return n
}

// seconds returns a duration given in seconds, with or without a fraction.
func (p *params) seconds(name string, high time.Duration) time.Duration {
	v := p.get(name)
	if v == nil {
		return 0
	}
	var (
		f   float64
		err error
	)
	switch v.Type() {
	case fastjson.TypeNumber:
		f, err = v.Float64()
	case fastjson.TypeString:
		f, err = strconv.ParseFloat(string(v.GetStringBytes()), 64)
	default:
		err = strconv.ErrSyntax
	}
	if err != nil || !(f >= 0 && f <= high.Seconds()) { // NaN fails too
		p.fail(name, fmt.Sprintf("must be a number of seconds from 0 to %.0f", high.Seconds()))
		return 0
	}
	return time.Duration(f * float64(time.Second))
}

// strings returns an array of strings.
func (p *params) strings(name string) []string {
	v := p.get(name)
	if v == nil {
		return nil
	}
	items, err := v.Array()
	if err != nil {
		p.fail(name, "must be an array of strings")
		return nil
	}
	list := make([]string, len(items))
	for i, v := range items {
		if v.Type() != fastjson.TypeString {
			p.fail(fmt.Sprintf("%s[%d]", name, i), "must be a string")
			return nil
		}
		list[i] = string(v.GetStringBytes())
	}
	return list
}

// stringMap returns an object whose values are all strings.
func (p *params) stringMap(name string) map[string]string {
	v := p.get(name)
	if v == nil {
		return nil
	}
	o, err := v.Object()
	if err != nil {
		p.fail(name, "must be an object of strings")
		return nil
	}
	m := make(map[string]string, o.Len())
	o.Visit(func(key []byte, v *fastjson.Value) {
		switch v.Type() {
		case fastjson.TypeString:
			m[string(key)] = string(v.GetStringBytes())
		case fastjson.TypeNull:
		default:
			p.fail(nameOf(name, key), "must be a string")
		}
	})
	return m
}

// nameOf returns the name of an object's key for an error message. A key that does not
// look like a name may be a token, which no error may quote.
func nameOf(object string, key []byte) string {
	const longest = 32 // bytes; a token has more
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	if len(key) == 0 || len(key) > longest || len(bytes.Trim(key, letters)) > 0 {
		return object
	}
	return object + `."` + string(key) + `"`
}

// object returns the parameters in an object. If it is absent, there are none.
func (p *params) object(name string) *params {
	v := p.get(name)
	if v != nil && v.Type() != fastjson.TypeObject {
		p.fail(name, "must be an object")
		v = nil
	}
	return newParams(v)
}
