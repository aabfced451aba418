package opensips

import (
	"fmt"
	"net/url"
	"time"

	"github.com/sipwake/sipwake/secret"
)

// miPath is where OpenSIPS serves MI: root "mi" of its module mi_http.
const miPath = "/mi"

// Config says how to signal one OpenSIPS.
type Config struct {
	// URL is the address of OpenSIPS' management interface (modules httpd and
	// mi_http): http or https, host and port. The path is /mi if there is none.
	URL string `yaml:"url"`
	// SecretFile holds what a reverse proxy before MI wants to see; MI itself asks
	// for nothing. Optional.
	SecretFile string `yaml:"secret_file"`
	// Secret is that secret itself. Only one of the two may be set.
	Secret secret.Text `yaml:"secret"`
	// Timeout bounds one signal, from connecting to the last answer. Default 1s.
	Timeout time.Duration `yaml:"timeout"`
	// Connections bounds the open connections, and so the signals under way;
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

// Validate reports each setting that cannot work. Call SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	if _, problem := parseURL(c.URL); problem != "" {
		report("url", problem)
	}
	switch {
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

const urlProblem = "must be http or https, host and port, such as http://127.0.0.1:8888"

// parseURL returns the address that commands are sent to, or what is wrong.
func parseURL(s string) (u *url.URL, problem string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, urlProblem
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, "must hold no user, query or fragment"
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = miPath
	}
	return u, ""
}

const secretProblem = "must be printable ASCII without spaces and double quotes"

// fitsHeader tells whether the secret can be an HTTP header's value.
func fitsHeader(s secret.Text) bool {
	for _, b := range []byte(s.Reveal()) {
		if b <= ' ' || b >= 0x7f || b == '"' {
			return false
		}
	}
	return true
}

// readSecret returns the secret to show; it may be empty.
func (c *Config) readSecret() (secret.Text, error) {
	if c.SecretFile == "" {
		return c.Secret, nil
	}
	s, err := secret.ReadText(c.SecretFile)
	if err == nil && !fitsHeader(s) {
		err = fmt.Errorf("%s %s", c.SecretFile, secretProblem)
	}
	return s, err
}
