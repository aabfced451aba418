package phone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	// maxDatagram bounds received datagrams. An idle phone needs this much memory, so it
	// is less than the 64 KiB of UDP.
	maxDatagram  = 16 << 10
	maxStream    = 64 << 10 // largest message over TCP
	writeTimeout = 5 * time.Second

	lowestUDP, udpPorts = 33_000, 27_000
)

// flow is one UDP socket or one connection to the proxy: what RFC 5626 calls a flow.
// A phone has at most one open at a time.
type flow struct {
	udp      *net.UDPConn // one of the two is nil
	stream   net.Conn     // TCP, TLS, or WebSocket without its frames
	protocol string       // as in a Via
	local    netip.AddrPort
	host     string                         // in the phone's Contact and Via: local, or a name that does not resolve
	proxy    atomic.Pointer[netip.AddrPort] // changes over UDP only

	done chan struct{} // closed by close
	once sync.Once
}

// openFlow opens a socket or a connection on a free port of the phone's host. Without a
// host it uses the address from which the proxy can be reached.
func openFlow(ctx context.Context, c *Config, proxy string) (*flow, error) {
	network := UDP
	if c.Transport != UDP {
		network = TCP
	}
	dialer := net.Dialer{}
	if c.Host != "" {
		addr, err := netip.ParseAddr(c.Host)
		if err != nil {
			return nil, fmt.Errorf("cannot parse address %q: %w", c.Host, err)
		}
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
		if network == TCP {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
		}
	}
	conn, err := dialer.DialContext(ctx, network, proxy)
	if err != nil {
		return nil, fmt.Errorf("cannot reach proxy %q: %w", proxy, err)
	}
	f := &flow{done: make(chan struct{}), local: addrPort(conn.LocalAddr()), protocol: strings.ToUpper(c.Transport)}
	f.host = f.local.String()
	remote := addrPort(conn.RemoteAddr())
	f.proxy.Store(&remote)
	if network == TCP {
		if f.stream, err = upgrade(ctx, c, conn, proxy); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("cannot reach proxy %q over %s: %w", proxy, c.Transport, err)
		}
		if c.Transport == WS || c.Transport == WSS {
			f.host = strings.ToLower(newTag()) + ".invalid"
		}
		return f, nil
	}
	// A connected UDP socket receives only from its peer, but a phone must receive from
	// every proxy of its domain. The connected one was only for the addresses.
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("cannot close socket: %w", err)
	}
	if f.udp, err = listenUDP(f.local.Addr(), c.Port); err != nil {
		return nil, fmt.Errorf("cannot open socket: %w", err)
	}
	f.local = addrPort(f.udp.LocalAddr())
	f.host = f.local.String()
	return f, nil
}

// The UDP ports of this process' phones, one after the other.
var (
	firstPort = rand.Uint32N(udpPorts)
	ports     atomic.Uint32
)

// listenUDP opens a socket at this port or, if it is 0, at one that no other phone of this
// process had lately: to a proxy, the address of a phone that sleeps is that phone's.
func listenUDP(addr netip.Addr, fixed uint16) (conn *net.UDPConn, err error) {
	if fixed != 0 {
		return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, fixed)))
	}
	for range 100 {
		port := lowestUDP + uint16((firstPort+ports.Add(1))%udpPorts)
		if conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port))); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// close ends the flow; the reader returns soon after. Idempotent.
func (f *flow) close() {
	f.once.Do(func() {
		close(f.done)
		if f.stream != nil {
			_ = f.stream.Close() // an error of Close cannot be handled
		} else {
			_ = f.udp.Close()
		}
	})
}

func (f *flow) closed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// send sends one message; a connection has only one place to send to.
func (f *flow) send(b []byte, to netip.AddrPort) error {
	var err error
	if f.stream != nil {
		if err = f.stream.SetWriteDeadline(time.Now().Add(writeTimeout)); err == nil {
			_, err = f.stream.Write(b)
		}
	} else {
		_, err = f.udp.WriteToUDPAddrPort(b, to)
	}
	if err != nil {
		return fmt.Errorf("cannot send to %s: %w", to, err)
	}
	return nil
}

