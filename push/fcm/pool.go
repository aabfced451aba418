package fcm

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	openTimeout = 5 * time.Second
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
	// maxConns limits the connections that a burst opens. Each carries about a
	// hundred pushes at a time.
	maxConns = 8
	// maxSilences is the number of consecutive failures without an answer after
	// which a transport's connections are abandoned although they are still open.
	maxSilences = 2
)

// pool is two transports to the same host, of which one is in use. A failure switches
// to the other, so that the next try of a push uses another connection.
type pool struct {
	fresh func() *http.Transport
	cur   atomic.Int32

	mu   sync.Mutex
	side [2]*side // nil until first used
}

// side is a transport with its requests in flight.
type side struct {
	t      *http.Transport
	silent atomic.Int32 // failures since the last answer

	refs    int // guarded by pool.mu
	retired bool
}

// newTransport returns an HTTP/2 transport that detects dead connections.
func newTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: openTimeout, KeepAlive: pingAfter}).DialContext,
		TLSClientConfig:     config.Clone(),
		TLSHandshakeTimeout: openTimeout,
		ForceAttemptHTTP2:   true,
		MaxConnsPerHost:     maxConns,
		MaxIdleConnsPerHost: maxConns,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: pingTimeout,
		},
	}
}

func newPool(config *tls.Config) *pool {
	return &pool{fresh: func() *http.Transport { return newTransport(config) }}
}

// roundTrip sends the request once and passes the answer to read.
func (p *pool) roundTrip(req *http.Request, read func(*http.Response) error) error {
	i := p.cur.Load()
	s := p.acquire(i)
	defer p.release(s)
	resp, err := s.t.RoundTrip(req)
	status := 0
	if err == nil {
		status = resp.StatusCode
		err = read(resp)
		_ = resp.Body.Close() // only read from
	}
	switch {
	case err == nil:
		s.silent.Store(0)
		if status >= http.StatusInternalServerError {
			p.cur.CompareAndSwap(i, 1-i)
		}
	case errors.Is(req.Context().Err(), context.Canceled): // says nothing about the connection
	default:
		p.cur.CompareAndSwap(i, 1-i)
		if s.silent.Add(1) >= maxSilences {
			p.retire(i, s)
		}
	}
	return err
}

func (p *pool) acquire(i int32) *side {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.side[i] == nil {
		p.side[i] = &side{t: p.fresh()}
	}
	s := p.side[i]
	s.refs++
	return s
}

func (p *pool) release(s *side) {
	p.mu.Lock()
	s.refs--
	last := s.retired && s.refs == 0
	p.mu.Unlock()
	if last {
		s.t.CloseIdleConnections()
	}
}

// retire takes s out of use. Its connections are closed when its last request has
// ended.
func (p *pool) retire(i int32, s *side) {
	p.mu.Lock()
	s.retired = true
	if p.side[i] == s {
		p.side[i] = nil
	}
	idle := s.refs == 0
	p.mu.Unlock()
	if idle {
		s.t.CloseIdleConnections()
	}
}

// close closes all connections as soon as nothing is in flight on them.
func (p *pool) close() {
	for i := range p.side {
		p.mu.Lock()
		s := p.side[i]
		p.mu.Unlock()
		if s != nil {
			p.retire(int32(i), s)
		}
	}
}
