package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sipwake/sipwake/internal/deadline"
)

// peer is a server that does exactly what a test says.
type peer struct {
	*http2.Framer
	nc  net.Conn
	enc *hpack.Encoder
	buf bytes.Buffer
}

func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.buf.Bytes()
}

func (p *peer) headers(id uint32, end bool, fields ...string) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndHeaders: true, EndStream: end})
}

// request reads frames until a request is complete, and returns its stream.
func (p *peer) request() (uint32, []byte, error) {
	bodies := map[uint32][]byte{}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return 0, nil, err
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				return f.StreamID, nil, nil
			}
		case *http2.DataFrame:
			bodies[f.StreamID] = append(bodies[f.StreamID], f.Data()...)
			if f.StreamEnded() {
				return f.StreamID, bodies[f.StreamID], nil
			}
		}
	}
}

// until reads frames until f is satisfied.
func (p *peer) until(f func(http2.Frame) bool) error {
	for {
		fr, err := p.ReadFrame()
		if err != nil {
			return err
		}
		if f(fr) {
			return nil
		}
	}
}

var testConfig = Config{MaxStreams: 100, MaxBody: 4096, PingAfter: time.Minute, PingTimeout: time.Minute, WriteTimeout: time.Minute}

// bufferedPipe is a net.Pipe on which the server's writes do not wait for the client.
func pipe(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func newPeer(t testing.TB, nc net.Conn, settings ...http2.Setting) *peer {
	p := &peer{Framer: http2.NewFramer(nc, nc), nc: nc}
	p.enc = hpack.NewEncoder(&p.buf)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.AllowIllegalWrites = true
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(nc, preface); err != nil || string(preface) != http2.ClientPreface {
		t.Error("no preface", err)
	}
	_ = p.WriteSettings(settings...)
	return p
}

func dialPeer(t testing.TB, config Config, settings ...http2.Setting) (*Conn, *peer) {
	t.Helper()
	a, b := pipe(t)
	ch := make(chan *peer, 1)
	go func() { ch <- newPeer(t, b, settings...) }()
	c, err := New(t.Context(), a, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, <-ch
}

func req(body string) *Request {
	return &Request{Header: []Field{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "h"},
		{Name: ":path", Value: "/3/device/abc", Sensitive: true}, {Name: "apns-topic", Value: "com.example"},
	}, Body: []byte(body)}
}

type result struct {
	resp Response
	err  error
}

func do(c *Conn, ctx context.Context, body string) <-chan result {
	ch := make(chan result, 1)
	go func() {
		var r result
		r.err = c.Do(ctx, req(body), &r.resp)
		ch <- r
	}()
	return ch
}

func get(t testing.TB, ch <-chan result) result {
	t.Helper()
	select {
	case r := <-ch:
		return r
	case <-time.After(10 * time.Second):
		buf := make([]byte, 1<<16)
		t.Fatalf("no result\n%s", buf[:runtime.Stack(buf, true)])
		panic("unreachable")
	}
}

func (r result) field(name string) string {
	for _, f := range r.resp.Header {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func TestAnswers(t *testing.T) {
	c, p := dialPeer(t, testConfig)
	f := func(name string, answer func(id uint32), status int, body string) {
		t.Helper()
		ch := do(c, t.Context(), "payload")
		id, got, err := p.request()
		if err != nil || string(got) != "payload" {
			t.Fatal(name, err, string(got))
		}
		answer(id)
		r := get(t, ch)
		if status == 0 {
			if !errors.Is(r.err, errMalformed) || errors.Is(r.err, ErrUnprocessed) {
				t.Fatalf("%s: %+v", name, r)
			}
			return
		}
		if r.err != nil || r.resp.Status != status || string(r.resp.Body) != body || r.field("apns-id") != "x" && status < 900 {
			t.Fatalf("%s: %+v", name, r)
		}
	}
	ok := func(id uint32, end bool) { p.headers(id, end, ":status", "200", "apns-id", "x") }
	f("empty", func(id uint32) { ok(id, true) }, 200, "")
	f("body", func(id uint32) { ok(id, false); p.WriteData(id, true, []byte("hello")) }, 200, "hello")
	f("two bodies", func(id uint32) {
		ok(id, false)
		p.WriteData(id, false, []byte("he"))
		p.WriteData(id, true, []byte("llo"))
	}, 200, "hello")
	f("end by empty data", func(id uint32) { ok(id, false); p.WriteData(id, true, nil) }, 200, "")
	f("padded", func(id uint32) {
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(":status", "200", "apns-id", "x"), EndHeaders: true, PadLength: 7,
			Priority: http2.PriorityParam{Weight: 3}})
		p.WriteDataPadded(id, true, []byte("hello"), make([]byte, 99))
	}, 200, "hello")
	f("continuation", func(id uint32) {
		b := bytes.Clone(p.block(":status", "200", "apns-id", "x", "long", strings.Repeat("y", 500)))
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:1], EndStream: true})
		for ; len(b) > 100; b = b[100:] {
			_ = p.WriteContinuation(id, false, b[1:101])
		}
		_ = p.WriteContinuation(id, true, b[1:])
	}, 200, "")
	f("trailers", func(id uint32) { ok(id, false); p.WriteData(id, false, []byte("a")); p.headers(id, true, "t", "u") }, 200, "a")
	f("interim", func(id uint32) { p.headers(id, false, ":status", "103", "link", "z"); ok(id, true) }, 200, "")
	f("too long", func(id uint32) { ok(id, false); p.WriteData(id, false, bytes.Repeat([]byte("a"), 5000)) }, 200, strings.Repeat("a", 4096))
	f("no status", func(id uint32) { p.headers(id, true, "apns-id", "x") }, 0, "")
	f("odd status", func(id uint32) { p.headers(id, true, ":status", "2000") }, 0, "")
	f("two statuses", func(id uint32) { p.headers(id, true, ":status", "200", ":status", "200") }, 0, "")
	f("pseudo last", func(id uint32) { p.headers(id, true, "a", "b", ":status", "200") }, 0, "")
	f("request pseudo", func(id uint32) { p.headers(id, true, ":status", "200", ":path", "/") }, 0, "")
	f("upper case", func(id uint32) { p.headers(id, true, ":status", "200", "Apns-Id", "x") }, 0, "")
	f("line break", func(id uint32) { p.headers(id, true, ":status", "200", "a", "b\r\nc") }, 0, "")
	f("interim end", func(id uint32) { p.headers(id, true, ":status", "100") }, 0, "")
	f("many interim", func(id uint32) {
		for range maxInterim + 1 {
			p.headers(id, false, ":status", "100")
		}
	}, 0, "")
	f("data first", func(id uint32) { p.WriteData(id, true, []byte("a")) }, 0, "")
	f("trailers without end", func(id uint32) { ok(id, false); p.headers(id, false, "a", "b") }, 200, "")
	f("status in trailers", func(id uint32) { ok(id, false); p.headers(id, true, ":status", "200") }, 200, "")
	f("big header", func(id uint32) {
		b := bytes.Clone(p.block(":status", "200", "a", strings.Repeat("0", 30000), "c", strings.Repeat("0", 3000)))
		_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:10000], EndStream: true})
		_ = p.WriteContinuation(id, true, b[10000:])
	}, 0, "")
	f("window of zero", func(id uint32) { p.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4)) }, 0, "")
	f("window overflow", func(id uint32) { p.WriteWindowUpdate(id, maxWindow) }, 0, "")
	f("after all", func(id uint32) { ok(id, true) }, 200, "")
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
}

