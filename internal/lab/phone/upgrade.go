package phone

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// upgrade turns a TCP connection to the proxy into the phone's transport.
func upgrade(ctx context.Context, c *Config, conn net.Conn, proxy string) (net.Conn, error) {
	if c.Transport == TLS || c.Transport == WSS {
		host, _, err := net.SplitHostPort(proxy)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, &tls.Config{RootCAs: c.RootCAs, ServerName: host, MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	if c.Transport == WS || c.Transport == WSS {
		return openWebSocket(ctx, conn, proxy)
	}
	return conn, nil
}

// webSocket is SIP over WebSocket (RFC 7118) without the frames. Each write is one message.
type webSocket struct {
	net.Conn
	in *bufio.Reader

	reading sync.Mutex
	rest    []byte // of a message
	writing sync.Mutex
}

func openWebSocket(ctx context.Context, conn net.Conn, proxy string) (net.Conn, error) {
	dialer := ws.Dialer{
		Protocols: []string{"sip"},
		NetDial:   func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	_, in, _, err := dialer.Dial(ctx, "ws://"+proxy+"/")
	if err != nil {
		return nil, err
	}
	if in == nil {
		in = bufio.NewReader(conn)
	}
	return &webSocket{Conn: conn, in: in}, nil
}

// Read reads from messages; it answers pings.
func (w *webSocket) Read(b []byte) (int, error) {
	w.reading.Lock()
	defer w.reading.Unlock()
	for len(w.rest) == 0 {
		message, _, err := wsutil.ReadServerData(frames{w})
		if err != nil {
			return 0, err
		}
		w.rest = message
	}
	n := copy(b, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func (w *webSocket) Write(b []byte) (int, error) {
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame(b)))
	if err != nil {
		return 0, err
	}
	if _, err := (frames{w}).Write(frame); err != nil {
		return 0, err
	}
	return len(b), nil
}

// frames is the connection below the messages.
type frames struct{ w *webSocket }

func (f frames) Read(b []byte) (int, error) { return f.w.in.Read(b) }

func (f frames) Write(b []byte) (int, error) {
	f.w.writing.Lock()
	defer f.w.writing.Unlock()
	return f.w.Conn.Write(b)
}
