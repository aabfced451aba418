// Package h2 is an HTTP/2 client connection (RFC 9113) for many small concurrent
// requests, as sent to push services. It reads and writes frames with
// golang.org/x/net/http2.Framer. All data that is ready goes out in one write, for
// all requests. An answer is complete before its request returns.
package h2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sipwake/sipwake/internal/deadline"
)

const (
	readBuffer   = 32 << 10
	chunk        = 64 << 10 // written with one deadline
	maxOut       = 1 << 20  // bytes not yet taken by the writer
	typical      = 8 << 10  // a large push
	spareOut     = 64 << 10 // for answers to SETTINGS, PING and DATA beyond maxOut
	maxFrameRead = 16 << 10
	maxHeaderOut = 32 << 10 // of an answer, decoded
	maxBlock     = 64 << 10 // of an answer's header, as received
	maxInterim   = 8        // 1xx answers before the final one
	streamWindow = 65535    // RFC 9113's initial value, which is not changed
	maxWindow    = 1<<31 - 1
	lastID       = 1<<31 - 1
	byeTimeout   = time.Second
)

// Field is a header field. Sensitive fields never enter the dynamic table, here or at
// any intermediary.
type Field = hpack.HeaderField

// Request is a request with its body. Pseudo-header fields come first. Names are
// lower-case.
type Request struct {
	Header  []Field
	Literal *Literal // one more field, may be nil
	Body    []byte
}

// Literal is a Sensitive field that is encoded once and used in many requests.
type Literal struct {
	Field
	coded []byte
}

// NewLiteral encodes the field. The name must be lower-case.
func NewLiteral(name, value string) *Literal {
	var b bytes.Buffer
	l := &Literal{Field: Field{Name: name, Value: value, Sensitive: true}}
	_ = hpack.NewEncoder(&b).WriteField(l.Field) // into memory
	l.coded = b.Bytes()
	return l
}

// Response is an answer. Header and Body are appended to. A truncated Body has the
// bytes that arrived; the Status is valid all the same.
type Response struct {
	Status int
	Header []Field
	Body   []byte
}

// ErrUnprocessed means that the server certainly did not process the request.
var ErrUnprocessed = errors.New("the request was not processed")

var (
	errClosed    = errors.New("http2: the connection was closed")
	errPing      = errors.New("http2: the server does not answer PINGs")
	errIDs       = errors.New("http2: the connection has no stream identifiers left")
	errMalformed = errors.New("http2: malformed answer")
	errTooLarge  = errors.New("http2: the request's header is longer than the server allows")
)

// Config configures a Conn. Every field must be set.
type Config struct {
	MaxStreams   int // in addition to the server's own limit
	MaxBody      int // bytes kept of an answer's body; the connection does not wait for the rest
	PingAfter    time.Duration
	PingTimeout  time.Duration
	WriteTimeout time.Duration
}

// Conn is one connection. Safe for concurrent use.
type Conn struct {
	Config
	nc    net.Conn
	fr    *http2.Framer // read by readLoop, written into out under mu
	wake  chan struct{} // out holds something
	ready chan struct{} // the server's SETTINGS have arrived
	dead  chan struct{}
	heard atomic.Bool

	wbuf []byte // writeLoop only

	mu        sync.Mutex
	out       out
	enc       *hpack.Encoder
	encoded   bytes.Buffer
	streams   map[uint32]*stream
	nextID    uint32
	taken     uint32    // streams from here on have sent nothing yet
	waiting   []*stream // for their turn, in order
	reserved  int       // turns given but not yet taken
	blocked   []*stream // with a body blocked by flow control, in order
	peerMost  uint32    // SETTINGS_MAX_CONCURRENT_STREAMS
	peerList  uint64    // SETTINGS_MAX_HEADER_LIST_SIZE
	maxFrame  int
	initial   int64 // window of new streams
	window    int64
	unacked   int // received DATA for which no WINDOW_UPDATE went out
	err       error
	isDead    bool
	readyOnce bool

	// The header being received; used only by readLoop, under mu.
	dec   *hpack.Decoder
	block block
}

type out struct{ b []byte }

func (o *out) Write(p []byte) (int, error) { o.b = append(o.b, p...); return len(p), nil }