// hop returns the destination of a request inside a dialog: its first route, or its target,
// if that is an address, or the proxy.
func (f *flow) hop(target string, routes []string) netip.AddrPort {
	if len(routes) > 0 {
		target = addressURI(routes[0])
	}
	var uri sip.Uri
	if err := sip.ParseUri(target, &uri); err != nil {
		return *f.proxy.Load()
	}
	addr, err := netip.ParseAddr(strings.Trim(uri.Host, "[]"))
	if err != nil {
		return *f.proxy.Load()
	}
	port := uri.Port
	if port == 0 {
		port = 5060
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

// read passes every message to hear until either side closes the flow. hear may keep the
// bytes. An error says that the other side closed the flow, or that it cannot be read.
func (f *flow) read(hear func(raw []byte, from netip.AddrPort, err error)) error {
	var err error
	if f.stream != nil {
		err = f.readStream(hear)
	} else {
		err = f.readDatagrams(hear)
	}
	if f.closed() {
		return nil
	}
	return err
}

var errDatagramSize = errors.New("datagram larger than " + strconv.Itoa(maxDatagram) + " bytes")

func (f *flow) readDatagrams(hear func([]byte, netip.AddrPort, error)) error {
	buf := make([]byte, maxDatagram+1)
	for {
		n, from, err := f.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return fmt.Errorf("cannot read socket: %w", err)
		}
		if n > maxDatagram {
			hear(bytes.Clone(buf[:n]), from, errDatagramSize)
			continue
		}
		if len(bytes.Trim(buf[:n], "\r\n\x00")) == 0 {
			continue // keep-alive, RFC 5626 section 3.5.1
		}
		hear(bytes.Clone(buf[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil)
	}
}

func (f *flow) readStream(hear func([]byte, netip.AddrPort, error)) error {
	var stream framer
	for {
		for {
			raw, err := stream.next()
			if err != nil {
				hear(stream.buf, *f.proxy.Load(), err)
				return err
			}
			if raw == nil {
				break
			}
			hear(raw, *f.proxy.Load(), nil)
		}
		if err := stream.fill(f.stream); err != nil {
			return fmt.Errorf("cannot read connection: %w", err)
		}
	}
}

var errStreamSize = errors.New("message larger than " + strconv.Itoa(maxStream) + " bytes")

// framer splits a stream into messages (RFC 3261 section 18.3). The stream parser of sipgo
// does not keep the text, and stops for good at a header that it rejects.
type framer struct{ buf []byte }

func (s *framer) fill(r interface{ Read([]byte) (int, error) }) error {
	if cap(s.buf)-len(s.buf) < 512 {
		s.buf = append(make([]byte, 0, 2*cap(s.buf)+2048), s.buf...)
	}
	n, err := r.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	return err
}

// next returns the next message, nil if it is not complete yet.
func (s *framer) next() ([]byte, error) {
	s.buf = bytes.TrimLeft(s.buf, "\r\n") // keep-alives between messages
	head := bytes.Index(s.buf, []byte("\r\n\r\n"))
	if head < 0 {
		if len(s.buf) > maxStream {
			return nil, errStreamSize
		}
		return nil, nil
	}
	size := head + 4 + contentLength(s.buf[:head])
	if size > maxStream {
		return nil, errStreamSize
	}
	if len(s.buf) < size {
		return nil, nil
	}
	raw := bytes.Clone(s.buf[:size])
	s.buf = s.buf[size:]
	if len(s.buf) == 0 {
		s.buf = nil // free the buffer of an idle connection
	}
	return raw, nil
}

// contentLength returns the Content-Length, 0 if there is no valid one.
func contentLength(head []byte) int {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		name = bytes.ToLower(bytes.TrimSpace(name))
		if string(name) != "content-length" && string(name) != "l" {
			continue
		}
		if n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 31); err == nil {
			return int(n)
		}
	}
	return 0
}
