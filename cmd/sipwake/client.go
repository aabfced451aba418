package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/secret"
)

// client calls the RPC interface of the running sipwake that a configuration describes.
type client struct {
	url   string
	where string // the server, for messages
	token secret.Text
	http  *http.Client
	cfg   *config.Config
}

const callPatience = 10 * time.Second

func newClient(configFile string) (*client, error) {
	cfg, err := loadConfig(configFile)
	if err != nil {
		return nil, err
	}
	c := &client{
		cfg:   cfg,
		url:   "http://" + cfg.RPC.Listen + "/rpc",
		where: fmt.Sprintf("sipwake at %s (rpc.listen of %s)", cfg.RPC.Listen, configFile),
		http:  &http.Client{Timeout: callPatience},
	}
	problem := func(field string, err error) error {
		p := cfg.Problems()
		p.Add(field, err)
		return p.Err()
	}
	if cfg.RPC.CertFile != "" {
		trust, err := trustOnly(cfg.RPC.CertFile)
		if err != nil {
			return nil, problem("rpc.cert_file", err)
		}
		if cfg.RPC.ClientCAFile != "" {
			own, err := tls.LoadX509KeyPair(cfg.RPC.ClientCertificate())
			if err != nil {
				return nil, problem("rpc.client_cert_file", fmt.Errorf("cannot load certificate and key: %w", err))
			}
			trust.Certificates = []tls.Certificate{own}
		}
		c.url = "https://" + cfg.RPC.Listen + "/rpc"
		c.http.Transport = &http.Transport{TLSClientConfig: trust}
	}
	if len(cfg.RPC.TokenFiles) > 0 {
		if c.token, err = secret.ReadText(cfg.RPC.TokenFiles[0]); err != nil {
			return nil, problem("rpc.token_files[0]", err)
		}
	}
	return c, nil
}

// withoutURL returns the cause of a request's error, without the request's method and URL.
func withoutURL(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// trustOnly returns a TLS configuration that accepts only the server's own certificate.
// The certificate has the host name that others use, but this client connects to the
// listening address.
func trustOnly(certFile string) (*tls.Config, error) {
	text, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate: %w", err)
	}
	block, rest := pem.Decode(text)
	for block != nil && block.Type != "CERTIFICATE" { // the file may also contain a key
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, fmt.Errorf("cannot read certificate: %s holds no PEM certificate", certFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate %s: %w", certFile, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	cfg := &tls.Config{RootCAs: roots, ServerName: cert.Subject.CommonName, MinVersion: tls.VersionTLS12}
	switch {
	case len(cert.DNSNames) > 0:
		cfg.ServerName = cert.DNSNames[0]
		if rest, ok := strings.CutPrefix(cfg.ServerName, "*."); ok {
			cfg.ServerName = "sipwake." + rest // any name that the wildcard covers
		}
	case len(cert.IPAddresses) > 0:
		cfg.ServerName = cert.IPAddresses[0].String()
	}
	return cfg, nil
}

// call calls the method and decodes its answer to result.
func (c *client) call(ctx context.Context, method string, params, result any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return fmt.Errorf("cannot encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if !c.token.Empty() {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w", c.where, withoutURL(err))
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusForbidden {
		return fmt.Errorf("%s does not let this machine in: see rpc.networks", c.where)
	}
	var answer struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("cannot read the answer of %s: HTTP %d, and no JSON-RPC: is it another program's port?", c.where, res.StatusCode)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s answered: %s", c.where, answer.Error.Message)
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", c.where, err)
	}
	return nil
}
