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

	"github.com/sipwake/sipwake/internal/secret"
)

// Why not http.Transport: it hands each request to two other goroutines, which doubles
// what a signal costs (14 µs of CPU here, 25 there). Here the caller writes and reads;
// net/http parses. fasthttp's client cannot be cancelled, and keeps a goroutine.

// maxHeaders bounds the headers of an answer in bytes, maxInterim the 1xx answers
// before it.
const (
	maxHeaders = 16 << 10
	maxInterim = 5
)

// link is what clients of the same settings share over a reload: the connections to
// one proxy, HTTP/1.1 and one request at a time on each. Safe for concurrent use.
type link struct {
	address string // host:port
	host    string // for TLS
	tls     bool
	head    []byte // of every request, up to the length of its body
	idle    time.Duration
	slots   chan struct{} // one for each connection in use

	mu     sync.Mutex
	free   []*conn // the one used last is at the end
	closed bool
	timer  *time.Timer // closes those that are free for too long; nil when none is
}

// conn is one connection.
type conn struct {
	net.Conn
	room   io.LimitedReader // how much more of the answer is read
	buffer *bufio.Reader
	// request is the last one; its memory is used again.
	request []byte
	freed   time.Time
}

// newLink returns a link without a connection. u is as Kind.parse returns it.
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
	// Without the type OpenSIPS never answers.
	l.head = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n", u.RequestURI(), u.Host)
	return l
}

// exchange posts a body with the secret, if there is one, and returns what is answered:
// its status, and at most maxAnswer bytes of its body. A request that finds its connection closed goes over
// another one, maybe for the second time: a signal that comes twice adds one branch.
func (l *link) exchange(ctx context.Context, s secret.Text, body []byte) (status int, answer []byte, err error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
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
		err = gone // what the connection says is how the end was brought about
	}
	return status, answer, err
}

// over makes the exchange on one connection, which it keeps or closes. With again the
// proxy seems to have closed it before it got the request.
func (l *link) over(ctx context.Context, c *conn, s secret.Text, body []byte) (status int, answer []byte, again bool, err error) {
	keep := false
	defer func() {
		if keep {
			l.release(c)
		} else {
			_ = c.Close() // it is of no more use
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
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
	c.room.N = 2 * maxAnswer // with what frames it
	if n := res.ContentLength; n >= 0 && n < maxAnswer {
		answer = make([]byte, n)
		_, err = io.ReadFull(res.Body, answer)
	} else {
		answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	}
	if err == nil && len(answer) < maxAnswer {
		keep = res.StatusCode >= http.StatusOK && !res.Close && c.buffer.Buffered() == 0
	}
	// A proxy in between says so of a connection that nobody used.
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
			_ = nc.Close() // it is of no use
			return nil, err
		}
		nc = t
	}
	c := &conn{Conn: nc}
	c.room.R = nc
	c.buffer = bufio.NewReader(&c.room)
	return c, nil
}

// take returns a connection that is free, or nil.
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

// expire closes what was free for too long: before the proxy does, which may be when
// the next request is under way.
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

// close closes the free connections. From now on none is kept.
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
