package h2

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A server without HTTP/2 is left again: no connection to it stays.
func TestDialWithoutHTTP2(t *testing.T) {
	closed := make(chan struct{}, 100)
	plain := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer plain.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: plain.TLS.Certificates, MinVersion: tls.VersionTLS12}) // without ALPN
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}}
	go s.Serve(l)
	defer s.Close()
	d := Dialer{Config: testConfig, Transport: plain.Client().Transport.(*http.Transport)}
	for range 3 {
		if _, err := d.Dial(t.Context(), l.Addr().String()); err == nil {
			t.Fatal("there is a connection")
		}
		<-closed
	}
}
