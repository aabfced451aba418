package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestCompare plays the same server to net/http's connection and to ours. Where
// the two differ the difference is named.
func TestCompare(t *testing.T) {
	ok := func(p *peer, id uint32, end bool) { p.headers(id, end, ":status", "200", "apns-id", "x") }
	scripts := []struct {
		name   string
		f      func(p *peer, id uint32)
		differ string
	}{
		{"empty", func(p *peer, id uint32) { ok(p, id, true) }, ""},
		{"body", func(p *peer, id uint32) { ok(p, id, false); p.WriteData(id, true, []byte("hello")) }, ""},
		{"padded", func(p *peer, id uint32) {
			ok(p, id, false)
			p.WriteDataPadded(id, true, []byte("hello"), make([]byte, 9))
		}, ""},
		{"refusal", func(p *peer, id uint32) {
			p.headers(id, false, ":status", "410", "content-type", "application/json")
			p.WriteData(id, true, []byte(`{"reason":"Unregistered","timestamp":1}`))
		}, ""},
		{"repeated", func(p *peer, id uint32) {
			p.headers(id, true, ":status", "429", "retry-after", "1", "retry-after", "2")
		}, ""},
		{"content-length", func(p *peer, id uint32) {
			p.headers(id, false, ":status", "200", "content-length", "5")
			p.WriteData(id, true, []byte("hello"))
		}, ""},
		{"content-length wrong", func(p *peer, id uint32) {
			p.headers(id, false, ":status", "200", "content-length", "9")
			p.WriteData(id, true, []byte("hello"))
		}, ""},
		{"content-length, no body", func(p *peer, id uint32) { p.headers(id, true, ":status", "200", "content-length", "9") }, ""},
		{"continuation", func(p *peer, id uint32) {
			b := bytes.Clone(p.block(":status", "200", "apns-id", "x"))
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:1], EndStream: true})
			_ = p.WriteContinuation(id, false, nil)
			_ = p.WriteContinuation(id, true, b[1:])
		}, ""},
		{"trailers", func(p *peer, id uint32) {
			ok(p, id, false)
			p.WriteData(id, false, []byte("a"))
			p.headers(id, true, "t", "u")
		}, ""},
		{"interim", func(p *peer, id uint32) { p.headers(id, false, ":status", "103", "link", "z"); ok(p, id, true) }, ""},
		{"interim end", func(p *peer, id uint32) { p.headers(id, true, ":status", "103") }, ""},
		{"no status", func(p *peer, id uint32) { p.headers(id, true, "a", "b") }, ""},
		{"two statuses", func(p *peer, id uint32) { p.headers(id, true, ":status", "200", ":status", "200") }, ""},
		{"odd status", func(p *peer, id uint32) { p.headers(id, true, ":status", "ok") }, ""},
		{"four digits", func(p *peer, id uint32) { p.headers(id, true, ":status", "2000") }, "a status has three digits"},
		{"pseudo last", func(p *peer, id uint32) { p.headers(id, true, "a", "b", ":status", "200") }, ""},
		{"request pseudo", func(p *peer, id uint32) { p.headers(id, true, ":status", "200", ":path", "/") }, ""},
		{"upper case", func(p *peer, id uint32) { p.headers(id, true, ":status", "200", "Apns-Id", "x") }, ""},
		{"line break", func(p *peer, id uint32) { p.headers(id, true, ":status", "200", "a", "b\r\nc") }, ""},
		{"data first", func(p *peer, id uint32) { p.WriteData(id, true, []byte("a")) }, ""},
		{"trailers without end", func(p *peer, id uint32) { ok(p, id, false); p.headers(id, false, "a", "b") }, "they cost their stream, not the connection"},
		{"status in trailers", func(p *peer, id uint32) { ok(p, id, false); p.headers(id, true, ":status", "200") }, "it costs its stream, not the connection"},
		{"window of zero", func(p *peer, id uint32) { p.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4)) }, ""},
		{"refused", func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeRefusedStream) }, ""},
		{"cancelled", func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeCancel) }, ""},
		{"reset after header", func(p *peer, id uint32) { ok(p, id, false); p.WriteRSTStream(id, http2.ErrCodeNo) }, ""},
		{"goaway before", func(p *peer, id uint32) { p.WriteGoAway(0, http2.ErrCodeNo, nil) }, ""},
		{"goaway with error before", func(p *peer, id uint32) { p.WriteGoAway(0, http2.ErrCodeInternal, []byte("why")) }, ""},
		{"goaway after", func(p *peer, id uint32) { p.WriteGoAway(id, http2.ErrCodeNo, nil); ok(p, id, true) }, ""},
		{"goaway with error after", func(p *peer, id uint32) { p.WriteGoAway(id, http2.ErrCodeInternal, nil); ok(p, id, true) }, ""},
		{"push", func(p *peer, id uint32) {
			p.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true, BlockFragment: p.block(":path", "/")})
		}, ""},
		{"idle stream", func(p *peer, id uint32) { p.headers(id+2, true, ":status", "200"); ok(p, id, true) }, "RFC 9113 5.1: a frame on an idle stream ends the connection"},
		{"even stream", func(p *peer, id uint32) { p.headers(2, true, ":status", "200"); ok(p, id, true) }, "RFC 9113 5.1.1: no stream of the server's was promised"},
		{"hpack", func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true})
		}, ""},
		{"unknown frame", func(p *peer, id uint32) { p.WriteRawFrame(0xbe, 0xff, id, []byte("x")); ok(p, id, true) }, ""},
		{"unknown setting", func(p *peer, id uint32) { p.WriteSettings(http2.Setting{ID: 0xbe, Val: 1}); ok(p, id, true) }, ""},
		{"table size", func(p *peer, id uint32) {
			p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
			p.enc.SetMaxDynamicTableSize(0)
			ok(p, id, true)
		}, ""},
		{"closed", func(p *peer, id uint32) { p.nc.Close() }, ""},
		{"closed after header", func(p *peer, id uint32) { ok(p, id, false); p.nc.Close() }, ""},
		{"data to closed stream", func(p *peer, id uint32) { ok(p, id, true); p.WriteData(id, true, []byte("x")) }, ""},
	}
	type rt interface {
		Do(context.Context, *Request, *Response) error
		Err() error
	}
	dial := func(t *testing.T, own bool) (rt, *peer) {
		a, b := pipe(t)
		ch := make(chan *peer, 1)
		go func() { ch <- newPeer(t, b) }()
		if own {
			c, err := New(t.Context(), a, testConfig)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c, <-ch
		}
		var pr http.Protocols
		pr.SetUnencryptedHTTP2(true)
		tr := &http.Transport{Protocols: &pr, DisableCompression: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return a, nil }}
		c, err := tr.NewClientConn(t.Context(), "http", "h:80")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return theirs{c}, <-ch
	}
	outcome := func(t *testing.T, c rt, p *peer, f func(*peer, uint32)) string {
		res := make(chan string, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			var resp Response
			switch err := c.Do(ctx, req("payload"), &resp); {
			case err == nil:
				slices.SortFunc(resp.Header, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
				res <- fmt.Sprintf("%d %v %q", resp.Status, resp.Header, resp.Body)
			case errors.Is(err, context.DeadlineExceeded):
				res <- "no answer"
			default:
				res <- "error"
			}
		}()
		id, _, err := p.request()
		if err != nil {
			t.Fatal(err)
		}
		f(p, id)
		s := <-res
		time.Sleep(5 * time.Millisecond)
		return fmt.Sprintf("%s; usable: %v", s, c.Err() == nil)
	}
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			c, p := dial(t, false)
			theirs := outcome(t, c, p, s.f)
			c, p = dial(t, true)
			ours := outcome(t, c, p, s.f)
			switch {
			case s.differ == "" && ours != theirs:
				t.Errorf("net/http: %s\nours:     %s", theirs, ours)
			case s.differ != "" && ours == theirs:
				t.Errorf("both say %s, and were to differ: %s", ours, s.differ)
			}
		})
	}
}

// theirs is a connection of net/http in our shape.
type theirs struct{ *http.ClientConn }

func (c theirs) Do(ctx context.Context, _ *Request, resp *Response) error {
	r, err := http.NewRequestWithContext(ctx, "POST", "http://h/3/device/x", strings.NewReader("payload"))
	if err != nil {
		return err
	}
	answer, err := c.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	resp.Status = answer.StatusCode
	for name, values := range answer.Header {
		for _, v := range values {
			resp.Header = append(resp.Header, Field{Name: strings.ToLower(name), Value: v})
		}
	}
	resp.Body, _ = io.ReadAll(answer.Body) // what broke off does not undo the status
	return nil
}
