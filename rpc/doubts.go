package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/sipwake/sipwake/internal/limit"
)

// Doubts describes client certificates that will not work although every file can be
// read: the certificate of sipwake's own commands, and CAs that no longer issue client
// certificates. Each error begins with the yaml name of the field.
func Doubts(c Config) []error {
	if c.ClientCAFile == "" {
		return nil
	}
	cas, err := readCertificates(c.ClientCAFile)
	if err != nil {
		return nil // Check reports it
	}
	var list []error
	for _, ca := range cas {
		if public(ca) {
			list = append(list, fmt.Errorf("client_ca_file: %q is a public CA. Those make certificates for servers only since 2026, "+
				"which no client can show here: use a CA of your own", ca.Subject.CommonName))
		}
	}
	certFile, keyFile := c.ClientCertificate()
	field := "cert_file"
	if c.ClientCertFile != "" {
		field = "client_cert_file"
	}
	own, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return list
	}
	if problem := unfit(own, cas, c.ClientNames); problem != "" {
		text := fmt.Sprintf("%s: sipwake's own commands show this certificate, but %s", field, problem)
		if c.ClientCertFile == "" {
			text += ": set client_cert_file to another one"
		}
		list = append(list, errors.New(text))
	}
	return list
}

// public reports whether the system trusts the CA.
func public(ca *x509.Certificate) bool {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return false
	}
	_, err = ca.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

// unfit returns why a client with this certificate would be refused, or "".
func unfit(own tls.Certificate, cas []*x509.Certificate, names []string) string {
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		return "it is damaged"
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, ca := range cas {
		o.Roots.AddCert(ca)
	}
	for _, der := range own.Certificate[1:] {
		if between, err := x509.ParseCertificate(der); err == nil {
			o.Intermediates.AddCert(between)
		}
	}
	if _, err := leaf.Verify(o); err != nil {
		return certificateProblem(err)
	}
	if len(names) > 0 && !hasName(leaf, names) {
		return "client_names has none of its names"
	}
	return ""
}

// certificateProblem describes what is wrong with a client's certificate, without
// quoting it.
func certificateProblem(err error) string {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		switch invalid.Reason {
		case x509.IncompatibleUsage:
			return "it is for servers only (it has no clientAuth), as those of public CAs are since 2026"
		case x509.Expired:
			return "it has expired, or is not valid yet"
		}
	}
	if errors.As(err, new(x509.UnknownAuthorityError)) {
		return "it is of no CA of client_ca_file"
	}
	return "it cannot be verified"
}

// quiet logs fasthttp's own messages at debug level: they are about broken clients. It
// drops their arguments, which quote what was sent. A refused client certificate is a
// warning: its administrator will look for it.
type quiet struct {
	log     *slog.Logger
	refused *limit.Log
}

func (q quiet) Printf(format string, args ...any) {
	peer := ""
	for _, a := range args {
		if addr, ok := a.(net.Addr); ok {
			peer = addr.String() // the last one is the client's
		}
		err, ok := a.(error)
		switch {
		case !ok:
		case errors.Is(err, net.ErrClosed):
			return
		case errors.As(err, new(*tls.CertificateVerificationError)):
			if host, _, err := net.SplitHostPort(peer); err == nil {
				peer = host
			}
			q.refused.Warn("client certificate refused", "peer", peer, "reason", certificateProblem(err))
			return
		}
	}
	q.log.Debug("http connection failed", "detail", format)
}

// ClientCertificate returns the client certificate and key files of sipwake's own
// commands: client_cert_file, or cert_file.
func (c *Config) ClientCertificate() (certFile, keyFile string) {
	if c.ClientCertFile != "" {
		return c.ClientCertFile, c.ClientKeyFile
	}
	return c.CertFile, c.KeyFile
}

// checkClient reports invalid settings of client certificates.
func (c *Config) checkClient(report func(field, problem string)) {
	if c.ClientCAFile != "" && c.CertFile == "" {
		report("client_ca_file", "needs TLS: cert_file and key_file")
	}
	if (c.ClientCertFile == "") != (c.ClientKeyFile == "") {
		report("client_cert_file", "client_cert_file and client_key_file go together")
	} else if c.ClientCertFile != "" && c.ClientCAFile == "" {
		report("client_cert_file", "needs client_ca_file: without it no client shows a certificate")
	}
	if len(c.ClientNames) > 0 && c.ClientCAFile == "" {
		report("client_names", "needs client_ca_file")
	}
	if i := slices.Index(c.ClientNames, ""); i >= 0 {
		report(fmt.Sprintf("client_names[%d]", i), "is empty")
	}
}
