package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// oneOff are the names of fields whose value is another one in every request.
// They stay out of the dynamic table; so Apple asks for these, too.
var oneOff = map[string]bool{
	"authorization": true, "apns-id": true, "apns-expiration": true, "apns-collapse-id": true,
	"crypto-key": true, "encryption": true, "topic": true,
}

var errBody = errors.New("http2: the request's body is not as long as it says")

type scratch struct {
	req  Request
	resp Response
	body bytes.Buffer
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// RoundTrip implements http.RoundTripper. The answer's body is in memory.
func (c *Conn) RoundTrip(req *http.Request) (*http.Response, error) {
	x := scratches.Get().(*scratch)
	defer func() {
		clear(x.req.Header)
		clear(x.resp.Header)
		x.req.Body = nil
		scratches.Put(x)
	}()
	x.body.Reset()
	if req.Body != nil {
		_, err := x.body.ReadFrom(req.Body)
		if cerr := req.Body.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, err
		}
		if req.ContentLength > 0 && int64(x.body.Len()) != req.ContentLength {
			return nil, errBody
		}
	}
	x.req.Body = x.body.Bytes()
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	h := x.req.Header[:0]
	h = append(h,
		Field{Name: ":method", Value: req.Method},
		Field{Name: ":scheme", Value: "https"},
		Field{Name: ":authority", Value: host},
		Field{Name: ":path", Value: req.URL.RequestURI(), Sensitive: true},
		Field{Name: "content-length", Value: strconv.Itoa(len(x.req.Body)), Sensitive: true},
	)
	for name, values := range req.Header {
		name, skip := lower(name)
		if skip {
			continue
		}
		for _, v := range values {
			h = append(h, Field{Name: name, Value: v, Sensitive: oneOff[name]})
		}
	}
	x.req.Header = h
	x.resp = Response{Header: x.resp.Header[:0]}
	if err := c.Do(req.Context(), &x.req, &x.resp); err != nil {
		return nil, err
	}
	header := make(http.Header, len(x.resp.Header))
	for _, f := range x.resp.Header {
		header.Add(f.Name, f.Value)
	}
	var body io.Reader = bytes.NewReader(x.resp.Body)
	if x.resp.Broken != nil {
		body = io.MultiReader(body, failing{x.resp.Broken})
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", x.resp.Status, http.StatusText(x.resp.Status)), StatusCode: x.resp.Status,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: header,
		Body: io.NopCloser(body), ContentLength: int64(len(x.resp.Body)), Request: req,
	}, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// lower returns a field's name in lower case, and whether HTTP/2 has no place for
// it (RFC 9113 section 8.2.2).
func lower(name string) (string, bool) {
	switch s := strings.ToLower(name); s {
	case "connection", "proxy-connection", "transfer-encoding", "upgrade", "keep-alive", "host", "content-length":
		return s, true
	default:
		return s, false
	}
}
