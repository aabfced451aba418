package node

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/deadline"
	"github.com/sipwake/sipwake/internal/secret"
)

// Why not http.Transport: it passes each request to two other goroutines, which nearly
// doubles the cost of a signal (25 µs of CPU instead of 14). Here the caller writes and
// reads, and net/http parses. fasthttp's client cannot be cancelled, and keeps a goroutine.

// maxHeaders limits the headers of an answer, in bytes. maxInterim limits the number of
// 1xx answers before it.
const (
	maxHeaders = 16 << 10
	maxInterim = 5
)

// link is the connections to one proxy, which clients with the same settings share across
// a reload. It uses HTTP/1.1 with one request at a time per connection. Safe for
// concurrent use.
type link struct {
	address string // host:port
	host    string // for TLS
	tls     bool
	head    []byte // of every request, up to the Content-Length
	idle    time.Duration
	slots   chan struct{} // one entry per connection in use

	mu     sync.Mutex
	free   []*conn // the most recently used one is last
	closed bool
	timer  *time.Timer // closes connections that are idle for too long; nil if none is free
}

// conn is one connection.
type conn struct {
	net.Conn
	room   io.LimitedReader // how much more of the answer may be read
	buffer *bufio.Reader
	// request is the last request; its memory is reused.
	request []byte
	freed   time.Time
}

// newLink returns a link without connections. u is a result of Kind.parse.
func newLink(u *url.URL, connections int, idle time.Duration) *link {
	l := &link{host: u.Hostname(), tls: u.Scheme == "https", idle: idle, slots: make(chan struct{}, connections)}
	port := u.Port()
	switch {
	case port != "":
	case l.tls:
		port = "443"
	default:
		port = "80"
	}
	l.address = net.JoinHostPort(l.host, port)
	// Without a Content-Type OpenSIPS never answers.
	l.head = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n", u.RequestURI(), u.Host)
	return l
}

// exchange posts a body with the secret, if there is one. It returns the status of the
// answer and at most maxAnswer bytes of its body. If the connection turns out to be
// closed, it sends the request over another one. The proxy may then get a signal twice,
// but still adds only one branch.
func (l *link) exchange(ctx context.Context, s secret.Text, body []byte) (status int, answer []byte, err error) {
	if err := l.enter(ctx); err != nil {
		return 0, nil, err
	}
	defer func() { <-l.slots }()
	for ctx.Err() == nil {
		c := l.take()
		used := c != nil
		if !used {
			if c, err = l.dial(ctx); err != nil {
				break
			}
		}
		var again bool
		if status, answer, again, err = l.over(ctx, c, s, body); !again || !used {
			break
		}
	}
	if gone := ctx.Err(); gone != nil && (err != nil || status == 0) {
		err = gone // the connection's error is only a consequence of it
	}
	return status, answer, err
}

// enter takes a slot.
func (l *link) enter(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// over makes the exchange on one connection, and then keeps or closes the connection. If
// again is true, the proxy seems to have closed it before it got the request.
func (l *link) over(ctx context.Context, c *conn, s secret.Text, body []byte) (status int, answer []byte, again bool, err error) {
	keep := false
	defer func() {
		if keep {
			l.release(c)
		} else {
			_ = c.Close() // it is useless now
		}
	}()
	parent, until := deadline.Split(ctx)
	if err = c.SetDeadline(until); err != nil {
		return 0, nil, true, err
	}
	stop := context.AfterFunc(parent, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer func() { keep = stop() && keep }()
	c.request = l.appendRequest(c.request[:0], s, body)
	if _, err = c.Write(c.request); err != nil {
		return 0, nil, true, err
	}
	c.room.N = maxHeaders
	if _, err = c.buffer.Peek(1); err != nil {
		return 0, nil, true, err
	}
	var res *http.Response
	for range maxInterim {
		//nolint:bodyclose // it is read to its end, and the connection is ours
		if res, err = http.ReadResponse(c.buffer, nil); err != nil || res.StatusCode >= http.StatusOK {
			break
		}
	}
	if err != nil {
		if c.room.N <= 0 {
			err = fmt.Errorf("its headers exceeded %d bytes", maxHeaders)
		}
		return 0, nil, false, err
	}
	c.room.N = 2 * maxAnswer // including the chunk framing
	if n := res.ContentLength; n >= 0 && n < maxAnswer {
		answer = make([]byte, n)
		_, err = io.ReadFull(res.Body, answer)
	} else {
		answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	}
	if err == nil && len(answer) < maxAnswer {
		keep = res.StatusCode >= http.StatusOK && !res.Close && c.buffer.Buffered() == 0
	}
	// A reverse proxy sends 408 on a connection that was idle.
	return res.StatusCode, answer, res.StatusCode == http.StatusRequestTimeout, err
}

func (l *link) appendRequest(b []byte, s secret.Text, body []byte) []byte {
	b = append(b, l.head...)
	if !s.Empty() {
		b = append(append(append(b, "Authorization: Bearer "...), s.Reveal()...), "\r\n"...)
	}
	if l.isClosed() {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10), "\r\n\r\n"...)
	return append(b, body...)
}

func (l *link) dial(ctx context.Context) (*conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	if l.tls {
		t := tls.Client(nc, &tls.Config{ServerName: l.host, MinVersion: tls.VersionTLS12})
		if err := t.HandshakeContext(ctx); err != nil {
			_ = nc.Close() // it is useless
			return nil, err
		}
		nc = t
	}
	c := &conn{Conn: nc}
	c.room.R = nc
	c.buffer = bufio.NewReader(&c.room)
	return c, nil
}

// take returns a free connection, or nil.
func (l *link) take() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free)
	if n == 0 {
		return nil
	}
	c := l.free[n-1]
	l.free[n-1] = nil
	l.free = l.free[:n-1]
	return c
}

func (l *link) release(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close() // nothing is under way on it
		return
	}
	c.freed = time.Now()
	l.free = append(l.free, c)
	if l.timer == nil {
		l.timer = time.AfterFunc(l.idle, l.expire)
	}
}

// expire closes connections that were idle for too long. If the proxy closed them instead,
// the next request might already be on the way.
func (l *link) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.free) && time.Since(l.free[n].freed) >= l.idle {
		_ = l.free[n].Close() // nothing is under way on it
		n++
	}
	l.free = append(l.free[:0], l.free[n:]...)
	clear(l.free[len(l.free):cap(l.free)])
	l.timer = nil
	if len(l.free) > 0 {
		l.timer = time.AfterFunc(l.idle-time.Since(l.free[0].freed), l.expire)
	}
}

func (l *link) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// close closes the free connections. After it, no connection is kept.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, c := range l.free {
		_ = c.Close() // nothing is under way on it
	}
	l.free = nil
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}
