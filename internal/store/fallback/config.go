package fallback

import (
	"time"
)

// Config says what is kept on this machine in case the store is away.
type Config struct {
	// Disabled turns the fallback off: while the store is away, nothing is kept.
	Disabled bool `yaml:"disabled"`
	// Spool is the directory for REGISTERs that wait for the store. It is created
	// if it is missing. Several sipwakes can share it.
	Spool string `yaml:"spool"`
	// SpoolSize is how many REGISTERs are kept: the last one of each device. When it is
	// full, new ones displace the oldest.
	SpoolSize int `yaml:"spool_size"`
	// Cache is the number of AORs whose bindings are remembered.
	Cache int `yaml:"cache"`
	// Recent and Retention are the store's own. The service sets them.
	Recent    time.Duration `yaml:"-"`
	Retention time.Duration `yaml:"-"`
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	setDefault(&c.Spool, "/var/lib/sipwake/spool")
	setDefault(&c.SpoolSize, 100_000)
	setDefault(&c.Cache, 50_000)
	setDefault(&c.Recent, 5*time.Second)
	setDefault(&c.Retention, 30*24*time.Hour)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every problem.
func (c *Config) Validate(report func(field, problem string)) {
	if c.SpoolSize < 1 {
		report("spool_size", "must be 1 or more")
	}
	if c.Cache < 1 {
		report("cache", "must be 1 or more")
	}
}