type stream struct {
	id       uint32
	resp     *Response
	body     []byte // not yet sent
	window   int64
	received int
	interim  int
	header   bool // the header has arrived
	err      error
	done     chan struct{} // one value: the end, or the turn of a waiting stream
	timer    *time.Timer   // stopped, unless somebody waits for the end
}

type block struct {
	stream        *stream
	end           bool
	bad           bool
	regular       bool
	status        int
	coded, listed int
}

var pool = sync.Pool{New: func() any {
	s := &stream{done: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	s.timer.Stop()
	return s
}}

func (s *stream) free() {
	*s = stream{done: s.done, timer: s.timer}
	pool.Put(s)
}

// New speaks HTTP/2 on nc, for which it must have been negotiated. It returns when
// the server has sent its limits.
func New(ctx context.Context, nc net.Conn, config Config) (*Conn, error) {
	c := &Conn{
		Config: config, nc: nc, wake: make(chan struct{}, 1), ready: make(chan struct{}), dead: make(chan struct{}),
		streams: make(map[uint32]*stream), nextID: 1, taken: 1, peerMost: 1<<32 - 1, peerList: 1<<64 - 1,
		maxFrame: 16 << 10, initial: 65535, window: 65535,
	}
	c.fr = http2.NewFramer(&c.out, bufio.NewReaderSize(nc, readBuffer))
	c.fr.SetMaxReadFrameSize(maxFrameRead)
	c.enc = hpack.NewEncoder(&c.encoded)
	c.dec = hpack.NewDecoder(4096, c.field)
	c.dec.SetMaxStringLength(maxHeaderOut)
	c.out.b = append(c.out.b, http2.ClientPreface...)
	_ = c.fr.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaderOut},
	)
	c.wake <- struct{}{}
	go c.writeLoop()
	go c.readLoop()
	go c.watch()
	select {
	case <-c.ready:
		return c, nil
	case <-c.dead:
		return nil, c.Err()
	case <-ctx.Done():
		c.fail(errClosed)
		return nil, ctx.Err()
	}
}

// Err returns why the connection accepts no more requests, or nil if it does.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all requests in flight on it.
func (c *Conn) Close() error {
	c.fail(errClosed)
	return nil
}

// Do sends a request and waits for the answer, which is valid only without an error.
// Do keeps no reference to either when it returns.
func (c *Conn) Do(ctx context.Context, req *Request, resp *Response) error {
	s := pool.Get().(*stream)
	s.resp, s.body = resp, req.Body
	c.mu.Lock()
	err := c.turn(ctx, s)
	if err == nil {
		err = c.start(s, req)
	}
	c.mu.Unlock()
	if err != nil {
		s.free()
		return err
	}
	c.poke()
	if err := s.ended(ctx); err != nil {
		c.mu.Lock()
		if c.streams[s.id] == s {
			c.abort(s, http2.ErrCodeCancel, err)
		}
		c.mu.Unlock()
		c.poke()
		<-s.done
	}
	err = s.err
	s.free()
	return err
}

// ended waits for the end of the stream. It returns an error if ctx ends first.
func (s *stream) ended(ctx context.Context) error {
	parent, until := deadline.Split(ctx)
	var late <-chan time.Time
	if !until.IsZero() {
		s.timer.Reset(time.Until(until))
		defer s.timer.Stop()
		late = s.timer.C
	}
	select {
	case <-s.done:
		return nil
	case <-parent.Done():
		return parent.Err()
	case <-late:
		return context.DeadlineExceeded
	}
}

// turn waits until one more stream is allowed.
func (c *Conn) turn(ctx context.Context, s *stream) error {
	if c.err != nil {
		return unprocessed(c.err)
	}
	if len(c.waiting) == 0 && c.room() {
		return nil
	}
	c.waiting = append(c.waiting, s)
	for {
		if err := c.await(ctx, s); err != nil {
			return err
		}
		if c.room() {
			return nil
		}
		c.waiting = slices.Insert(c.waiting, 0, s) // the server has lowered its limit meanwhile
	}
}

