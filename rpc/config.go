package rpc

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Config holds the settings of the RPC server.
type Config struct {
	// Listen is the address, host:port. Default 127.0.0.1:8060. An address that
	// is not loopback needs tokens, client certificates or networks.
	Listen string `yaml:"listen"`
	// TokenFiles are files with one bearer token each. Any of the tokens is accepted.
	// Use more than one to rotate tokens.
	TokenFiles []string `yaml:"token_files"`
	// Networks are the CIDR ranges that may connect; empty allows all. If tokens or
	// client certificates are also configured, a client must satisfy all of them.
	Networks []string `yaml:"networks"`
	// CertFile and KeyFile enable TLS.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile holds CAs in PEM. Clients must present a certificate of one of
	// them. Empty: no client certificate is required.
	ClientCAFile string `yaml:"client_ca_file"`
	// ClientCertFile and ClientKeyFile are the client certificate and key of sipwake's
	// own commands. Empty: CertFile and KeyFile.
	ClientCertFile string `yaml:"client_cert_file"`
	ClientKeyFile  string `yaml:"client_key_file"`
	// ClientNames restricts which clients may call, by the common name of the
	// certificate or one of its subject alternative names. Empty allows every client
	// of the CAs.
	ClientNames []string `yaml:"client_names"`
	// RateLimit is how many requests per second one client may send. A client is an
	// IPv4 address or an IPv6 /64. Default 0, no limit: the clients are our own SIP
	// proxies.
	RateLimit int `yaml:"rate_limit"`
	// Deadline limits the time of each method. It must be shorter than the timeout of
	// the proxies. Default 400ms.
	Deadline time.Duration `yaml:"deadline"`
	// MaxBody limits a request's body, in bytes. Default 65536.
	MaxBody int `yaml:"max_body"`
	// MaxBatch limits the requests in one JSON-RPC batch. Default 100.
	MaxBatch int `yaml:"max_batch"`
	// Connections limits the open connections. Default 8192.
	Connections int `yaml:"connections"`
	// ConnectionsPerClient limits the connections of one client (see RateLimit) that
	// have not shown a token or certificate. A further connection closes the one that
	// has been idle longest, but never one with a running request. Default 1024.
	ConnectionsPerClient int `yaml:"connections_per_client"`
	// InFlight limits the concurrent requests: this many that belong to calls, and as
	// many others. Default 512.
	InFlight int `yaml:"in_flight"`
	// HTTPPush is push.send for scripts written for Mizutech's gateway. Off by default.
	HTTPPush HTTPPush `yaml:"http_push"`
	// Tenants are the customers of a multi-tenant service. TokenFiles are then for the
	// operator and the SIP proxies.
	Tenants []Tenant `yaml:"tenants"`
}

// SetDefaults fills in the settings that are not set.
func (c *Config) SetDefaults() {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8060"
	}
	if c.Deadline == 0 {
		c.Deadline = 400 * time.Millisecond
	}
	if c.MaxBody == 0 {
		c.MaxBody = 64 << 10
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = 100
	}
	if c.Connections == 0 {
		c.Connections = 8192
	}
	if c.ConnectionsPerClient == 0 {
		c.ConnectionsPerClient = 1024
	}
	if c.InFlight == 0 {
		c.InFlight = 512
	}
	for i := range c.Tenants {
		if c.Tenants[i].RateLimit == 0 {
			c.Tenants[i].RateLimit = 20
		}
	}
}

// Validate reports each invalid setting.
func (c *Config) Validate(report func(field, problem string)) {
	if problem := checkListen(c.Listen); problem != "" {
		report("listen", problem)
	} else if !loopback(c.Listen) && len(c.TokenFiles) == 0 && len(c.Networks) == 0 && c.ClientCAFile == "" {
		report("listen", "is not a loopback address, so token_files, client_ca_file or networks must be set")
	}
	for i, n := range c.Networks {
		if _, err := netip.ParsePrefix(n); err != nil {
			report(fmt.Sprintf("networks[%d]", i), "must be a network in CIDR form, such as 10.0.0.0/8")
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		report("cert_file", "cert_file and key_file go together")
	}
	c.checkClient(report)
	c.HTTPPush.validate(report)
	c.validateTenants(report)
	if c.RateLimit < 0 {
		report("rate_limit", "must not be negative")
	}
	if c.Deadline < time.Millisecond || c.Deadline > 30*time.Second {
		report("deadline", "must be between 1ms and 30s")
	}
	if c.MaxBody < 1<<10 || c.MaxBody > 16<<20 {
		report("max_body", "must be between 1024 and 16777216 bytes")
	}
	if c.MaxBatch < 1 {
		report("max_batch", "must be at least 1")
	}
	if c.InFlight < 1 {
		report("in_flight", "must be at least 1")
	}
	if c.Connections < 1 {
		report("connections", "must be at least 1")
	}
	if c.ConnectionsPerClient < 1 {
		report("connections_per_client", "must be at least 1")
	}
}

func checkListen(addr string) (problem string) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return "must be host:port, such as 127.0.0.1:8060"
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return "has a port that is not between 0 and 65535"
	}
	return ""
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
