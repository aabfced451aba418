package upper

import "time"

// Config is the section "upper" of the configuration.
type Config struct {
	// KeyFile holds the text of the key that encrypts apps' HA1s in the store. If
	// empty, sipwake keeps no registration alive.
	KeyFile string `yaml:"key_file"`
	// Keep selects whose registrations are refreshed: nobody's (KeepNo), those of
	// phones that have not registered in time (KeepAuto), or all, whether or not
	// their phones register (KeepAlways). Default KeepAuto.
	Keep string `yaml:"keep"`
	// SecretsFile holds HA1s of users whose apps send none: one AOR and HA1 per line.
	SecretsFile string `yaml:"secrets_file"`
	// Expires is the expiry requested in a refresh; 0: what the PBX gave the phone.
	Expires time.Duration `yaml:"expires"`
	// Margin is how long before its end a registration is refreshed, but no later
	// than half of its time. Default 60 s.
	Margin time.Duration `yaml:"margin"`
	// Rate is how many registrations per second an instance refreshes. Default 200.
	Rate int `yaml:"rate"`
	// Retry is how long a refresh may take before any instance asks again. It doubles
	// while the PBX does not respond, up to 10 minutes. Default 40 s.
	Retry time.Duration `yaml:"retry"`
	// Failure is what to do when the PBX rejects a user's password. FailureKeep
	// retries once an hour. FailureRemove removes the user's bindings. FailureTimeout
	// does so too if the PBX has not responded by the end of the registration.
	// Default FailureKeep.
	Failure string `yaml:"failure"`
}

// The values of Config.Keep.
const (
	KeepNo     = "no"
	KeepAuto   = "auto"
	KeepAlways = "always"
)

// The values of Config.Failure.
const (
	FailureKeep    = "keep"
	FailureRemove  = "remove"
	FailureTimeout = "timeout"
)

// SetDefaults fills in the settings that are not set.
func (c *Config) SetDefaults() {
	if c.Margin == 0 {
		c.Margin = time.Minute
	}
	if c.Rate == 0 {
		c.Rate = 200
	}
	if c.Retry == 0 {
		c.Retry = 40 * time.Second
	}
	if c.Keep == "" {
		c.Keep = KeepAuto
	}
	if c.Failure == "" {
		c.Failure = FailureKeep
	}
}

// Validate reports every invalid setting.
func (c *Config) Validate(report func(field, problem string)) {
	if c.SecretsFile != "" && c.KeyFile == "" {
		report("key_file", "must be set with secrets_file")
	}
	if c.Expires != 0 && c.Expires < time.Minute || c.Expires > 7*24*time.Hour {
		report("expires", "must be from 1m to 168h, or 0")
	}
	if c.Margin < time.Second || c.Margin > time.Hour {
		report("margin", "must be from 1s to 1h")
	}
	if c.Rate < 1 || c.Rate > 10000 {
		report("rate", "must be from 1 to 10000")
	}
	if c.Retry < time.Second || c.Retry > longest {
		report("retry", "must be from 1s to 10m")
	}
	if c.Keep != KeepNo && c.Keep != KeepAuto && c.Keep != KeepAlways {
		report("keep", "must be no, auto or always")
	}
	if c.Failure != FailureKeep && c.Failure != FailureRemove && c.Failure != FailureTimeout {
		report("failure", "must be keep, remove or timeout")
	}
}
