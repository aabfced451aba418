package apns

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/sideshow/apns2"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// Config is one iOS app. It has exactly one credential: a .p8 key or a push
// certificate. Apple issues either for one environment or for both.
type Config struct {
	// BundleID is the app's bundle ID, without any ".voip".
	BundleID string `yaml:"bundle_id"`
	// Topic replaces BundleID as apns-topic. ".voip" is appended for VoIP pushes.
	Topic string `yaml:"topic"`

	TeamID  string `yaml:"team_id"`
	KeyID   string `yaml:"key_id"`
	KeyFile string `yaml:"key_file"`

	// CertificateFile is a PKCS#12 or PEM file with certificate and key.
	CertificateFile         string      `yaml:"certificate_file"`
	CertificatePassword     secret.Text `yaml:"certificate_password"`
	CertificatePasswordFile string      `yaml:"certificate_password_file"`

	// Environment applies to bindings that name none. Default production.
	Environment pnparam.Environment `yaml:"environment"`
	// Environments are those for which the key is valid. The default is both, or
	// what SetDefaults finds. For a certificate, the certificate itself says so.
	Environments []pnparam.Environment `yaml:"environments"`

	// Endpoint and SandboxEndpoint replace Apple's hosts.
	Endpoint        string `yaml:"endpoint"`
	SandboxEndpoint string `yaml:"sandbox_endpoint"`
	// CAFile holds PEM certificates that are trusted in addition to the system's:
	// for such an endpoint, or for a proxy that intercepts TLS.
	CAFile string `yaml:"ca_file"`
	// Connections is how many are kept open to each environment's host. Default 2,
	// which is also the minimum: a failed push is retried over another connection.
	Connections int `yaml:"connections"`
	// HTTP2 selects the HTTP/2 client. Default own.
	HTTP2 HTTP2 `yaml:"http2"`

	// BackgroundPerHour limits the background pushes to a device per hour. Default
	// 3, which is what iOS delivers according to Apple.
	BackgroundPerHour int `yaml:"background_per_hour"`

	push.Limits  `yaml:",inline"`
	push.Options `yaml:",inline"`
	// Policy says when the app's devices are pushed.
	Policy push.Policy `yaml:"policy"`

	// found is set if the file was found by its name, so only the file says what it
	// is valid for.
	found bool
}

// HTTP2 names an HTTP/2 client.
type HTTP2 string

// The clients: package h2, and net/http.
const (
	HTTP2Own      HTTP2 = "own"
	HTTP2Standard HTTP2 = "standard"
)

// SetDefaults sets the zero fields of all apps. If an app has several keys that do
// not list their environments, each is for its Environment only.
func SetDefaults(list []Config) {
	keys := make(map[string]int) // by bundle ID
	for i := range list {
		if list[i].KeyFile != "" {
			keys[list[i].BundleID]++
		}
	}
	for i := range list {
		c := &list[i]
		several := c.KeyFile != "" && keys[c.BundleID] > 1 && c.Environments == nil
		c.SetDefaults()
		if several {
			c.Environments = []pnparam.Environment{c.Environment}
		}
	}
}

// SetDefaults sets the zero fields of an app that has a single entry.
func (c *Config) SetDefaults() {
	if c.Topic == "" {
		c.Topic = c.BundleID
	}
	if c.Environment == "" {
		c.Environment = pnparam.Production
		if len(c.Environments) == 1 {
			c.Environment = c.Environments[0]
		}
	}
	if c.Environments == nil && c.KeyFile != "" {
		c.Environments = []pnparam.Environment{pnparam.Production, pnparam.Sandbox}
	}
	if c.Endpoint == "" {
		c.Endpoint = apns2.HostProduction
	}
	if c.SandboxEndpoint == "" {
		c.SandboxEndpoint = apns2.HostDevelopment
	}
	if c.Connections == 0 {
		c.Connections = 2
	}
	if c.HTTP2 == "" {
		c.HTTP2 = HTTP2Own
	}
	if c.BackgroundPerHour == 0 {
		c.BackgroundPerHour = 3
	}
	c.Limits.SetDefaults()
	c.Policy.SetDefaults(pnparam.APNs)
}

