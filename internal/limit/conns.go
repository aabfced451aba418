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

// ConnLimits limits the open connections of a server.
type ConnLimits struct {
	// Most is the most open connections.
	Most int
	// Unproven is the most connections of clients that have not authenticated,
	// PerClient the most of these from one client (see Client).
	Unproven, PerClient int
	// Refusal is written to a refused connection; nil for TLS.
	Refusal []byte
}

// Conns are the open connections of a server. At a limit, a new connection displaces
// an idle one: the one that has been idle longest is closed. A connection is idle from
// when it is accepted, except while one of its requests is handled. Authenticated
// connections are displaced only if there are no others. Safe for concurrent use.
type Conns struct {
	limits ConnLimits
	log    *Log

	mu       sync.Mutex
	stats    ConnStats
	unproven int
	clients  map[netip.Addr]*clientConns // of unproven connections
	waiting  list.List                   // idle unproven *conn, the longest idle first
	proved   list.List                   // idle proved *conn, the longest idle first
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

// conn is one connection. The mutex of Conns guards its fields.
type conn struct {
	net.Conn
	conns  *Conns
	client netip.Addr
	closed bool
	proved bool
	used   bool // a request has come
	busy   bool // a request is being handled

	place, clientPlace *list.Element // in the lists of idle connections
}

// NewConns returns Conns without connections.
func NewConns(limits ConnLimits, log *Log) *Conns {
	return &Conns{limits: limits, log: log, clients: make(map[netip.Addr]*clientConns)}
}

// Client returns the address under which a client is counted: the IPv4 address, or the
// /64 prefix of the IPv6 address, since a host can choose the other 64 bits at will.
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

// Stats returns the current counts.
func (cs *Conns) Stats() ConnStats {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.stats
}

// Begin notes that a request of the connection is being handled. It returns false if
// the connection was closed. The request must not be handled then, because the client
// sends it again.
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

// Done notes that the connection is idle until its next request.
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

// Prove notes that the client of the connection has authenticated.
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

// CloseUnused closes the connections without any request so far, and refuses new ones.
// HTTP clients open connections in advance, and a server that stops need not wait for
// these.
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

// tracked returns the conn of a connection, nil if Conns did not accept it.
func tracked(nc net.Conn) *conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// Close closes the connection and frees its place.
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

// wait appends a connection to the idle ones.
func (cs *Conns) wait(c *conn) {
	if c.proved {
		c.place = cs.proved.PushBack(c)
		return
	}
	c.place = cs.waiting.PushBack(c)
	c.clientPlace = cs.clients[c.client].waiting.PushBack(c)
}

// leave removes a connection from the idle ones.
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

// forget removes a connection from the count of unproven ones.
func (cs *Conns) forget(c *conn) {
	cs.unproven--
	if of := cs.clients[c.client]; of.n == 1 {
		delete(cs.clients, c.client)
	} else {
		of.n--
	}
}

// displace closes the connection that has been idle longest and reports whether there
// was one.
func (cs *Conns) displace(of *list.List) bool {
	e := of.Front()
	if e == nil {
		return false
	}
	old := e.Value.(*conn)
	cs.drop(old)
	cs.stats.Displaced++
	cs.log.Warn("connection closed to make room", "peer", old.client.String())
	_ = old.Conn.Close() // closing a socket does not block
	return true
}

// admit gives a connection a place, and closes an idle one for it if necessary. It
// returns nil if there is no place.
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
		// The buffer of a new connection is empty, so this does not block.
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = nc.Write(cs.limits.Refusal)
	}
	_ = nc.Close()
	return nil
}

// Listen returns a listener that accepts the connections of l within the limits. Errors
// of accept(2) do not end it unless l itself is unusable: when file descriptors run
// out, for example, it pauses and tries again. Closing it closes l.
func (cs *Conns) Listen(l net.Listener) net.Listener {
	return &listener{Listener: l, conns: cs, done: make(chan struct{})}
}

type listener struct {
	net.Listener
	conns *Conns
	once  sync.Once
	done  chan struct{}
}

// Pauses after errors, each twice as long as the one before.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Accept returns the next connection that gets a place.
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

// passes reports whether the listener can accept again after the error: after all errors
// of the network and of exhausted resources that accept(2) lists, but not after those
// of the listener itself.
func passes(err error) bool {
	for _, end := range []error{net.ErrClosed, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK} {
		if errors.Is(err, end) {
			return false
		}
	}
	return true
}

// giveWay closes the unproven connection that has been idle longest, to free its file
// descriptor.
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
