package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sipwake/sipwake/internal/secret"
)

// Config says where Redis is and how long data is kept in it.
type Config struct {
	// Addresses are host:port: one for a single server; with MasterName, the
	// sentinels; without it, several are nodes of a cluster.
	Addresses []string `yaml:"addresses"`
	// Cluster says that a single address is a cluster.
	Cluster      bool   `yaml:"cluster"`
	MasterName   string `yaml:"master_name"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	// Password is for callers that already have the password; PasswordFile takes precedence.
	Password             secret.Text   `yaml:"-"`
	SentinelPasswordFile string        `yaml:"sentinel_password_file"`
	DB                   int           `yaml:"db"`
	TLS                  TLSConfig     `yaml:"tls"`
	Prefix               string        `yaml:"prefix"`
	PoolSize             int           `yaml:"pool_size"` // connections to each server
	DialTimeout          time.Duration `yaml:"dial_timeout"`
	// Timeout is how long one answer of Redis may take. An RPC ends at its own
	// deadline anyway; the timeout frees the connection.
	Timeout time.Duration `yaml:"timeout"`
	// WaitReplicas is how many replicas must confirm a write; with 0 the master's
	// acknowledgment is enough.
	WaitReplicas int `yaml:"wait_replicas"`
	// Queue is how many commands may wait for answers, across all RPCs.
	Queue int `yaml:"queue"`
	// Retention is how long a binding is kept after its last REGISTER.
	Retention time.Duration `yaml:"retention"`
	// Outbox is how many messages of applications are kept, including those that are done.
	Outbox int `yaml:"outbox"`
	// Recent is how long a REGISTER is remembered for a wake that comes after it.
	// The service sets it.
	Recent time.Duration `yaml:"-"`
}

// TLSConfig is the TLS configuration for connections to Redis.
type TLSConfig struct {
	Enabled    bool   `yaml:"enabled"`
	CAFile     string `yaml:"ca_file"`     // PEM; empty means the system's
	CertFile   string `yaml:"cert_file"`   // PEM, for a server that requires a client certificate
	KeyFile    string `yaml:"key_file"`    // PEM, of CertFile
	ServerName string `yaml:"server_name"` // empty means the host of the address
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	if len(c.Addresses) == 0 {
		c.Addresses = []string{"127.0.0.1:6379"}
	}
	setDefault(&c.Prefix, "sw:")
	setDefault(&c.PoolSize, 8)
	setDefault(&c.DialTimeout, 300*time.Millisecond)
	setDefault(&c.Timeout, time.Second)
	setDefault(&c.Queue, 10_000)
	setDefault(&c.Retention, 30*24*time.Hour)
	setDefault(&c.Outbox, 100_000)
	setDefault(&c.Recent, 5*time.Second)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every problem.
func (c *Config) Validate(report func(field, problem string)) {
	for i, a := range c.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			report(fmt.Sprintf("addresses[%d]", i), "must be host:port")
		}
	}
	if strings.ContainsAny(c.Prefix, "{}") {
		report("prefix", "must not hold { or }, which tell a cluster where a key belongs")
	}
	if c.Cluster && c.MasterName != "" {
		report("master_name", "cannot be used with cluster: a cluster has no sentinels")
	}
	if c.SentinelPasswordFile != "" && c.MasterName == "" {
		report("sentinel_password_file", "needs master_name")
	}
	if c.DB != 0 && c.MasterName == "" && c.isCluster() {
		report("db", "must be 0 with a cluster")
	}
	if c.DB < 0 {
		report("db", "must be 0 or more")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"dial_timeout", c.DialTimeout, time.Millisecond},
		{"timeout", c.Timeout, time.Millisecond},
		{"retention", c.Retention, time.Minute},
	} {
		if d.value < d.least {
			report(d.name, fmt.Sprintf("must be %s or more", d.least))
		}
	}
	if c.PoolSize < 1 {
		report("pool_size", "must be 1 or more")
	}
	if c.WaitReplicas < 0 {
		report("wait_replicas", "must be 0 or more")
	}
	if c.Queue < 1 {
		report("queue", "must be 1 or more")
	}
	if c.Outbox < 1 {
		report("outbox", "must be 1 or more")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		report("tls.cert_file", "must be given together with tls.key_file")
	}
	if !c.TLS.Enabled && c.TLS != (TLSConfig{}) {
		report("tls.enabled", "must be true when other settings of tls are given")
	}
}

func (c *Config) isCluster() bool {
	return c.Cluster || c.MasterName == "" && len(c.Addresses) > 1
}

// Check reads the files that the configuration names and reports their problems. It
// opens no connection.
func (c *Config) Check() error {
	_, err := c.options()
	return err
}

// options reads the files that the configuration names.
func (c *Config) options() (*goredis.UniversalOptions, error) {
	o := &goredis.UniversalOptions{
		Addrs:         c.Addresses,
		MasterName:    c.MasterName,
		IsClusterMode: c.isCluster(),
		Username:      c.Username,
		Password:      c.Password.Reveal(),
		DB:            c.DB,
		PoolSize:      c.PoolSize,
		DialTimeout:   c.DialTimeout,
		// No retries: an RPC has little time, and the SIP side continues without us.
		DialerRetries: 1,
		// A script must not run twice: its answer would differ the second time.
		MaxRetries:            -1,
		ReadTimeout:           c.Timeout,
		WriteTimeout:          c.Timeout,
		PoolTimeout:           c.Timeout,
		ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
		// Nothing here uses what RESP3 adds, and with it go-redis looks before each answer
		// whether Redis has pushed something.
		Protocol:        2,
		DisableIdentity: true, // it would need one more permission, for no benefit
		AutoPipelineOptions: &goredis.AutoPipelineOptions{
			MaxBatchSize:      mostInBatch,
			MaxQueuedCommands: c.Queue,
		},
	}
	var problems []error
	for _, f := range []struct {
		field, file string
		to          *string
	}{
		{"password_file", c.PasswordFile, &o.Password},
		{"sentinel_password_file", c.SentinelPasswordFile, &o.SentinelPassword},
	} {
		if f.file == "" {
			continue
		}
		text, err := secret.ReadText(f.file)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", f.field, err))
			continue
		}
		*f.to = text.Reveal()
	}
	var err error
	if o.TLSConfig, err = c.TLS.load(); err != nil {
		problems = append(problems, err)
	}
	return o, errors.Join(problems...)
}

func (c *TLSConfig) load() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	var problems []error
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		t.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("tls.ca_file: cannot read file: %w", err))
		case !t.RootCAs.AppendCertsFromPEM(pem):
			problems = append(problems, fmt.Errorf("tls.ca_file: %s: %w", c.CAFile, errNoCertificate))
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			problems = append(problems, fmt.Errorf("tls.cert_file: cannot read certificate and key: %w", err))
		}
		t.Certificates = []tls.Certificate{cert}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return t, nil
}

var errNoCertificate = errors.New("no PEM certificate in it")
