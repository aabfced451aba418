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
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sipwake/sipwake/internal/secret"
)

// access decides who may call. A reload replaces it as a whole.
type access struct {
	networks []netip.Prefix
	tokens   []secret.Text
	cas      []*x509.Certificate // of the clients; none: no client certificate is required
	names    []string
	tenants  []tenantToken
	push     []pushDoor // of HTTPPush; none: it is off
}

// tenantToken is a token of a tenant.
type tenantToken struct {
	token  secret.Text
	tenant *tenant
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
	if err := a.addPush(c.HTTPPush, nil); err != nil {
		return nil, err
	}
	for i := range c.Tenants {
		if err := a.addTenant(&c.Tenants[i]); err != nil {
			return nil, fmt.Errorf("tenants[%d].%w", i, err)
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

// addTenant reads the tokens of a tenant. Each token must be unique.
func (a *access) addTenant(c *Tenant) error {
	var t *tenant
	for i, f := range c.TokenFiles {
		token, err := a.newToken(f)
		if err != nil {
			return fmt.Errorf("token_files[%d]: %w", i, err)
		}
		if t == nil {
			t = newTenant(c, token)
		}
		a.tenants = append(a.tenants, tenantToken{token, t})
	}
	if t == nil {
		t = newTenant(c, secret.Text{})
	}
	return a.addPush(c.HTTPPush, t)
}

// addPush reads the token of HTTPPush, if there is one.
func (a *access) addPush(h HTTPPush, t *tenant) error {
	if h.TokenFile == "" {
		return nil
	}
	read := a.newToken
	if t == nil { // the operator's token may also be in token_files
		read = secret.ReadText
	}
	token, err := read(h.TokenFile)
	if err != nil {
		return fmt.Errorf("http_push.token_file: %w", err)
	}
	a.push = append(a.push, pushDoor{token, t, h.Domain})
	return nil
}

// newToken reads a token that must not be in another file.
func (a *access) newToken(file string) (secret.Text, error) {
	token, err := secret.ReadText(file)
	if err != nil {
		return token, err
	}
	known := slices.ContainsFunc(a.tokens, func(t secret.Text) bool { return t.Equal(token.Reveal()) }) ||
		slices.ContainsFunc(a.tenants, func(t tenantToken) bool { return t.token.Equal(token.Reveal()) }) ||
		slices.ContainsFunc(a.push, func(d pushDoor) bool { return d.token.Equal(token.Reveal()) })
	if known {
		return token, fmt.Errorf("%s holds a token that another file has too", file)
	}
	return token, nil
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

// tlsConfig returns the TLS configuration for new connections.
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

// allows reports whether the request passes every required authentication, and
// returns its tenant, nil for the operator.
func (a *access) allows(ctx *fasthttp.RequestCtx) (t *tenant, ok bool) {
	if a.cas != nil && !a.hasCertificate(ctx.TLSConnectionState(), time.Now()) {
		return nil, false
	}
	return a.hasToken(string(ctx.Request.Header.Peek("Authorization")))
}

// proves reports whether callers authenticate by more than their address.
func (a *access) proves() bool { return a.cas != nil || len(a.tokens) > 0 }

// wantsToken reports whether requests need a token.
func (a *access) wantsToken() bool { return len(a.tokens) > 0 || len(a.tenants) > 0 }

// hasCertificate reports whether the client's certificate is acceptable now. The
// handshake verified it, but perhaps long ago: it may have expired since, or a reload
// may have changed the CAs and names.
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

// hasName reports whether a certificate's common name or one of its subject
// alternative names (DNS, IP address, e-mail, URI) is in names.
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

// fromNetwork reports whether the peer's address may connect.
func (a *access) fromNetwork(peer netip.Addr) bool {
	return len(a.networks) == 0 || slices.ContainsFunc(a.networks, func(n netip.Prefix) bool { return n.Contains(peer) })
}

// bearerToken returns the token of an Authorization header. The scheme is
// case-insensitive (RFC 9110 11.1).
func bearerToken(authorization string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(authorization, " ")
	return strings.TrimLeft(token, " "), ok && strings.EqualFold(scheme, "Bearer")
}

// hasToken reports whether the Authorization header value has one of the tokens, and
// returns the tenant. It compares every token, each in constant time.
func (a *access) hasToken(authorization string) (of *tenant, ok bool) {
	if !a.wantsToken() {
		return nil, true
	}
	shown, bearer := bearerToken(authorization)
	if !bearer {
		return nil, false
	}
	for _, t := range a.tokens {
		ok = t.Equal(shown) || ok
	}
	for _, t := range a.tenants {
		if t.token.Equal(shown) {
			of, ok = t.tenant, true
		}
	}
	return of, ok
}