// Validate reports every problem that can be found without reading files. Call
// SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	checkBundle(report, "bundle_id", c.BundleID)
	if c.Topic != c.BundleID {
		checkBundle(report, "topic", c.Topic)
	}
	switch {
	case c.KeyFile == "" && c.CertificateFile == "":
		report("key_file", "must be set, or certificate_file instead")
	case c.KeyFile != "" && c.CertificateFile != "":
		report("certificate_file", "must not be set together with key_file")
	case c.KeyFile != "":
		checkAppleID(report, "team_id", c.TeamID)
		checkAppleID(report, "key_id", c.KeyID)
	}
	if c.KeyFile == "" && c.KeyID != "" {
		report("key_id", "is only for key_file")
	}
	if c.CertificateFile == "" {
		if !c.CertificatePassword.Empty() {
			report("certificate_password", "is only for certificate_file")
		}
		if c.CertificatePasswordFile != "" {
			report("certificate_password_file", "is only for certificate_file")
		}
	}
	if !c.CertificatePassword.Empty() && c.CertificatePasswordFile != "" {
		report("certificate_password_file", "must not be set together with certificate_password")
	}
	c.validateEnvironments(report)
	checkEndpoint(report, "endpoint", c.Endpoint)
	checkEndpoint(report, "sandbox_endpoint", c.SandboxEndpoint)
	if c.Connections < 2 || c.Connections > 32 {
		report("connections", fmt.Sprintf("must be between 2 and 32, is %d", c.Connections))
	}
	if c.HTTP2 != HTTP2Own && c.HTTP2 != HTTP2Standard {
		report("http2", fmt.Sprintf("must be own or standard, is %q", c.HTTP2))
	}
	if c.BackgroundPerHour < 1 || c.BackgroundPerHour > 60 {
		report("background_per_hour", fmt.Sprintf("must be between 1 and 60, is %d", c.BackgroundPerHour))
	}
	c.Limits.Validate(report)
	c.Options.Validate(pnparam.APNs, report)
	c.Policy.Validate(func(field, problem string) { report("policy."+field, problem) })
}

func (c *Config) validateEnvironments(report func(field, problem string)) {
	wrong := func(env pnparam.Environment) bool { return env != pnparam.Production && env != pnparam.Sandbox }
	if wrong(c.Environment) {
		report("environment", fmt.Sprintf("must be production or sandbox, is %q", c.Environment))
		return
	}
	for i, env := range c.Environments {
		switch field := fmt.Sprintf("environments[%d]", i); {
		case wrong(env):
			report(field, fmt.Sprintf("must be production or sandbox, is %q", env))
			return
		case slices.Contains(c.Environments[:i], env):
			report(field, fmt.Sprintf("%q is there twice", env))
		}
	}
	switch {
	case c.KeyFile == "" && c.Environments != nil:
		report("environments", "is only for key_file")
	case c.KeyFile != "" && len(c.Environments) == 0:
		report("environments", "must have production, sandbox or both")
	case c.KeyFile != "" && !slices.Contains(c.Environments, c.Environment):
		report("environment", fmt.Sprintf("must be %s, the only one that environments has", c.Environments[0]))
	}
}

func checkBundle(report func(field, problem string), field, s string) {
	switch {
	case s == "":
		report(field, "must be set")
	case strings.Trim(s, letters+digits+".-") != "":
		report(field, "must have letters, digits, dots and hyphens only")
	case strings.HasSuffix(s, ".voip"):
		report(field, `must be without ".voip", which is added where it is needed`)
	}
}

// appleIDLength is the length of team IDs and key IDs.
const appleIDLength = 10

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

func checkAppleID(report func(field, problem string), field, s string) {
	switch {
	case s == "":
		report(field, "must be set for key_file")
	case strings.Trim(s, letters+digits) != "":
		report(field, "must have letters and digits only")
	}
}

func checkEndpoint(report func(field, problem string), field, s string) {
	if _, err := parseEndpoint(s); err != nil {
		report(field, err.Error())
	}
}

func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("must be an https URL of host and port only, is %q", s)
	}
	return u, nil
}
