package rpc

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sipwake/sipwake/secret"
)

// access says who may call. It is swapped whole by a reload.
type access struct {
	networks []netip.Prefix
	tokens   []secret.Text
	cas      []*x509.Certificate // of the clients; none: no certificate is asked for
	names    []string
	push     secret.Text // of HTTPPush; empty: it is off
}

func newAccess(c Config) (*access, error) {
	a := &access{names: c.ClientNames}
	for i, f := range c.TokenFiles {
		t, err := secret.ReadText(f)
		if err != nil {
			return nil, fmt.Errorf("token_files[%d]: %w", i, err)
		}
		a.tokens = append(a.tokens, t)
	}
	for i, n := range c.Networks {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("networks[%d]: %w", i, err)
		}
		a.networks = append(a.networks, p)
	}
	if c.HTTPPush.TokenFile != "" {
		var err error
		if a.push, err = secret.ReadText(c.HTTPPush.TokenFile); err != nil {
			return nil, fmt.Errorf("http_push.token_file: %w", err)
		}
	}
	if c.ClientCAFile != "" {
		var err error
		if a.cas, err = readCertificates(c.ClientCAFile); err != nil {
			return nil, fmt.Errorf("client_ca_file: %w", err)
		}
	}
	return a, nil
}

// readCertificates reads every certificate of a PEM file.
func readCertificates(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificates: %w", err)
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("cannot read certificates of %s: %w", path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("cannot read certificates: %s holds no PEM certificate", path)
	}
	return certs, nil
}

// tlsConfig returns what new connections are held to.
func (a *access) tlsConfig(cert tls.Certificate) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if a.cas != nil {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		c.ClientCAs = x509.NewCertPool()
		for _, ca := range a.cas {
			c.ClientCAs.AddCert(ca)
		}
	}
	return c
}

// allows tells whether the request proves who sends it, in every way that is
// asked for.
func (a *access) allows(ctx *fasthttp.RequestCtx) bool {
	if a.cas != nil && !a.hasCertificate(ctx.TLSConnectionState(), time.Now()) {
		return false
	}
	return a.hasToken(string(ctx.Request.Header.Peek("Authorization")))
}

// proves tells whether callers prove who they are, other than by their address.
func (a *access) proves() bool { return a.cas != nil || len(a.tokens) > 0 }

// hasCertificate tells whether the client's certificate is one of those that are
// let in now. The handshake has verified it, but that may be long ago: since then
// it may have expired, or a reload may have brought other CAs and names.
func (a *access) hasCertificate(st *tls.ConnectionState, now time.Time) bool {
	if st == nil || len(st.PeerCertificates) == 0 || now.After(st.PeerCertificates[0].NotAfter) {
		return false
	}
	known := slices.ContainsFunc(st.VerifiedChains, func(chain []*x509.Certificate) bool {
		root := chain[len(chain)-1]
		return slices.ContainsFunc(a.cas, func(ca *x509.Certificate) bool { return bytes.Equal(ca.Raw, root.Raw) })
	})
	return known && (len(a.names) == 0 || hasName(st.PeerCertificates[0], a.names))
}

// hasName tells whether a certificate's common name or one of its alternative
// names (DNS, IP address, e-mail, URI) is among the names.
func hasName(c *x509.Certificate, names []string) bool {
	own := slices.Concat([]string{c.Subject.CommonName}, c.DNSNames, c.EmailAddresses)
	for _, ip := range c.IPAddresses {
		own = append(own, ip.String())
	}
	for _, u := range c.URIs {
		own = append(own, u.String())
	}
	return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(own, n) })
}

// fromNetwork tells whether the peer's address may connect.
func (a *access) fromNetwork(peer netip.Addr) bool {
	return len(a.networks) == 0 || slices.ContainsFunc(a.networks, func(n netip.Prefix) bool { return n.Contains(peer) })
}

// hasToken tells whether the Authorization header value carries one of the
// tokens. Every token is compared, each in constant time.
func (a *access) hasToken(authorization string) bool {
	if len(a.tokens) == 0 {
		return true
	}
	const scheme = "Bearer "
	if len(authorization) < len(scheme) || authorization[:len(scheme)] != scheme {
		return false
	}
	found := false
	for _, t := range a.tokens {
		found = t.Equal(authorization[len(scheme):]) || found
	}
	return found
}
