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
	// TokenFiles are files with one bearer token each; any of them opens the
	// door. More than one lets tokens be rotated.
	TokenFiles []string `yaml:"token_files"`
	// Networks are the CIDR ranges that may connect; empty allows all. With
	// tokens or client certificates, all must hold.
	Networks []string `yaml:"networks"`
	// CertFile and KeyFile switch TLS on.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile holds the CAs, in PEM, of which clients must show a
	// certificate. Empty: none is asked for.
	ClientCAFile string `yaml:"client_ca_file"`
	// ClientCertFile and ClientKeyFile are what sipwake's own commands show then.
	// Empty: CertFile and KeyFile.
	ClientCertFile string `yaml:"client_cert_file"`
	ClientKeyFile  string `yaml:"client_key_file"`
	// ClientNames are the only clients that may call: the common name of the
	// certificate or one of its alternative names. Empty allows all of the CAs.
	ClientNames []string `yaml:"client_names"`
	// RateLimit is how many requests a second one client may send, an IPv4
	// address or an IPv6 network of 64 bits. Default 0, no limit: clients are SIP
	// proxies of our own.
	RateLimit int `yaml:"rate_limit"`
	// Deadline bounds each method. It must be below the proxies' own patience.
	// Default 400ms.
	Deadline time.Duration `yaml:"deadline"`
	// MaxBody bounds a request's body in bytes. Default 65536.
	MaxBody int `yaml:"max_body"`
	// MaxBatch bounds the requests in one JSON-RPC batch. Default 100.
	MaxBatch int `yaml:"max_batch"`
	// Connections bounds the open connections. Default 8192.
	Connections int `yaml:"connections"`
	// ConnectionsPerClient bounds the connections of one client, as RateLimit
	// counts clients, that have not shown a token or certificate. One more closes
	// the one that waits longest; none is closed while a request of it is worked
	// on. Default 1024.
	ConnectionsPerClient int `yaml:"connections_per_client"`
	// InFlight bounds the requests that are worked on at once: those of calls,
	// and as many others. Default 512.
	InFlight int `yaml:"in_flight"`
	// HTTPPush is push.send for scripts written for Mizutech's gateway. Off by default.
	HTTPPush HTTPPush `yaml:"http_push"`
	// Tenants are the customers of a service that has several. TokenFiles are then
	// those of the operator and the SIP proxies.
	Tenants []Tenant `yaml:"tenants"`
}

// SetDefaults fills what is not set.
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

// Validate reports each setting that cannot work.
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
