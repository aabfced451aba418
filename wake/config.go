package wake

import "time"

// Config holds the rules' settings.
type Config struct {
	// MaxHold is the longest time a node is told to hold a request, and what a
	// wake.start that names no time gets. Default 40s.
	MaxHold time.Duration `yaml:"max_hold"`
	// Recent is how long a device counts as awake after its REGISTER: it is
	// signalled, not pushed. Default 3s.
	Recent time.Duration `yaml:"recent"`
	// Settle is how long a node goes on holding once every device of the wake
	// is back, for one whose connection dies in that moment. Default 3s.
	Settle time.Duration `yaml:"settle"`
	// Reject555 answers REGISTERs whose push service or app is not served here
	// with 555 (RFC 8599 section 8.1); else their push data is passed over.
	Reject555 bool `yaml:"reject_555"`
	// SendTTL is how long a push of push.send is worth delivering, unless the
	// request says. Default 1h.
	SendTTL time.Duration `yaml:"send_ttl"`
	// Signals bounds how many signals to nodes are under way. Default 4096.
	Signals int `yaml:"signals"`
	// Traces is how many wakes are remembered for wake.trace. Default 2048.
	Traces int `yaml:"traces"`
}

// SetDefaults fills what is not set.
func (c *Config) SetDefaults() {
	setDefault(&c.MaxHold, 40*time.Second)
	setDefault(&c.Recent, 3*time.Second)
	setDefault(&c.Settle, 3*time.Second)
	setDefault(&c.SendTTL, time.Hour)
	setDefault(&c.Signals, 4096)
	setDefault(&c.Traces, 2048)
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate reports each setting that cannot work.
func (c *Config) Validate(report func(field, problem string)) {
	between := func(field string, v, low, high time.Duration) {
		if v < low || v > high {
			report(field, "must be between "+low.String()+" and "+high.String())
		}
	}
	between("max_hold", c.MaxHold, time.Second, 3*time.Minute)
	between("recent", c.Recent, 10*time.Millisecond, time.Minute)
	between("settle", c.Settle, time.Millisecond, time.Minute)
	between("send_ttl", c.SendTTL, time.Second, 28*24*time.Hour)
	if c.Signals < 1 {
		report("signals", "must be at least 1")
	}
	if c.Traces < 1 {
		report("traces", "must be at least 1")
	}
}
