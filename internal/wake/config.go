package wake

import (
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/limit"
)

// Config holds the rules' settings.
type Config struct {
	// MaxHold is the longest time that a node is told to hold a request, and the time
	// for a wake.start that names none. Default 40s.
	MaxHold time.Duration `yaml:"max_hold"`
	// Recent is how long a device counts as possibly awake after its REGISTER: it is
	// signalled at once, and pushed after PushDelay if it does not respond. Default
	// 3s.
	Recent time.Duration `yaml:"recent"`
	// Linger is how long a node continues to hold once every device of the wake is
	// back, in case one loses its connection at that moment. Default 3s.
	Linger time.Duration `yaml:"linger" was:"settle"`
	// Late is how long an ended call is remembered for pushed devices that come back
	// late. It counts from the end of the hold time or of the call, whichever is
	// later. Default 30s.
	Late time.Duration `yaml:"late"`
	// Alert is the provisional response to the caller once a push service has
	// accepted the first push of the call.
	Alert AlertConfig `yaml:"alert"`
	// PushDelay delays the push to a device that is already being rung, or that
	// registered within Recent. It may be awake, and is pushed only if it does not
	// respond. Default 1s.
	PushDelay time.Duration `yaml:"push_delay" was:"withhold"`
	// Strict follows RFC 8599 where the default is more lenient: no call or message
	// is pushed to a device whose registration was ended or has expired, and
	// MinExpires has a default even without Refresh.
	Strict bool `yaml:"strict"`
	// MinExpires rejects REGISTERs that have push data and a shorter expiry with 423
	// (RFC 8599 section 5.3). With Refresh or Strict the default is Refresh.Before
	// plus a minute, to leave time for a push; otherwise any expiry is accepted.
	MinExpires time.Duration `yaml:"min_expires"`
	// UnbindWithoutPush removes a device's binding when the device registers without
	// push data.
	UnbindWithoutPush bool `yaml:"unbind_without_push"`
	// Remove sets after how many consecutive failures a binding is removed.
	Remove RemoveConfig `yaml:"remove"`
	// Refresh wakes devices before their registration ends.
	Refresh RefreshConfig `yaml:"refresh"`
	// Limits bounds the pushes that callers can cause.
	Limits limit.CallsConfig `yaml:"limits"`
	// PSAPCallback exempts calls with Priority: psap-callback (RFC 7090) from limits
	// and load shedding. The proxy must accept that header only from callers it
	// trusts.
	PSAPCallback bool `yaml:"psap_callback"`
	// Reject555 answers REGISTERs for a push service or app that is not served here
	// with 555 (RFC 8599 section 8.1). Otherwise their push data is ignored.
	Reject555 bool `yaml:"reject_555"`
	// PURRKeyFile is a file with at least 32 characters, the key for making PURRs
	// (RFC 8599 section 6). It must be the same for all instances. Without it no
	// client gets a PURR.
	PURRKeyFile string `yaml:"purr_key_file"`
	// SendTTL is how long a push of push.send is worth delivering, unless the request
	// sets it. Default 1h.
	SendTTL time.Duration `yaml:"send_ttl"`
	// SignalsPerNode bounds the concurrent signals to one node; further ones wait. A
	// value above the node's number of connections has no benefit. Default 64.
	SignalsPerNode int `yaml:"signals_per_node" was:"signals"`
	// Traces is how many wakes are remembered for wake.trace. Default 2048.
	Traces int `yaml:"traces"`

	purrs *purrs // set by Read
}

// AlertConfig is the provisional response to the caller while a phone is being
// woken.
type AlertConfig struct {
	// Code is 180, 182, or -1 for none. Default 180.
	Code int `yaml:"code"`
	// Text is its reason phrase. Default "Waking".
	Text string `yaml:"text"`
}

// RemoveConfig sets when a binding is removed, apart from a token that the push
// service declares dead. Each rule counts consecutive failures as seen by one
// instance; 0 disables the rule.
type RemoveConfig struct {
	// Rejected counts responses that the token is bad. The configuration may be at
	// fault, so one is not enough. Default 2.
	Rejected *int `yaml:"rejected"`
	// Failed counts pushes that were not accepted although our side is in order.
	Failed int `yaml:"failed"`
	// NoAnswer counts calls whose push was accepted but whose device did not come
	// back.
	NoAnswer int `yaml:"no_answer"`
	// RefreshUnanswered counts registrations that expired despite a refresh push.
	RefreshUnanswered int `yaml:"refresh_unanswered"`
	// CallFailed counts calls that failed although the device came back.
	CallFailed int `yaml:"call_failed"`
	// RegisterRejected counts REGISTERs with the binding's token that the registrar
	// rejected, for example with 403 or 404: the account is gone, or its password
	// changed.
	RegisterRejected int `yaml:"register_rejected"`
}

// RefreshConfig sets when devices are woken to refresh their registration.
type RefreshConfig struct {
	Enabled bool `yaml:"enabled"`
	// Before is how long before the end of the registration the push is sent, at
	// least 120s (RFC 8599 section 5.5). Default 180s.
	Before time.Duration `yaml:"before"`
	// Spread distributes the pushes of devices that registered together over this
	// time, earlier than Before. Default 60s.
	Spread time.Duration `yaml:"spread"`
	// Every is how often the bindings are checked. Default 30s.
	Every time.Duration `yaml:"every"`
}

// SetDefaults fills in the settings that are not set.
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

// noAlert is the code for sending no response.
const noAlert = -1

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate reports each invalid setting.
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
