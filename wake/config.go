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
	// Withhold is how long the push to a device waits that is being rung already,
	// because a connection that looks alive may belong to a phone that sleeps.
	// Default 1s.
	Withhold time.Duration `yaml:"withhold"`
	// MinExpires refuses REGISTERs with push data that ask for less with 423
	// (RFC 8599 section 5.3); 0 accepts any.
	MinExpires time.Duration `yaml:"min_expires"`
	// UnbindWithoutPush removes a device's binding when it registers without push
	// data.
	UnbindWithoutPush bool `yaml:"unbind_without_push"`
	// Remove says after how many failures in a row a binding goes.
	Remove RemoveConfig `yaml:"remove"`
	// Refresh wakes devices before their registration ends.
	Refresh RefreshConfig `yaml:"refresh"`
	// Limits bounds the pushes that callers can cause.
	Limits LimitsConfig `yaml:"limits"`
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

// RemoveConfig holds the rules by which a binding goes, besides a token that the
// push service declares dead. Each counts failures in a row as one instance sees
// them; 0 switches the rule off.
type RemoveConfig struct {
	// Rejected counts answers that the token is bad. It may be the configuration
	// that is wrong, so one is not enough. Default 2.
	Rejected *int `yaml:"rejected"`
	// Failed counts pushes that were not accepted though our side is in order.
	Failed int `yaml:"failed"`
	// NoAnswer counts calls for which the push was accepted and the device did
	// not come back.
	NoAnswer int `yaml:"no_answer"`
	// RefreshUnanswered counts registrations that ended in spite of a refresh
	// push.
	RefreshUnanswered int `yaml:"refresh_unanswered"`
	// CallFailed counts calls that failed though the device came back.
	CallFailed int `yaml:"call_failed"`
}

// RefreshConfig says when devices are woken to refresh their registration.
type RefreshConfig struct {
	Enabled bool `yaml:"enabled"`
	// Before is how long before the end of the registration the push is sent, at
	// least 120s (RFC 8599 section 5.5). Default 180s.
	Before time.Duration `yaml:"before"`
	// Spread sends the pushes of devices that registered together over this time,
	// earlier than Before. Default 60s.
	Spread time.Duration `yaml:"spread"`
	// Every is how often the bindings are looked through. Default 30s.
	Every time.Duration `yaml:"every"`
}

// SetDefaults fills what is not set.
func (c *Config) SetDefaults() {
	setDefault(&c.MaxHold, 40*time.Second)
	setDefault(&c.Recent, 3*time.Second)
	setDefault(&c.Settle, 3*time.Second)
	setDefault(&c.SendTTL, time.Hour)
	setDefault(&c.Signals, 4096)
	setDefault(&c.Withhold, time.Second)
	if c.Remove.Rejected == nil {
		two := 2
		c.Remove.Rejected = &two
	}
	c.Limits.setDefaults()
	setDefault(&c.Refresh.Before, 180*time.Second)
	setDefault(&c.Refresh.Spread, time.Minute)
	setDefault(&c.Refresh.Every, 30*time.Second)
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
	between("withhold", c.Withhold, time.Millisecond, 10*time.Second)
	between("min_expires", c.MinExpires, 0, time.Hour)
	between("refresh.before", c.Refresh.Before, 120*time.Second, time.Hour)
	between("refresh.spread", c.Refresh.Spread, 0, time.Hour)
	between("refresh.every", c.Refresh.Every, 10*time.Millisecond, 10*time.Minute)
	for field, n := range map[string]int{"rejected": *c.Remove.Rejected, "failed": c.Remove.Failed, "no_answer": c.Remove.NoAnswer,
		"refresh_unanswered": c.Remove.RefreshUnanswered, "call_failed": c.Remove.CallFailed} {
		if n < 0 {
			report("remove."+field, "must not be negative")
		}
	}
	c.Limits.validate(report)
	if c.Signals < 1 {
		report("signals", "must be at least 1")
	}
	if c.Traces < 1 {
		report("traces", "must be at least 1")
	}
}
