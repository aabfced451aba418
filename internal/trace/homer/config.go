// Package homer sends the events of calls to a Homer capture server, as HEP3 packets
// with the Call-ID. Homer then shows the events among the SIP messages of the call.
package homer

import (
	"net"
	"regexp"
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

// Config configures the export.
type Config struct {
	// Address is host:port of the capture server. Empty: export is off.
	Address string `yaml:"address"`
	// Transport is UDP, the default, or TCP.
	Transport string `yaml:"transport"`
	// Node is the capture agent's number in Homer. Default 2001.
	Node uint32 `yaml:"node"`
	// NodeName is its name there. Default sipwake.
	NodeName string `yaml:"node_name"`
	// AuthKeyFile holds the key that the capture server requires.
	AuthKeyFile string `yaml:"auth_key_file"`
}

// The values of Config.Transport.
const (
	UDP = "udp"
	TCP = "tcp"
)

// SetDefaults fills the fields that are not set.
func (c *Config) SetDefaults() {
	if c.Transport == "" {
		c.Transport = UDP
	}
	if c.Node == 0 {
		c.Node = 2001
	}
	if c.NodeName == "" {
		c.NodeName = "sipwake"
	}
}

// nodeName matches names that heplify-server can write into JSON unescaped.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9._:@-]{1,64}$`)

// Validate reports every problem. Call SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	if c.Address != "" {
		host, port, err := net.SplitHostPort(c.Address)
		n, noPort := net.LookupPort("tcp", port)
		if err != nil || host == "" || strings.ContainsAny(host, "/ ") || noPort != nil || n == 0 {
			report("address", "must be host:port, such as 127.0.0.1:9060")
		}
	}
	if c.Transport != UDP && c.Transport != TCP {
		report("transport", "must be udp or tcp")
	}
	if !nodeName.MatchString(c.NodeName) {
		report("node_name", "must be 1 to 64 letters, digits, dots, hyphens, underscores, colons and at signs")
	}
}

// authKey reads the key; empty if none is configured.
func (c *Config) authKey() (secret.Text, error) {
	if c.AuthKeyFile == "" {
		return secret.Text{}, nil
	}
	return secret.ReadText(c.AuthKeyFile)
}
