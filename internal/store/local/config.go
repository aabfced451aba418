package local

import (
	"time"
)

// Config says where the file is and how long data is kept in it.
type Config struct {
	Path string `yaml:"path"`
	// Retention is how long a binding is kept after its last REGISTER.
	Retention time.Duration `yaml:"retention"`
	// Outbox is how many messages of applications are kept, including those that are done.
	Outbox int `yaml:"outbox"`
	// Recent is how long a REGISTER is remembered for a wake that comes after it.
	// The service sets it.
	Recent time.Duration `yaml:"-"`
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	if c.Path == "" {
		c.Path = "/var/lib/sipwake/sipwake.db"
	}
	if c.Retention == 0 {
		c.Retention = 30 * 24 * time.Hour
	}
	if c.Outbox == 0 {
		c.Outbox = 100_000
	}
	if c.Recent == 0 {
		c.Recent = 5 * time.Second
	}
}

// Validate reports every problem.
func (c *Config) Validate(report func(field, problem string)) {
	if c.Path == "" {
		report("path", "must name a file")
	}
	if c.Retention < time.Second {
		report("retention", "must be 1s or more")
	}
	if c.Outbox < 1 {
		report("outbox", "must be 1 or more")
	}
}
