package rpc

import (
	"net"
	"sync"

	"github.com/valyala/fasthttp"
)

// unused holds the connections on which no request has come yet. HTTP clients
// open some in advance. fasthttp calls them active, and when it shuts down it
// waits for them as long as for a request that is under way.
type unused struct {
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	stopping bool
}

// track follows the state of a connection: a fasthttp.Server's ConnState.
func (u *unused) track(c net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		u.add(c)
	case fasthttp.StateIdle, fasthttp.StateClosed, fasthttp.StateHijacked:
		u.remove(c)
	}
}

// remove forgets a connection on which a request has come, or that is closed.
func (u *unused) remove(c net.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.conns, c)
}

func (u *unused) add(c net.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopping {
		_ = c.Close()
		return
	}
	if u.conns == nil {
		u.conns = make(map[net.Conn]struct{})
	}
	u.conns[c] = struct{}{}
}

// close closes them, and those that come.
func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stopping = true
	for c := range u.conns {
		_ = c.Close()
	}
}
