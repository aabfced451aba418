// Package node signals SIP proxies with JSON-RPC 2.0 over HTTP. Each kind of proxy has
// its own package with its requests.
package node

import (
	"net/url"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// Kind has what differs between the kinds of proxies.
type Kind struct {
	Path    string // default path of the URL
	Example string // of a URL, for messages
	// SecretFile is the problem to report if there is no secret; empty if none is
	// needed.
	SecretFile string
	// Forbidden is the error when the proxy refuses the secret.
	Forbidden error
	// Idle is how long an unused connection stays open. It must be less than in the
	// proxy.
	Idle time.Duration
}

// Config configures how to signal one proxy.
type Config struct {
	// URL is the address of Kamailio's module xhttp, or of OpenSIPS' management
	// interface (modules httpd and mi_http): http or https, host and port. The default
	// path is that of the Kind.
	URL string `yaml:"url"`
	// SecretFile holds the secret that the proxy requires: SIPWAKE_SECRET of Kamailio's
	// sipwake.cfg. MI itself requires none, but a reverse proxy in front of it may.
	SecretFile string `yaml:"secret_file"`
	// Secret is the secret itself. Only one of the two may be set.
	Secret secret.Text `yaml:"secret"`
	// Timeout bounds one signal, from connecting to the last answer. Default 1s.
	Timeout time.Duration `yaml:"timeout"`
	// Connections bounds the open connections, and so the parallel requests. Further
	// requests wait for a connection. Default 64.
	Connections int `yaml:"connections"`
}

// SetDefaults fills the fields that are not set.
func (c *Config) SetDefaults() {
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.Connections == 0 {
		c.Connections = 64
	}
}

const secretProblem = "must be printable ASCII without spaces and double quotes"

// Validate reports each invalid setting. Call SetDefaults first.
func (c *Config) Validate(k Kind, report func(field, problem string)) {
	if _, problem := k.parse(c.URL); problem != "" {
		report("url", problem)
	}
	switch {
	case c.SecretFile == "" && c.Secret.Empty() && k.SecretFile != "":
		report("secret_file", k.SecretFile)
	case c.SecretFile != "" && !c.Secret.Empty():
		report("secret", "must not be set beside secret_file")
	case !fitsHeader(c.Secret):
		report("secret", secretProblem)
	}
	if c.Timeout < time.Millisecond || c.Timeout > time.Minute {
		report("timeout", "must be from 1ms to 1m")
	}
	if c.Connections < 1 || c.Connections > 10_000 {
		report("connections", "must be from 1 to 10000")
	}
}

// parse returns the address for requests, or what is wrong with s.
func (k Kind) parse(s string) (u *url.URL, problem string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, "must be http or https, host and port, such as " + k.Example
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, "must hold no user, query or fragment"
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = k.Path
	}
	return u, ""
}

// fitsHeader reports whether the secret can be the value of an HTTP header and a string
// in a script.
func fitsHeader(s secret.Text) bool {
	for _, b := range []byte(s.Reveal()) {
		if b <= ' ' || b >= 0x7f || b == '"' {
			return false
		}
	}
	return true
}
