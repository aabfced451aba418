package push

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// The parts that clients of all push services share.

const (
	openTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
	maxHeader   = 32 << 10 // of an answer
)

// ReadField reads a file named by a configuration field. Its error begins with the
// field.
func ReadField(field, path string) ([]byte, error) {
	contents, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot read file: %w", field, err)
	}
	return contents, nil
}

// TLSConfig returns the TLS configuration for a push service: TLS 1.2 and later,
// trusting the system's CAs. If caFile is not empty, it also trusts the CAs in it and
// returns its PEM text. Its errors begin with ca_file.
func TLSConfig(caFile string) (config *tls.Config, ca []byte, err error) {
	config = &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil, nil
	}
	if ca, err = ReadField("ca_file", caFile); err != nil {
		return nil, nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(ca) {
		return nil, nil, fmt.Errorf("ca_file: %s holds no PEM certificate", caFile)
	}
	config.RootCAs = roots
	return config, ca, nil
}

// Fingerprint identifies everything that a client is made from. Other parts give
// another fingerprint, which reveals none of them.
func Fingerprint(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(sum, "%d:%s,", len(part), part) // so that each part has an end
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// CheckURL returns what is wrong with the address of a service, or "". It does not
// quote the URL, whose query may contain a key.
func CheckURL(s string) (problem string) {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "", u.User != nil, u.Fragment != "":
		return "must be an https URL without user information and fragment"
	case u.Scheme == "http" && !OnThisMachine(u.Hostname()):
		return "must be an https URL: http is only for this machine, such as http://127.0.0.1:8090/push"
	}
	return ""
}

// OnThisMachine reports whether a host (without port and brackets) is this machine.
func OnThisMachine(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return host == "localhost"
}

// NewTransport keeps HTTP/1.1 connections alive, with at most one request at a time
// on each: a request that is never answered costs one connection and delays no other
// request.
func NewTransport(config *tls.Config, inFlight int) *http.Transport {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: openTimeout}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    openTimeout,
		DisableCompression:     true,
		MaxIdleConns:           inFlight,
		MaxIdleConnsPerHost:    inFlight,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// ProbeConnection opens a connection to a field's URL without sending a request. No
// error quotes the URL.
func ProbeConnection(ctx context.Context, t *http.Transport, field, to string) error {
	u, err := url.Parse(to)
	if err != nil {
		return fmt.Errorf("cannot connect: %s is not valid", field)
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // "https" and "http" name ports too
	}
	c, err := t.NewClientConn(ctx, u.Scheme, net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fmt.Errorf("cannot connect: %s", NoAnswer(ctx, err, field).Detail)
	}
	_ = c.Close() // nothing was sent
	return nil
}

// NoAnswer explains a try that got no status. The error itself may quote the URL,
// which may contain a key or a token. So the service is called by the field that
// names it, or "the push service" without one.
func NoAnswer(ctx context.Context, err error, field string) Reply {
	if reply, ended := Ended(ctx); ended {
		return reply
	}
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		errno       syscall.Errno
	)
	name, theirs := "the push service's name", "the push service's certificate"
	if field != "" {
		name, theirs = "the name in "+field, "the certificate of "+field
	}
	r := Reply{Reason: Unavailable, Detail: "the connection was lost", Starved: Starved(err)}
	switch {
	case errors.As(err, &dns):
		r.Detail = name + " cannot be resolved"
	case errors.As(err, &certificate):
		r.Detail = theirs + " is not valid"
	case errors.As(err, &errno):
		r.Detail = errno.Error()
	}
	return r
}

// Users counts the pushes in flight, so that shared resources are closed with the
// last of them. Safe for concurrent use.
type Users struct {
	n      atomic.Int64
	closed atomic.Bool
}

// Enter adds one.
func (u *Users) Enter() { u.n.Add(1) }

// Leave removes one, and reports whether it was the last one after Close.
func (u *Users) Leave() (last bool) { return u.n.Add(-1) == 0 && u.closed.Load() }

// Close reports whether there are none. Otherwise the last Leave reports it.
func (u *Users) Close() (none bool) {
	u.closed.Store(true)
	return u.n.Load() == 0
}
