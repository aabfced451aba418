package acrobits

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// Config says how apps report, and how to reach the mediator.
type Config struct {
	// Listen is the address, host:port, at which apps report. If empty, this whole
	// package is off.
	Listen string `yaml:"listen"`
	// CertFile and KeyFile enable TLS. Without them Listen must be a loopback
	// address, behind a web server with TLS.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// SecretFile holds the secret from which the users' keys are derived, at least
	// 16 bytes.
	SecretFile string `yaml:"secret_file"`
	// Domain is the domain of users that are given without one.
	Domain string `yaml:"domain"`
	// AppIDs are the apps that may report. If empty, any may.
	AppIDs []string `yaml:"app_ids"`
	// RateLimit is how many reports per second one client may send. A client is an
	// IPv4 address or an IPv6 /64 network. Default 5; 0 means no limit.
	RateLimit *int `yaml:"rate_limit"`
	// Connections limits the open connections, of which one client may have an
	// eighth. Default 1024.
	Connections int `yaml:"connections"`
	// Endpoint is the mediator's URL. Default Acrobits' own.
	Endpoint string `yaml:"endpoint"`
	// CAFile holds PEM certificates that are trusted in addition to the system's.
	CAFile string `yaml:"ca_file"`

	push.Limits `yaml:",inline"`
	// Policy says when the devices are pushed.
	Policy push.Policy `yaml:"policy"`
}

const (
	mediator  = "https://pnm.cloudsoftphone.com/pnm2/send"
	minSecret = 16 // bytes
)

// On reports whether apps can report and be pushed.
func (c *Config) On() bool { return c.Listen != "" }

// SetDefaults sets the zero fields.
func (c *Config) SetDefaults() {
	if c.RateLimit == nil {
		c.RateLimit = new(int)
		*c.RateLimit = 5
	}
	if c.Connections == 0 {
		c.Connections = 1024
	}
	if c.Endpoint == "" {
		c.Endpoint = mediator
	}
	if c.Policy.Cancel == "" {
		c.Policy.Cancel = push.CancelPushed // the push itself shows the call
	}
	c.Limits.SetDefaults()
	c.Policy.SetDefaults(pnparam.Acrobits)
}

// Validate reports every problem that can be found without reading files. Call
// SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	if !c.On() {
		if c.SecretFile != "" || c.CertFile != "" || c.KeyFile != "" || c.Domain != "" || len(c.AppIDs) > 0 {
			report("listen", "must be set, such as 127.0.0.1:8063")
		}
		return
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if _, bad := net.LookupPort("tcp", port); err != nil || port == "" || bad != nil {
		report("listen", "must be host:port, such as 127.0.0.1:8063")
	} else if c.CertFile == "" && !push.OnThisMachine(host) {
		report("listen", "is not a loopback address, so cert_file and key_file must be set")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		report("cert_file", "cert_file and key_file go together")
	}
	if c.SecretFile == "" {
		report("secret_file", "must be set")
	}
	for i, id := range c.AppIDs {
		if id == "" || slices.Contains(c.AppIDs[:i], id) {
			report(fmt.Sprintf("app_ids[%d]", i), "must be an application ID, and there once")
		}
	}
	if *c.RateLimit < 0 {
		report("rate_limit", "must not be negative")
	}
	if c.Connections < 1 {
		report("connections", "must be at least 1")
	}
	if push.CheckURL(c.Endpoint) != "" {
		report("endpoint", "must be an https URL; http is only for this machine")
	}
	c.Limits.Validate(report)
	c.Policy.Validate(func(field, problem string) { report("policy."+field, problem) })
}

// Apps reads the files and returns the app, which serves every application ID.
// Without Listen it returns none. An error begins with the yaml name of the wrong
// field. Call SetDefaults and Validate first.
func (c *Config) Apps(_ *slog.Logger) ([]push.App, error) {
	if !c.On() {
		return nil, nil
	}
	if _, err := c.Reports(); err != nil {
		return nil, err
	}
	if _, err := c.Certificate(); err != nil {
		return nil, err
	}
	tlsConfig, ca, err := push.TLSConfig(c.CAFile)
	if err != nil {
		return nil, err
	}
	templates := push.DefaultTemplates(pnparam.Acrobits)
	for _, k := range push.Kinds() {
		payload := map[push.Kind]string{push.Call: call, push.Cancel: cancel}[k]
		if payload == "" {
			payload = text
		}
		var err error
		if templates, err = templates.With(k, "", []byte(payload)); err != nil {
			panic("BUG: default template: " + err.Error())
		}
	}
	poster, chain := push.NewPoster(tlsConfig, c.InFlight)
	poster.Transport.Protocols.SetHTTP2(true)
	return []push.App{{
		Provider:    pnparam.Acrobits,
		Packages:    []string{"acrobits"},
		Any:         true,
		Default:     true,
		Client:      &Provider{url: c.Endpoint, answers: push.NewAnswers(Answers()), poster: poster},
		Limits:      c.Limits,
		Templates:   templates,
		Policy:      c.Policy,
		Chain:       chain,
		Fingerprint: push.Fingerprint(fmt.Sprintf("%q %+v", c.Endpoint, c.Limits), string(ca)),
	}}, nil
}

// Reports reads the secret. Its error is like that of Apps.
func (c *Config) Reports() (*Reports, error) {
	key, err := secret.ReadText(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	if len(key.Reveal()) < minSecret {
		return nil, fmt.Errorf("secret_file: %s must hold at least %d bytes", c.SecretFile, minSecret)
	}
	return &Reports{secret: key, domain: c.Domain, appIDs: c.AppIDs}, nil
}

// Certificate reads the certificate of the listener for reports. It returns nil
// without TLS.
func (c *Config) Certificate() (*tls.Certificate, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file: cannot read certificate: %w", err)
	}
	return &cert, nil
}