// TestConnectionErrors: what ends a connection, and that it says so.
func TestConnectionErrors(t *testing.T) {
	for name, f := range map[string]struct {
		f    func(p *peer, id uint32)
		code http2.ErrCode
	}{
		"push": {func(p *peer, id uint32) {
			p.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true, BlockFragment: p.block(":path", "/")})
		}, http2.ErrCodeProtocol},
		"idle stream":         {func(p *peer, id uint32) { p.headers(id+2, true, ":status", "200") }, http2.ErrCodeProtocol},
		"even stream":         {func(p *peer, id uint32) { p.headers(2, true, ":status", "200") }, http2.ErrCodeProtocol},
		"data of idle stream": {func(p *peer, id uint32) { p.WriteData(id+2, true, nil) }, http2.ErrCodeProtocol},
		"hpack": {func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}, http2.ErrCodeCompression},
		"hpack of over": {func(p *peer, id uint32) {
			p.headers(id, true, ":status", "200")
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true})
		}, http2.ErrCodeCompression},
		"window overflow": {func(p *peer, id uint32) { p.WriteWindowUpdate(0, maxWindow) }, http2.ErrCodeFlowControl},
		"bad setting":     {func(p *peer, id uint32) { p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1}) }, http2.ErrCodeProtocol},
		"bad window": {func(p *peer, id uint32) {
			p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}, http2.ErrCodeFlowControl},
		"data between header": {func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(":status", "200")})
			p.WriteData(id, true, nil)
		}, http2.ErrCodeProtocol},
		"continuation flood": {func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(":status", "200")})
			for range maxBlock/9 + 1 {
				if p.WriteContinuation(id, false, nil) != nil {
					return
				}
			}
		}, http2.ErrCodeEnhanceYourCalm},
		"long frame": {func(p *peer, id uint32) { p.WriteRawFrame(http2.FrameData, 0, id, make([]byte, maxFrameRead+1)) }, http2.ErrCodeFrameSize},
		"data flood": {func(p *peer, id uint32) {
			p.headers(id, false, ":status", "200")
			p.headers(id, true, "a", "b")
			for range 1 << 20 {
				if p.WriteData(id, false, make([]byte, 16000)) != nil {
					return
				}
			}
		}, 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := dialPeer(t, testConfig)
			ch := do(c, t.Context(), "x")
			id, _, err := p.request()
			if err != nil {
				t.Fatal(err)
			}
			if f.code == 1<<30 { // permitted as long as it keeps to the window: it must cost nothing
				p.headers(id, true, ":status", "200")
				get(t, ch)
				return
			}
			go f.f(p, id)
			r := get(t, ch)
			if r.err == nil && name != "hpack of over" || errors.Is(r.err, ErrUnprocessed) {
				t.Fatal(r.err)
			}
			var got http2.ErrCode = 1 << 20
			_ = p.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
			_ = p.until(func(f http2.Frame) bool {
				if g, ok := f.(*http2.GoAwayFrame); ok {
					got = g.ErrCode
				}
				return false
			})
			if got != f.code && got != 1<<20 { // RST may have overtaken it
				t.Fatalf("GOAWAY %v, want %v", got, f.code)
			}
			if r := get(t, do(c, t.Context(), "x")); !errors.Is(r.err, ErrUnprocessed) {
				t.Fatal(r.err)
			}
		})
	}
}

