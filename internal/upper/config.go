package upper

import "time"

// Config is the section upper.
type Config struct {
	// KeyFile holds the text that HA1s of apps are encrypted with in the store. Empty:
	// no registration is kept alive by sipwake.
	KeyFile string `yaml:"key_file"`
	// Keep is whose registrations are refreshed: those of nobody (KeepNo), of phones that
	// have not registered in time (KeepAuto), or all, whether their phones register or
	// not (KeepAlways). Default KeepAuto.
	Keep string `yaml:"keep"`
	// SecretsFile holds HA1s of users whose apps send none, a line each: AOR and HA1.
	SecretsFile string `yaml:"secrets_file"`
	// Expires is what a refresh asks of the PBX; 0: as much as it gave the phone.
	Expires time.Duration `yaml:"expires"`
	// Margin is how long before its end a registration is refreshed, at the latest at
	// half of its time. Default 60 s.
	Margin time.Duration `yaml:"margin"`
	// Rate is how many registrations an instance refreshes in a second. Default 200.
	Rate int `yaml:"rate"`
	// Retry is how long a refresh may take before any instance asks again. It doubles
	// while the PBX says nothing, up to 10 minutes. Default 40 s.
	Retry time.Duration `yaml:"retry"`
	// Failure is what happens when the PBX refuses a user's password: FailureKeep tries
	// again once an hour, FailureRemove removes the user's bindings, FailureTimeout does
	// so too when the PBX has said nothing until the registration's end. Default
	// FailureKeep.
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

// SetDefaults fills what is not set.
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

// Validate reports every setting that cannot be used.
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
