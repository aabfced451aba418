// Package node signals SIP proxies with JSON-RPC 2.0 over HTTP. What a kind of
// proxy is told stands in its own package.
package node

import (
	"net/url"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// Kind is what the kinds of proxies differ in.
type Kind struct {
	Path    string // of the URL, where the configuration has none
	Example string // of a URL, for messages
	// SecretFile is what to say where there is no secret; empty if none is needed.
	SecretFile string
	// Forbidden is the error of a proxy that wants another secret.
	Forbidden error
	// Idle is how long an unused connection stays open: less than the proxy keeps it.
	Idle time.Duration
}

// Config says how to signal one proxy.
type Config struct {
	// URL is the address of Kamailio's module xhttp, or of OpenSIPS' management
	// interface (modules httpd and mi_http): http or https, host and port. Without
	// a path it is that of the Kind.
	URL string `yaml:"url"`
	// SecretFile holds the secret that the proxy wants to see: that which Kamailio's
	// sipwake.cfg calls SIPWAKE_SECRET. MI itself asks for none, but a reverse proxy
	// before it may.
	SecretFile string `yaml:"secret_file"`
	// Secret is that secret itself. Only one of the two may be set.
	Secret secret.Text `yaml:"secret"`
	// Timeout bounds one signal, from connecting to the last answer. Default 1s.
	Timeout time.Duration `yaml:"timeout"`
	// Connections bounds the open connections, and so the requests under way;
	// further ones wait for theirs. Default 64.
	Connections int `yaml:"connections"`
}

// SetDefaults fills what is not set.
func (c *Config) SetDefaults() {
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.Connections == 0 {
		c.Connections = 64
	}
}

const secretProblem = "must be printable ASCII without spaces and double quotes"

// Validate reports each setting that cannot work. Call SetDefaults first.
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

// parse returns the address that requests are sent to, or what is wrong.
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

// fitsHeader reports whether the secret can be the value of an HTTP header, and a
// text in a script.
func fitsHeader(s secret.Text) bool {
	for _, b := range []byte(s.Reveal()) {
		if b <= ' ' || b >= 0x7f || b == '"' {
			return false
		}
	}
	return true
}