func TestFlowControl(t *testing.T) {
	c, p := dialPeer(t, testConfig, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	body := strings.Repeat("0123456789", 500)
	ch := do(c, t.Context(), body)
	var got []byte
	read := func(n int) {
		t.Helper()
		for len(got) < n {
			f, err := p.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if d, ok := f.(*http2.DataFrame); ok {
				got = append(got, d.Data()...)
				if d.StreamEnded() != (len(got) == len(body)) {
					t.Fatal("END_STREAM", len(got))
				}
			}
		}
		if len(got) != n {
			t.Fatal(len(got), "not", n)
		}
	}
	read(10)
	p.WriteWindowUpdate(1, 5)
	read(15)
	p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4}) // now -6
	p.WriteWindowUpdate(1, 6)                                                  // now 0
	p.WriteWindowUpdate(1, 1)
	read(16)
	p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 104})
	read(116)
	// the connection's window: 65535 less 116
	p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	read(5000)
	p.headers(1, true, ":status", "200")
	if r := get(t, ch); r.err != nil || string(got) != body {
		t.Fatal(r.err)
	}
	// Exhaust it: 13 more take 65000 of 60535.
	var all []<-chan result
	for range 13 {
		all = append(all, do(c, t.Context(), body))
	}
	bodies := map[uint32]int{}
	total := 0
	for total < 60535 {
		f, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			total += len(d.Data())
			bodies[d.StreamID] += len(d.Data())
		}
	}
	if total != 60535 {
		t.Fatal(total)
	}
	// One that is held up and given up makes no trouble.
	ctx, cancel := context.WithCancel(t.Context())
	gone := do(c, ctx, body)
	_ = p.until(func(f http2.Frame) bool { _, ok := f.(*http2.MetaHeadersFrame); return ok })
	cancel()
	if r := get(t, gone); !errors.Is(r.err, context.Canceled) {
		t.Fatal(r.err)
	}
	p.WriteWindowUpdate(0, 1<<20)
	for total < 65000 {
		f, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			total += len(d.Data())
			bodies[d.StreamID] += len(d.Data())
		}
	}
	for id, n := range bodies {
		if n != 5000 {
			t.Fatal(id, n)
		}
		p.headers(id, true, ":status", "200")
	}
	for _, ch := range all {
		if r := get(t, ch); r.err != nil {
			t.Fatal(r.err)
		}
	}
}

