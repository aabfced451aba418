package h2

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/net/http2"
)

func (c *Conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Conn) writeLoop() {
	for {
		select {
		case <-c.wake:
			c.flush()
			continue
		case <-c.dead:
		}
		c.write(byeTimeout)
		_ = c.nc.Close() // nothing follows
		return
	}
}

// flush writes what is ready, and what becomes ready meanwhile.
func (c *Conn) flush() {
	for more := true; more; {
		runtime.Gosched() // so that goroutines about to send join the same write
		c.write(c.WriteTimeout)
		c.mu.Lock()
		more = len(c.out.b) > 0 && !c.isDead
		c.mu.Unlock()
	}
}

func (c *Conn) write(timeout time.Duration) {
	c.mu.Lock()
	b := c.out.b
	c.out.b = c.wbuf[:0]
	c.taken = c.nextID
	c.unblock()
	if len(c.waiting) > 0 {
		c.next()
	}
	c.mu.Unlock()
	for rest := b; len(rest) > 0; {
		_ = c.nc.SetWriteDeadline(time.Now().Add(timeout)) // if it is closed, the write reports it
		n, err := c.nc.Write(rest[:min(len(rest), chunk)])
		if err != nil {
			c.fail(fmt.Errorf("http2: cannot write: %w", err))
			break
		}
		rest = rest[n:]
	}
	if c.wbuf = b; cap(b) > maxOut/4 {
		c.wbuf = nil
	}
}

// fail ends the connection, with GOAWAY if the writer can still send it.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err, http2.ErrCodeNo)
}

func (c *Conn) failLocked(err error, code http2.ErrCode) {
	if c.isDead {
		return
	}
	c.isDead = true
	if c.err == nil {
		c.err = err
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(byeTimeout)) // for a write in progress
	for _, s := range c.streams {
		delete(c.streams, s.id)
		s.body = nil
		if s.id >= c.taken {
			s.over(unprocessed(err))
		} else {
			s.over(err)
		}
	}
	c.blocked, c.block.stream = nil, nil
	c.next()
	c.out.b = c.out.b[:0] // all of it was for the streams above
	_ = c.fr.WriteGoAway(0, code, nil)
	close(c.dead)
}

func unprocessed(err error) error { return fmt.Errorf("%w: %w", ErrUnprocessed, err) }

// watch sends PINGs on an idle connection.
func (c *Conn) watch() {
	timer := time.NewTimer(c.PingAfter)
	defer timer.Stop()
	asked := false
	for {
		select {
		case <-c.dead:
			return
		case <-timer.C:
		}
		switch {
		case c.heard.Swap(false):
			asked = false
		case asked:
			c.fail(errPing)
			return
		default:
			asked = true
			c.mu.Lock()
			_ = c.fr.WritePing(false, [8]byte{'s', 'i', 'p', 'w', 'a', 'k', 'e'})
			c.mu.Unlock()
			c.poke()
		}
		if asked {
			timer.Reset(c.PingTimeout)
		} else {
			timer.Reset(c.PingAfter)
		}
	}
}
