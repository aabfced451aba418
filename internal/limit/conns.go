package limit

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// ConnLimits bounds the open connections of a server.
type ConnLimits struct {
	// Most is how many may be open.
	Most int
	// Unproven is how many of them may be of clients that have not proved who
	// they are, PerClient how many of one client (see Client).
	Unproven, PerClient int
	// Refusal is written to a connection that finds no place; nil where TLS is
	// spoken.
	Refusal []byte
}

// Conns are the open connections of a server. A new one finds a place as long as
// another one waits: the one that has waited for the longest time is closed for
// it. A connection waits from when it is accepted, but not while a request of it
// is worked on. Those that have proved themselves give way only when there are no
// others. Safe for concurrent use.
type Conns struct {
	limits ConnLimits
	log    *Log

	mu       sync.Mutex
	stats    ConnStats
	unproven int
	clients  map[netip.Addr]*clientConns // of those that are unproven
	waiting  list.List                   // unproven *conn, the longest waiting first
	proved   list.List                   // proved ones that wait
	stopping bool
}

// ConnStats counts connections.
type ConnStats struct {
	Open      int   // now
	Displaced int64 // closed to make room for others
	Refused   int64 // closed because there was no room
}

type clientConns struct {
	n       int
	waiting list.List
}

// conn is one connection. Its fields belong to the mutex of Conns.
type conn struct {
	net.Conn
	conns  *Conns
	client netip.Addr
	closed bool
	proved bool
	used   bool // a request has come
	busy   bool // a request is worked on

	place, clientPlace *list.Element // in the lists of those that wait
}

// NewConns returns Conns without any.
func NewConns(limits ConnLimits, log *Log) *Conns {
	return &Conns{limits: limits, log: log, clients: make(map[netip.Addr]*clientConns)}
}

// Client is the address by which a client is counted: an IPv4 address, or the 64
// bits of an IPv6 address that one host may vary at will.
func Client(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if addr.Is4() {
		return addr
	}
	p, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return p.Addr()
}

// Stats returns the counts of now.
func (cs *Conns) Stats() ConnStats {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.stats
}

