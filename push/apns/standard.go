package apns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/sipwake/sipwake/push/h2"
)

// standard is a connection that uses net/http.
type standard struct {
	*http.ClientConn
	gone atomic.Bool // it accepts no more requests, which net/http may not report itself
}

var errGone = errors.New("the connection was ended")

// Err returns why the connection accepts no more requests, or nil if it does.
func (s *standard) Err() error {
	if s.gone.Load() {
		return errGone
	}
	return s.ClientConn.Err()
}

// Do sends a request and waits for the answer.
func (s *standard) Do(ctx context.Context, req *h2.Request, resp *h2.Response) error {
	out := (&http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "https"}, Header: make(http.Header, len(req.Header)),
		Body: io.NopCloser(bytes.NewReader(req.Body)), ContentLength: int64(len(req.Body))}).WithContext(ctx)
	for _, f := range req.Header {
		switch f.Name {
		case ":authority":
			out.URL.Host = f.Value
		case ":path":
			out.URL.Path = f.Value
		case ":method", ":scheme":
		default:
			out.Header.Set(f.Name, f.Value)
		}
	}
	if l := req.Literal; l != nil {
		out.Header.Set(l.Name, l.Value)
	}
	answer, err := s.RoundTrip(out)
	if err != nil {
		again, usable := unprocessed(err)
		if again && !usable {
			s.gone.Store(true)
		}
		if again {
			err = fmt.Errorf("%w: %w", h2.ErrUnprocessed, err)
		}
		return err
	}
	defer answer.Body.Close()
	resp.Status = answer.StatusCode
	for name, values := range answer.Header {
		for _, v := range values {
			resp.Header = append(resp.Header, h2.Field{Name: strings.ToLower(name), Value: v})
		}
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // a truncated body does not change the status
	resp.Body = append(resp.Body, body...)
	return nil
}

// unprocessed reports whether a failed request was certainly not processed, and
// whether its connection is usable for others (RFC 9113 sections 6.8 and 8.7).
// net/http does not export these errors, so they are recognized by text.
func unprocessed(err error) (again, usable bool) {
	switch err.Error() {
	case "http2: client conn not usable", "http2: Transport received Server's graceful shutdown GOAWAY", neverUsed:
		return true, false
	}
	const refusedStream = 7
	var se streamError
	if errors.As(err, &se) && se.Code == refusedStream {
		return true, true
	}
	return false, false
}

// neverUsed is the error of a connection that ended before its first request.
const neverUsed = "http2: client conn could not be established"

// streamError has the shape to which net/http's stream errors convert.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream error" }
