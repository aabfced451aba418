package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"sync"
)

// Dialer opens connections as net/http does, through a proxy if the environment names
// one. It takes them over when HTTP/2 has been negotiated.
type Dialer struct {
	Config
	Transport *http.Transport // dial, TLS and proxy settings; no requests
}

var errTaken = errors.New("taken over")

type taken struct{ http.RoundTripper }

func (taken) RoundTrip(*http.Request) (*http.Response, error) { return nil, errTaken }

// Dial opens a connection to host, "name:port".
func (d *Dialer) Dial(ctx context.Context, host string) (*Conn, error) {
	t := d.Transport.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = new(tls.Config)
	}
	t.TLSClientConfig.NextProtos = []string{"h2"}
	t.ForceAttemptHTTP2, t.Protocols = false, nil
	t.DisableKeepAlives = true // closes what is not taken over
	// net/http may finish a connection after its caller has given up.
	var mu sync.Mutex
	var nc *tls.Conn
	left := false
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{
		"h2": func(_ string, c *tls.Conn) http.RoundTripper {
			mu.Lock()
			defer mu.Unlock()
			if left {
				_ = c.Close() // nobody will use it
			} else {
				nc = c
			}
			return taken{}
		},
	}
	req := (&http.Request{Method: http.MethodPost, URL: &url.URL{Scheme: "https", Host: host, Path: "/"}, Header: http.Header{}}).WithContext(ctx)
	resp, err := t.RoundTrip(req)
	mu.Lock()
	left = true
	mu.Unlock()
	if err == nil {
		_ = resp.Body.Close()
		return nil, errors.New("http2: the server does not speak HTTP/2")
	}
	if nc == nil {
		return nil, err
	}
	if !errors.Is(err, errTaken) {
		_ = nc.Close() // the caller has just given up
		return nil, err
	}
	return New(ctx, nc, d.Config)
}