// await waits until the waiting stream s is given its turn.
func (c *Conn) await(ctx context.Context, s *stream) (err error) {
	c.mu.Unlock()
	select {
	case <-s.done:
	case <-ctx.Done():
		err = unprocessed(ctx.Err())
	}
	c.mu.Lock()
	if err != nil {
		if i := slices.Index(c.waiting, s); i >= 0 {
			c.waiting = slices.Delete(c.waiting, i, i+1)
			return err
		}
		<-s.done // the turn has come in the meantime
	}
	c.reserved--
	if err == nil && c.err != nil {
		err = unprocessed(c.err)
	}
	if err != nil {
		c.next()
		c.rest()
	}
	return err
}

func (c *Conn) room() bool {
	most := min(uint32(c.MaxStreams), c.peerMost)
	return uint32(len(c.streams)+c.reserved) < most && len(c.out.b)+c.reserved*typical < maxOut
}

// next gives turns to waiting streams: to all of them if nothing remains to wait for.
func (c *Conn) next() {
	n := 0
	for n < len(c.waiting) && (c.err != nil || c.room()) {
		c.reserved++
		c.waiting[n].done <- struct{}{}
		n++
	}
	if n > 0 {
		c.waiting = slices.Delete(c.waiting, 0, n)
	}
}

func (c *Conn) start(s *stream, req *Request) error {
	var size uint64
	for i := range req.Header {
		size += uint64(req.Header[i].Size())
	}
	if req.Literal != nil {
		size += uint64(req.Literal.Size())
	}
	if size > c.peerList {
		c.next()
		return errTooLarge
	}
	s.id = c.nextID
	c.nextID += 2
	c.streams[s.id] = s
	s.window = c.initial
	if c.nextID > lastID-2 {
		c.err = errIDs
		c.next()
	}
	c.encoded.Reset()
	for _, f := range req.Header {
		_ = c.enc.WriteField(f) // into memory
	}
	if req.Literal != nil {
		c.encoded.Write(req.Literal.coded)
	}
	// Writing valid frames into memory does not fail either.
	b := c.encoded.Bytes()
	n := min(len(b), c.maxFrame)
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: s.id, BlockFragment: b[:n], EndHeaders: n == len(b), EndStream: len(s.body) == 0,
	})
	for b = b[n:]; len(b) > 0; b = b[n:] {
		n = min(len(b), c.maxFrame)
		_ = c.fr.WriteContinuation(s.id, n == len(b), b[:n])
	}
	if !c.send(s) {
		c.blocked = append(c.blocked, s)
	}
	return nil
}

// send sends as much of the body as flow control allows, and reports whether that is
// all.
func (c *Conn) send(s *stream) bool {
	for len(s.body) > 0 {
		n := int(min(int64(min(len(s.body), c.maxFrame)), c.window, s.window))
		if n <= 0 {
			return false
		}
		_ = c.fr.WriteData(s.id, n == len(s.body), s.body[:n])
		s.body = s.body[n:]
		c.window -= int64(n)
		s.window -= int64(n)
	}
	return true
}

// unblock sends what has become possible, but no more than should wait for the
// writer: it is called again.
func (c *Conn) unblock() {
	if len(c.blocked) == 0 {
		return
	}
	c.blocked = slices.DeleteFunc(c.blocked, func(s *stream) bool { return c.window > 0 && len(c.out.b) < maxOut && c.send(s) })
}

// end completes a stream.
func (c *Conn) end(s *stream, err error) {
	delete(c.streams, s.id)
	if len(s.body) > 0 {
		s.body = nil
		c.blocked = slices.DeleteFunc(c.blocked, func(o *stream) bool { return o == s })
	}
	s.over(err)
	if c.block.stream == s {
		c.block.stream = nil
	}
	c.next()
	c.rest()
}

// rest closes a connection that accepts no more requests, after its last one.
func (c *Conn) rest() {
	if c.err != nil && !c.isDead && len(c.streams) == 0 && c.reserved == 0 {
		c.failLocked(c.err, http2.ErrCodeNo)
	}
}

func (s *stream) over(err error) {
	if !s.header {
		s.err = err
	}
	s.done <- struct{}{}
}

// abort completes a stream that the server has not ended.
func (c *Conn) abort(s *stream, code http2.ErrCode, err error) {
	_ = c.fr.WriteRSTStream(s.id, code)
	c.end(s, err)
}
