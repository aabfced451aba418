package apns

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/push/h2"
)

const (
	openTimeout = 5 * time.Second // TCP, TLS and a proxy's CONNECT together
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
	// avoidTime is how long a lane is avoided after a failure.
	avoidTime = 5 * time.Second
	// maxSilences is the number of consecutive failures without an answer after
	// which a connection is abandoned although it is still open.
	maxSilences = 2
	// firstAnswer limits the wait for the first push on a new connection: Apple
	// allows a single stream until that push is authenticated.
	firstAnswer = time.Second
	maxStreams  = 1000 // per h2 connection, in addition to the server's own limit
)

// lanes are the few long-lived connections to one APNs host. Pushes are spread over
// them by load. A lane that failed is avoided for a while, so that the next try of a
// push takes another one.
type lanes struct {
	all []*lane
}

// lane holds at most one usable connection, which is opened on first use.
type lane struct {
	open     func(context.Context) (clientConn, error)
	inFlight atomic.Int32
	avoid    atomic.Int64 // UnixNano until when the lane is avoided

	mu      sync.Mutex
	cur     *conn
	opening *opening
}

type opening struct {
	done chan struct{}
	err  error // valid after done, nil if the caller should look again
}

// clientConn carries requests: it is a connection of h2 or of net/http. After an
// error that is h2.ErrUnprocessed, the request may be sent over another connection,
// or over this one again if Err returns nil.
type clientConn interface {
	Do(context.Context, *h2.Request, *h2.Response) error
	Err() error
	Close() error
}

var (
	_ clientConn = (*h2.Conn)(nil)
	_ clientConn = (*standard)(nil)
)

// conn is one HTTP/2 connection.
type conn struct {
	cc     clientConn
	proven chan struct{} // closed when pushes may go at full rate
	prove  func()
	silent atomic.Int32 // failures since the last answer

	refs    int // pushes in flight; guarded by lane.mu
	retired bool
}

// newLanes creates n lanes to the host of an https URL. It does not connect.
func newLanes(endpoint *url.URL, config *tls.Config, n int, client HTTP2) *lanes {
	var http2 http.Protocols
	http2.SetHTTP2(true)
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: openTimeout, KeepAlive: pingAfter}).DialContext,
		TLSClientConfig:     config.Clone(), // net/http modifies it, and both environments share it
		TLSHandshakeTimeout: openTimeout,
		DisableCompression:  true,
		Protocols:           &http2,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:             pingAfter,
			PingTimeout:                 pingTimeout,
			WriteByteTimeout:            pingTimeout,
			StrictMaxConcurrentRequests: true,
		},
	}
	address := endpoint.Host
	if endpoint.Port() == "" {
		address = net.JoinHostPort(endpoint.Hostname(), "443")
	}
	own := h2.Dialer{Transport: t, Config: h2.Config{
		MaxStreams: maxStreams, MaxBody: maxAnswer,
		PingAfter: pingAfter, PingTimeout: pingTimeout, WriteTimeout: pingTimeout,
	}}
	open := func(ctx context.Context) (clientConn, error) {
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		if client == HTTP2Own {
			cc, err := own.Dial(ctx, address)
			if err != nil {
				return nil, err // a nil *h2.Conn is no nil clientConn
			}
			return cc, nil
		}
		cc, err := t.NewClientConn(ctx, "https", address)
		if err != nil {
			return nil, err
		}
		return &standard{ClientConn: cc}, nil
	}
	ls := &lanes{}
	for range n {
		ls.all = append(ls.all, &lane{open: open})
	}
	return ls
}

// pick returns the least busy lane that need not be avoided. If all should be
// avoided, it returns the one that failed the longest ago.
func (ls *lanes) pick() *lane {
	now := time.Now().UnixNano()
	var best, oldest *lane
	for _, l := range ls.all {
		if avoid := l.avoid.Load(); avoid > now {
			if oldest == nil || avoid < oldest.avoid.Load() {
				oldest = l
			}
			continue
		}
		if best == nil || l.inFlight.Load() < best.inFlight.Load() {
			best = l
		}
	}
	if best == nil {
		return oldest
	}
	return best
}