// A deadline without a timer of its own ends a request too, and only that request.
func TestDeadlineOfARequest(t *testing.T) {
	c, p := dialPeer(t, testConfig)
	for range 2 { // streams, and their timers, are used again
		ctx := deadline.Within(t.Context(), 20*time.Millisecond)
		if r := get(t, do(c, ctx, "x")); !errors.Is(r.err, context.DeadlineExceeded) || errors.Is(r.err, ErrUnprocessed) {
			t.Fatal(r.err)
		}
		ctx.Release()
	}
	ctx := deadline.Within(t.Context(), time.Minute)
	defer ctx.Release()
	ch := do(c, ctx, "x")
	var id uint32
	for range 3 {
		var err error
		if id, _, err = p.request(); err != nil {
			t.Fatal(err)
		}
	}
	p.headers(id, true, ":status", "200")
	if r := get(t, ch); r.err != nil {
		t.Error(r.err)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	c, p := dialPeer(t, testConfig, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	var all []<-chan result
	for range 10 {
		all = append(all, do(c, t.Context(), "x"))
	}
	for n := 0; n < 9; {
		c.mu.Lock()
		n = len(c.waiting)
		c.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if r := get(t, do(c, ctx, "x")); !errors.Is(r.err, ErrUnprocessed) || !errors.Is(r.err, context.DeadlineExceeded) {
		t.Fatal(r.err)
	}
	id, _, _ := p.request()
	if id != 1 {
		t.Fatal(id)
	}
	p.headers(1, true, ":status", "200")
	id, _, _ = p.request()
	p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 5})
	ids := []uint32{id}
	for range 4 {
		id, _, _ = p.request()
		ids = append(ids, id)
	}
	_ = p.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if id, _, err := p.request(); err == nil {
		t.Fatal("one too many", id)
	}
	_ = p.nc.SetReadDeadline(time.Time{})
	p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	for _, id := range ids {
		p.headers(id, true, ":status", "200")
	}
	for range 4 {
		id, _, _ := p.request()
		p.headers(id, true, ":status", "200")
	}
	for _, ch := range all {
		if r := get(t, ch); r.err != nil {
			t.Fatal(r.err)
		}
	}
}

func TestGoAway(t *testing.T) {
	c, p := dialPeer(t, testConfig, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3})
	byID := map[uint32]<-chan result{}
	for range 3 {
		ch := do(c, t.Context(), "x")
		id, _, _ := p.request()
		byID[id] = ch
	}
	waits := do(c, t.Context(), "x")
	time.Sleep(20 * time.Millisecond)
	p.WriteGoAway(3, http2.ErrCodeNo, []byte(`{"reason":"Shutdown"}`))
	if r := get(t, byID[5]); !errors.Is(r.err, ErrUnprocessed) || !strings.Contains(r.err.Error(), "Shutdown") {
		t.Fatal(r.err)
	}
	if r := get(t, waits); !errors.Is(r.err, ErrUnprocessed) {
		t.Fatal(r.err)
	}
	if r := get(t, do(c, t.Context(), "x")); !errors.Is(r.err, ErrUnprocessed) {
		t.Fatal(r.err)
	}
	p.headers(1, true, ":status", "200")
	p.headers(3, true, ":status", "410")
	if r := get(t, byID[1]); r.err != nil {
		t.Fatal(r.err)
	}
	if r := get(t, byID[3]); r.err != nil || r.resp.Status != 410 {
		t.Fatal(r.err)
	}
	if err := p.until(func(http2.Frame) bool { return false }); err == nil {
		t.Fatal("not closed")
	}
}

