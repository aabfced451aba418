// Package otlp sends calls as OpenTelemetry traces, by OTLP over HTTP: one span for
// each call, with child spans for its pushes and signals.
package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sipwake/sipwake/internal/secret"
)

// Config configures the export.
type Config struct {
	// Endpoint is the URL of the collector, http or https. The default path is
	// /v1/traces. Empty: export is off.
	Endpoint string `yaml:"endpoint"`
	// Headers are sent with each request.
	Headers map[string]secret.Text `yaml:"headers"`
	// CAFile has the PEM certificates to trust. Empty: the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are for a collector that requires a client certificate.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// SampleRatio is the share of calls that are sent, above 0 and up to 1. Default 1.
	SampleRatio float64 `yaml:"sample_ratio"`
	// ServiceName is the service.name of the traces. Default sipwake.
	ServiceName string `yaml:"service_name"`
}

// SetDefaults fills the fields that are not set.
func (c *Config) SetDefaults() {
	if c.SampleRatio == 0 {
		c.SampleRatio = 1
	}
	if c.ServiceName == "" {
		c.ServiceName = "sipwake"
	}
}

// Validate reports every problem. Call SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	var u *url.URL
	if c.Endpoint != "" {
		if u = parseEndpoint(c.Endpoint); u == nil {
			report("endpoint", "must be a URL, such as http://127.0.0.1:4318, without user, query and fragment")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			report("headers", "has a name that no HTTP header can have")
		case !httpguts.ValidHeaderFieldValue(c.Headers[name].Reveal()):
			report("headers."+name, "has a character that no HTTP header can have")
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		report("cert_file", "cert_file and key_file go together")
	}
	if u != nil && u.Scheme == "http" && (c.CAFile != "" || c.CertFile != "") {
		report("endpoint", "must be https where there is a ca_file or cert_file")
	}
	if !(c.SampleRatio > 0 && c.SampleRatio <= 1) {
		report("sample_ratio", "must be above 0 and at most 1")
	}
}

// parseEndpoint returns nil if s is not the URL of a collector.
func parseEndpoint(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" {
		return nil
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	return u
}

// transport returns the HTTP transport to the collector, with the configured CAs and
// certificate and without a proxy.
func (c *Config) transport() (*http.Transport, error) {
	t := &http.Transport{MaxIdleConns: 2, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	var problems []error
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("ca_file: cannot read file: %w", err))
		case !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem):
			problems = append(problems, fmt.Errorf("ca_file: %s: %w", c.CAFile, errNoCertificate))
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			problems = append(problems, fmt.Errorf("cert_file: cannot read certificate and key: %w", err))
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{cert}
	}
	return t, errors.Join(problems...)
}

var errNoCertificate = errors.New("no PEM certificate in it")