// close closes each connection once its pushes have ended.
func (ls *lanes) close() {
	for _, l := range ls.all {
		l.mu.Lock()
		c := l.cur
		l.mu.Unlock()
		if c != nil {
			l.retire(c)
		}
	}
}

// roundTrip sends one request and reads the answer. If the first connection certainly
// did not process the request, it uses another one. A connection that the answer
// calls unusable gets no more pushes.
func (l *lane) roundTrip(ctx context.Context, x *exchange) error {
	l.inFlight.Add(1)
	defer l.inFlight.Add(-1)
	const tries = 3
	for try := 1; ; try++ {
		c, err := l.acquire(ctx)
		if err != nil {
			l.failed(ctx, nil)
			return err
		}
		x.reset()
		err = c.cc.Do(ctx, &x.req, &x.resp)
		c.prove()
		if err == nil {
			c.silent.Store(0)
			if x.resp.Status >= http.StatusInternalServerError {
				l.passOver()
			}
			if x.parse(); x.unusable() {
				l.retire(c)
			}
			l.release(c)
			return nil
		}
		l.release(c)
		if !errors.Is(err, h2.ErrUnprocessed) || try == tries || ctx.Err() != nil {
			l.failed(ctx, c)
			return err
		}
	}
}

// acquire returns the lane's connection, and opens it if necessary. Of several
// callers one opens it. The others wait for that, and then for its first answer.
func (l *lane) acquire(ctx context.Context) (*conn, error) {
	for {
		l.mu.Lock()
		if l.cur != nil && l.cur.cc.Err() != nil {
			l.cur.retired = true // its last user closes it; it is closed already
			l.cur = nil
		}
		c, o := l.cur, l.opening
		switch {
		case c != nil:
			c.refs++
			l.mu.Unlock()
			select {
			case <-c.proven:
				return c, nil
			default:
			}
			select {
			case <-c.proven:
				return c, nil
			case <-ctx.Done():
				l.release(c)
				return nil, ctx.Err()
			}
		case o == nil:
			o = &opening{done: make(chan struct{})}
			l.opening = o
			l.mu.Unlock()
			return l.connect(ctx, o)
		}
		l.mu.Unlock()
		select {
		case <-o.done:
			if o.err != nil {
				return nil, o.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *lane) connect(ctx context.Context, o *opening) (*conn, error) {
	cc, err := l.open(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(o.done)
	l.opening = nil
	if err != nil {
		// The others have their own deadlines: they share only a real failure.
		if ctx.Err() == nil {
			o.err = err
		}
		return nil, err
	}
	c := &conn{cc: cc, proven: make(chan struct{}), refs: 1}
	c.prove = sync.OnceFunc(func() { close(c.proven) })
	time.AfterFunc(firstAnswer, c.prove)
	l.cur = c
	return c, nil
}

// retire takes c out of use. It is closed when its last push has ended.
func (l *lane) retire(c *conn) {
	l.mu.Lock()
	c.retired = true
	if l.cur == c {
		l.cur = nil
	}
	idle := c.refs == 0
	l.mu.Unlock()
	if idle {
		_ = c.cc.Close() // nothing was in flight
	}
}

func (l *lane) release(c *conn) {
	l.mu.Lock()
	c.refs--
	last := c.retired && c.refs == 0
	l.mu.Unlock()
	if last {
		_ = c.cc.Close() // nothing is in flight any more
	}
}

func (l *lane) passOver() { l.avoid.Store(time.Now().Add(avoidTime).UnixNano()) }

// failed records a push without an answer. A caller that gave up says nothing about
// the connection.
func (l *lane) failed(ctx context.Context, c *conn) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	l.passOver()
	if c != nil && c.silent.Add(1) >= maxSilences {
		l.retire(c)
	}
}
