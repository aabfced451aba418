package wake

import (
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/limit"
)

// Config holds the rules' settings.
type Config struct {
	// MaxHold is the longest time a node is told to hold a request, and what a
	// wake.start that names no time gets. Default 40s.
	MaxHold time.Duration `yaml:"max_hold"`
	// Recent is how long a device may count as awake after its REGISTER: it is
	// signalled at once, and pushed after PushDelay if it says nothing. Default 3s.
	Recent time.Duration `yaml:"recent"`
	// Linger is how long a node goes on holding once every device of the wake is
	// back, for one whose connection dies in that moment. Default 3s.
	Linger time.Duration `yaml:"linger" was:"settle"`
	// Late is how long past its hold time, or its end if that is later, a call that has
	// ended is remembered for devices that were pushed for it and come back late. Default
	// 30s.
	Late time.Duration `yaml:"late"`
	// Alert is what the caller hears once a push service has taken the first push of his
	// call.
	Alert AlertConfig `yaml:"alert"`
	// PushDelay is how long the push to a device waits that is being rung, or that
	// registered within Recent: it may be awake, and is pushed if it says nothing.
	// Default 1s.
	PushDelay time.Duration `yaml:"push_delay" was:"withhold"`
	// Strict follows RFC 8599 where the default is kinder to phones: no call or message
	// is pushed to a device whose registration was ended or has run out, and MinExpires
	// has a default without Refresh too.
	Strict bool `yaml:"strict"`
	// MinExpires refuses REGISTERs with push data that ask for less with 423
	// (RFC 8599 section 5.3). Default: with Refresh or Strict, a minute more than
	// Refresh.Before, so that there is time for a push; else any is accepted.
	MinExpires time.Duration `yaml:"min_expires"`
	// UnbindWithoutPush removes a device's binding when it registers without push
	// data.
	UnbindWithoutPush bool `yaml:"unbind_without_push"`
	// Remove says after how many failures in a row a binding goes.
	Remove RemoveConfig `yaml:"remove"`
	// Refresh wakes devices before their registration ends.
	Refresh RefreshConfig `yaml:"refresh"`
	// Limits bounds the pushes that callers can cause.
	Limits limit.CallsConfig `yaml:"limits"`
	// PSAPCallback has calls with Priority: psap-callback (RFC 7090) neither limited nor
	// shed: the proxy lets that header through from callers whom it trusts only.
	PSAPCallback bool `yaml:"psap_callback"`
	// Reject555 answers REGISTERs whose push service or app is not served here
	// with 555 (RFC 8599 section 8.1); else their push data is passed over.
	Reject555 bool `yaml:"reject_555"`
	// PURRKeyFile is the file with at least 32 characters that PURRs are made with (RFC
	// 8599 section 6): the same for all instances. Without it no client is given one.
	PURRKeyFile string `yaml:"purr_key_file"`
	// SendTTL is how long a push of push.send is worth delivering, unless the
	// request says. Default 1h.
	SendTTL time.Duration `yaml:"send_ttl"`
	// SignalsPerNode bounds the signals to one node that are under way at once;
	// further ones wait. More than the node's connections is of no use. Default 64.
	SignalsPerNode int `yaml:"signals_per_node" was:"signals"`
	// Traces is how many wakes are remembered for wake.trace. Default 2048.
	Traces int `yaml:"traces"`

	purrs *purrs // set by Read
}

// AlertConfig is a provisional answer to the caller of a phone that is being woken.
type AlertConfig struct {
	// Code is 180, 182, or -1 for none. Default 180.
	Code int `yaml:"code"`
	// Text is its reason phrase. Default "Waking".
	Text string `yaml:"text"`
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
	// RegisterRejected counts REGISTERs with the binding's token that the registrar
	// refused, such as with 403 or 404: the account is gone, or its password changed.
	RegisterRejected int `yaml:"register_rejected"`
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
	setDefault(&c.Linger, 3*time.Second)
	setDefault(&c.Late, 30*time.Second)
	setDefault(&c.Alert.Code, 180)
	setDefault(&c.Alert.Text, "Waking")
	setDefault(&c.SendTTL, time.Hour)
	setDefault(&c.SignalsPerNode, 64)
	setDefault(&c.PushDelay, time.Second)
	if c.Remove.Rejected == nil {
		two := 2
		c.Remove.Rejected = &two
	}
	c.Limits.SetDefaults()
	setDefault(&c.Refresh.Before, 180*time.Second)
	setDefault(&c.Refresh.Spread, time.Minute)
	setDefault(&c.Refresh.Every, 30*time.Second)
	if c.Refresh.Enabled || c.Strict {
		setDefault(&c.MinExpires, c.Refresh.Before+time.Minute)
	}
	setDefault(&c.Traces, 2048)
}

// noAlert is the code of no answer.
const noAlert = -1

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
	between("linger", c.Linger, time.Millisecond, time.Minute)
	if !slices.Contains([]int{180, 182, noAlert}, c.Alert.Code) {
		report("alert.code", "must be 180, 182 or -1")
	}
	if len(c.Alert.Text) > 64 || strings.ContainsFunc(c.Alert.Text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		report("alert.text", "must be at most 64 printable ASCII characters, without quotes and backslashes")
	}
	between("late", c.Late, time.Second, 5*time.Minute)
	between("send_ttl", c.SendTTL, time.Second, 28*24*time.Hour)
	between("push_delay", c.PushDelay, time.Millisecond, 10*time.Second)
	between("min_expires", c.MinExpires, 0, 2*time.Hour)
	between("refresh.before", c.Refresh.Before, 120*time.Second, time.Hour)
	if c.Strict && c.Refresh.Before == 120*time.Second {
		report("refresh.before", "must be more than 2m0s, because strict is true")
	}
	between("refresh.spread", c.Refresh.Spread, 0, time.Hour)
	between("refresh.every", c.Refresh.Every, 10*time.Millisecond, 10*time.Minute)
	for field, n := range map[string]int{"rejected": *c.Remove.Rejected, "failed": c.Remove.Failed, "no_answer": c.Remove.NoAnswer,
		"refresh_unanswered": c.Remove.RefreshUnanswered, "call_failed": c.Remove.CallFailed,
		"register_rejected": c.Remove.RegisterRejected} {
		if n < 0 {
			report("remove."+field, "must not be negative")
		}
	}
	c.Limits.Validate(func(field, problem string) { report("limits."+field, problem) })
	if c.SignalsPerNode < 1 || c.SignalsPerNode > 10_000 {
		report("signals_per_node", "must be from 1 to 10000")
	}
	if c.Traces < 1 {
		report("traces", "must be at least 1")
	}
}