func TestResets(t *testing.T) {
	c, p := dialPeer(t, testConfig)
	for _, code := range []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeNo} {
		ch := do(c, t.Context(), "x")
		id, _, _ := p.request()
		p.WriteRSTStream(id, code)
		if r := get(t, ch); r.err == nil || errors.Is(r.err, ErrUnprocessed) != (code == http2.ErrCodeRefusedStream) {
			t.Fatal(code, r.err)
		}
	}
}

// TestCancel: a push that is given up frees its place, and what comes for it late
// does not disturb the state of the connection.
func TestCancel(t *testing.T) {
	c, p := dialPeer(t, testConfig, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	ctx, cancel := context.WithCancel(t.Context())
	ch := do(c, ctx, "x")
	id, _, _ := p.request()
	next := do(c, t.Context(), "y")
	cancel()
	if r := get(t, ch); !errors.Is(r.err, context.Canceled) || errors.Is(r.err, ErrUnprocessed) {
		t.Fatal(r.err)
	}
	reset := false
	for {
		f, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := f.(*http2.RSTStreamFrame); ok {
			reset = r.ErrCode == http2.ErrCodeCancel && r.StreamID == id
		}
		if d, ok := f.(*http2.DataFrame); ok {
			if !reset || d.StreamID != 3 {
				t.Fatal(reset, d.StreamID)
			}
			break
		}
	}
	p.headers(id, false, ":status", "200", "new-name", "new-value") // into the table
	p.WriteData(id, true, []byte("late"))
	p.headers(3, true, ":status", "200", "new-name", "new-value") // out of the table
	if r := get(t, next); r.err != nil || r.field("new-name") != "new-value" {
		t.Fatal(r)
	}
}

func TestExhaustedIDs(t *testing.T) {
	c, p := dialPeer(t, testConfig)
	c.mu.Lock()
	c.nextID = lastID - 2
	c.mu.Unlock()
	ch := do(c, t.Context(), "x")
	id, _, _ := p.request()
	if r := get(t, do(c, t.Context(), "x")); !errors.Is(r.err, ErrUnprocessed) {
		t.Fatal(r.err)
	}
	p.headers(id, true, ":status", "200")
	if r := get(t, ch); r.err != nil {
		t.Fatal(r.err)
	}
}

func TestLost(t *testing.T) {
	c, p := dialPeer(t, testConfig)
	ch := do(c, t.Context(), "x")
	_, _, _ = p.request()
	p.nc.Close()
	if r := get(t, ch); r.err == nil || errors.Is(r.err, ErrUnprocessed) {
		t.Fatal(r.err)
	}
}

func TestSilentServer(t *testing.T) {
	config := testConfig
	config.PingAfter, config.PingTimeout = 30*time.Millisecond, 30*time.Millisecond
	c, _ := dialPeer(t, config)
	if r := get(t, do(c, t.Context(), "x")); !errors.Is(r.err, errPing) {
		t.Fatal(r.err)
	}
}

func TestPing(t *testing.T) {
	config := testConfig
	config.PingAfter, config.PingTimeout = 20*time.Millisecond, 2*time.Second
	c, p := dialPeer(t, config)
	pings := 0
	for pings < 3 {
		f, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := f.(*http2.PingFrame); ok {
			pings++
			p.WritePing(true, f.Data)
		}
	}
	p.WritePing(false, [8]byte{1})
	if err := p.until(func(f http2.Frame) bool { g, ok := f.(*http2.PingFrame); return ok && g.IsAck() && g.Data[0] == 1 }); err != nil {
		t.Fatal(err)
	}
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
}

// TestStuckServer: one that does not read. Pushes end, and the memory is bounded.
func TestStuckServer(t *testing.T) {
	config := testConfig
	config.MaxStreams, config.WriteTimeout = 10000, 200*time.Millisecond
	a, b := pipe(t)
	_ = a.(*net.TCPConn).SetWriteBuffer(4096)
	_ = b.(*net.TCPConn).SetReadBuffer(4096)
	go newPeer(t, b, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	c, err := New(t.Context(), a, config)
	if err != nil {
		t.Fatal(err)
	}
	_ = http2.NewFramer(b, nil).WriteWindowUpdate(0, 1<<30)
	var wg sync.WaitGroup
	var mu sync.Mutex
	un := 0
	for range 3000 {
		wg.Go(func() {
			err := c.Do(t.Context(), req(strings.Repeat("x", 4000)), new(Response))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				t.Error("answered")
			}
			if errors.Is(err, ErrUnprocessed) {
				un++
			}
		})
	}
	wg.Wait()
	if un == 0 {
		t.Error("none is known to be unprocessed")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cap(c.out.b) > 4*maxOut {
		t.Error(cap(c.out.b))
	}
}

// TestPingFlood: a server that asks and does not read the answers. Nothing is buffered
// between the two, so that the client has each answer for itself.
func TestPingFlood(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	ready := make(chan *peer, 1)
	go func() { ready <- newPeer(t, b) }()
	c, err := New(t.Context(), a, testConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-ready
	ch := do(c, t.Context(), "x")
	var pings bytes.Buffer
	for range 1000 {
		_ = http2.NewFramer(&pings, nil).WritePing(false, [8]byte{})
	}
	sent := 0
	for ; err == nil && sent <= 2*(maxOut+spareOut); sent += pings.Len() {
		_, err = b.Write(pings.Bytes())
	}
	if r := <-ch; r.err == nil || err == nil {
		t.Fatalf("%v, %v after %d bytes of PING", r.err, err, sent)
	}
}

// TestGoServer is traffic of every kind with net/http's server; run it with -race.
func TestGoServer(t *testing.T) {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Protocols: &p, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 20, MaxReceiveBufferPerConnection: 70000, MaxReceiveBufferPerStream: 3000},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			if len(b)%7 == 0 {
				time.Sleep(3 * time.Millisecond)
			}
			w.Header().Set("apns-id", r.Header.Get("apns-id"))
			w.Write(b[:min(len(b), 4000)])
		})}
	go s.Serve(l)
	defer s.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(t.Context(), nc, testConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	for g := range 50 {
		wg.Go(func() {
			for i := range 60 {
				ctx, cancel := t.Context(), func() {}
				if i%10 == 9 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*50*time.Microsecond)
				}
				body := strings.Repeat(string(rune('a'+g%26)), g*97+i)
				q := req(body)
				id := fmt.Sprint(g, "-", i)
				q.Header = append(q.Header, Field{Name: "apns-id", Value: id, Sensitive: i%2 == 0})
				var r result
				r.err = c.Do(ctx, q, &r.resp)
				late := ctx.Err() != nil
				cancel()
				if late {
					continue
				}
				if r.err != nil || r.resp.Status != 200 || r.field("apns-id") != id || string(r.resp.Body) != body[:min(len(body), 4000)] {
					t.Errorf("%d %d: %v %d %q %d", g, i, r.err, r.resp.Status, r.field("apns-id"), len(r.resp.Body))
					return
				}
			}
		})
	}
	wg.Wait()
}