// Begin notes that a request of the connection is being worked on. It returns
// false if the connection has been closed: then the request must not be worked
// on, for its client will send it again.
func (cs *Conns) Begin(nc net.Conn) bool {
	c := tracked(nc)
	if c == nil {
		return true
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.closed {
		return false
	}
	cs.leave(c)
	c.busy, c.used = true, true
	return true
}

// Done notes that the connection waits for its next request.
func (cs *Conns) Done(nc net.Conn) {
	c := tracked(nc)
	if c == nil {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.closed {
		return
	}
	cs.leave(c)
	c.busy = false
	cs.wait(c)
}

// Prove notes that the client of the connection has proved who it is.
func (cs *Conns) Prove(nc net.Conn) {
	c := tracked(nc)
	if c == nil {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.closed || c.proved {
		return
	}
	cs.leave(c)
	cs.forget(c)
	c.proved = true
	if !c.busy {
		cs.wait(c)
	}
}

// Proved reports whether Prove was called for the connection.
func (cs *Conns) Proved(nc net.Conn) bool {
	c := tracked(nc)
	if c == nil {
		return false
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return c.proved
}

// CloseUnused closes the connections on which no request has come, and those that
// are accepted from now on. HTTP clients open some in advance, and a server that
// stops need not wait for them.
func (cs *Conns) CloseUnused() {
	cs.mu.Lock()
	cs.stopping = true
	var unused []*conn
	for e := cs.waiting.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); !c.used {
			unused = append(unused, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range unused {
		_ = c.Close()
	}
}

// tracked returns what Conns knows of a connection, nil if it is another's.
func tracked(nc net.Conn) *conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// Close closes the connection and gives its place away.
func (c *conn) Close() error {
	c.conns.mu.Lock()
	c.conns.drop(c)
	c.conns.mu.Unlock()
	return c.Conn.Close()
}

// drop forgets a connection that is about to be closed.
func (cs *Conns) drop(c *conn) {
	if c.closed {
		return
	}
	c.closed = true
	cs.leave(c)
	if !c.proved {
		cs.forget(c)
	}
	cs.stats.Open--
}

// wait puts a connection at the end of those that wait.
func (cs *Conns) wait(c *conn) {
	if c.proved {
		c.place = cs.proved.PushBack(c)
		return
	}
	c.place = cs.waiting.PushBack(c)
	c.clientPlace = cs.clients[c.client].waiting.PushBack(c)
}

// leave takes a connection out of those that wait.
func (cs *Conns) leave(c *conn) {
	switch {
	case c.place == nil:
	case c.proved:
		cs.proved.Remove(c.place)
	default:
		cs.waiting.Remove(c.place)
		cs.clients[c.client].waiting.Remove(c.clientPlace)
	}
	c.place, c.clientPlace = nil, nil
}

// forget takes a connection out of the count of those that are unproven.
func (cs *Conns) forget(c *conn) {
	cs.unproven--
	if of := cs.clients[c.client]; of.n == 1 {
		delete(cs.clients, c.client)
	} else {
		of.n--
	}
}

// displace closes the connection that waits longest, if there is one.
func (cs *Conns) displace(of *list.List) bool {
	e := of.Front()
	if e == nil {
		return false
	}
	old := e.Value.(*conn)
	cs.drop(old)
	cs.stats.Displaced++
	cs.log.Warn("connection closed to make room", "peer", old.client.String())
	_ = old.Conn.Close() // of a socket: it does not wait
	return true
}

// admit gives a connection a place, and closes others for it if need be. It
// returns nil if there is none.
func (cs *Conns) admit(nc net.Conn) net.Conn {
	c := &conn{Conn: nc, conns: cs}
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		c.client = Client(a.AddrPort().Addr())
	}
	cs.mu.Lock()
	if of := cs.clients[c.client]; of != nil && of.n >= cs.limits.PerClient {
		cs.displace(&of.waiting)
	}
	if cs.unproven >= cs.limits.Unproven {
		cs.displace(&cs.waiting)
	}
	room := !cs.stopping && (cs.stats.Open < cs.limits.Most || cs.displace(&cs.waiting) || cs.displace(&cs.proved))
	if room {
		if cs.clients[c.client] == nil {
			cs.clients[c.client] = new(clientConns)
		}
		cs.clients[c.client].n++
		cs.unproven++
		cs.stats.Open++
		cs.wait(c)
	} else if !cs.stopping {
		cs.stats.Refused++
	}
	stopping := cs.stopping
	cs.mu.Unlock()

	if room {
		return c
	}
	if !stopping {
		cs.log.Warn("connection refused, there is no room", "peer", c.client.String())
		// Its buffer is empty, so this does not wait.
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = nc.Write(cs.limits.Refusal)
	}
	_ = nc.Close()
	return nil
}

// Listen returns a listener that accepts what l accepts and the limits allow. No
// error of accept(2) ends it but that l cannot be used any more: without file
// descriptors, say, it pauses and tries again. Close it to close l.
func (cs *Conns) Listen(l net.Listener) net.Listener {
	return &listener{Listener: l, conns: cs, done: make(chan struct{})}
}

type listener struct {
	net.Listener
	conns *Conns
	once  sync.Once
	done  chan struct{}
}

// The pauses after errors: each is twice as long as the one before.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Accept returns the next connection that finds a place.
func (l *listener) Accept() (net.Conn, error) {
	pause := firstPause
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if !passes(err) {
				return nil, err
			}
			l.conns.log.Warn("cannot accept connections", "err", err)
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				l.conns.giveWay()
			}
			select {
			case <-time.After(pause):
			case <-l.done:
				return nil, net.ErrClosed
			}
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		if c := l.conns.admit(nc); c != nil {
			return c, nil
		}
	}
}

// passes reports whether the listener may accept again after the error: accept(2)
// lists those of the network and of exhaustion, so only those are left out that
// mean the listener itself.
func passes(err error) bool {
	for _, end := range []error{net.ErrClosed, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK} {
		if errors.Is(err, end) {
			return false
		}
	}
	return true
}

// giveWay closes the unproven connection that waits longest, for its descriptor.
func (cs *Conns) giveWay() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.displace(&cs.waiting)
}

// Close closes the listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}