// FuzzServer: whatever a server sends, every push ends and so do the goroutines.
func FuzzServer(f *testing.F) {
	var b bytes.Buffer
	p := &peer{Framer: http2.NewFramer(&b, nil)}
	p.enc = hpack.NewEncoder(&p.buf)
	p.AllowIllegalWrites = true
	p.headers(1, false, ":status", "200", "apns-id", "x")
	p.WriteData(1, true, []byte("hello"))
	p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingHeaderTableSize})
	p.WriteWindowUpdate(3, 100)
	p.WriteWindowUpdate(0, 100)
	p.WriteRSTStream(3, http2.ErrCodeRefusedStream)
	p.WritePing(false, [8]byte{})
	p.WriteGoAway(1, 0, nil)
	f.Add(bytes.Clone(b.Bytes()))
	for i := range 40 {
		f.Add(bytes.Clone(b.Bytes()[:min(b.Len(), i*7)]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		client, server := net.Pipe()
		go io.Copy(io.Discard, server)
		go func() {
			_ = http2.NewFramer(server, nil).WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
			time.Sleep(100 * time.Microsecond)
			_, _ = server.Write(data)
			time.Sleep(100 * time.Microsecond)
			_ = server.Close()
		}()
		c, err := New(t.Context(), client, testConfig)
		if err != nil {
			return
		}
		var all []<-chan result
		for range 3 {
			all = append(all, do(c, t.Context(), "12345"))
		}
		for _, ch := range all {
			get(t, ch)
		}
		c.Close()
	})
}
