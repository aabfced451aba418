package push

import (
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// App is one credential in one environment, and the addresses that it serves.
type App struct {
	Provider pnparam.Provider
	// Packages are the names by which addresses find the app. The first is the
	// main one, used as the metric label "app". None means the empty name, as
	// WebPush addresses have it.
	Packages []string
	// Any: the app also serves the packages of its Provider that no other app has.
	Any bool
	// Environment is empty for providers without environments; such an app
	// serves an address whatever environment the client named.
	Environment pnparam.Environment
	// Default: the app also serves addresses with an empty Environment.
	Default bool
	// Client sends the pushes. The dispatcher owns it once the app is in use.
	Client Provider
	Limits Limits
	// Templates are the payloads; nil means DefaultTemplates of the Provider.
	Templates *Templates
	// BackgroundPerHour bounds the background pushes to one iOS device in an hour; 0:
	// no bound.
	BackgroundPerHour int
	// VAPID is the public key that browsers subscribe with, of an app of Web Push.
	VAPID string
	// Policy says when the devices are pushed; its zero fields mean the default.
	Policy Policy
	// Fingerprint stands for the contents of the configuration and key files
	// that Client and Limits were made from. An app that is set again with the
	// same one keeps its queue, breaker and client. The empty fingerprint is
	// never the same.
	Fingerprint string
	// CredentialExpiry is when key or certificate ends; zero if never.
	CredentialExpiry time.Time
	// Chain knows until when CAs vouch for the service; may be nil.
	Chain *Chain
	// Doubts are what the service may refuse though everything can be read, in
	// plain English, for Warnings.
	Doubts []string
}

// name is the main package.
func (a *App) name() string {
	if len(a.Packages) == 0 {
		return ""
	}
	return a.Packages[0]
}

// key names the app among all: what must match for it to be "the same app" in
// the next configuration.
func (a *App) key() appKey { return appKey{a.Provider, a.name(), a.Environment} }

// AppInfo tells operators how an app is doing.
type AppInfo struct {
	Provider    pnparam.Provider    `json:"provider"`
	Package     string              `json:"package"`
	Environment pnparam.Environment `json:"environment,omitempty"`
	Breaker     string              `json:"breaker"`   // closed, half-open or open; off where the app has none
	Queued      int                 `json:"queued"`    // waiting for a try, the first or another
	InFlight    int                 `json:"in_flight"` // being tried now
}

// Limits bound what one app may use. Zero fields mean the default.
type Limits struct {
	// Queue bounds the pushes that wait for a try, in each of the two lanes;
	// default 4096.
	Queue int `yaml:"queue"`
	// InFlight bounds the requests under way; default 256. A quarter of them is
	// kept for calls.
	InFlight int `yaml:"in_flight"`
	// Timeout is the longest that one try may take; default 5s.
	Timeout time.Duration `yaml:"timeout"`
	// CallTimeout is the longest that the first of the two tries for a call may
	// take; default 2s. It is also at most half of the time that is left, so
	// that a stream that never answers leaves room for the second try.
	CallTimeout time.Duration `yaml:"call_timeout"`
	// Tries bounds the tries of a push that is no call; default 5.
	Tries int `yaml:"tries"`
	// BreakerFailures is how many pushes in a row must fail with Unavailable or
	// Timeout until the breaker opens; default 5. Further tries of one push do not
	// count. A rejected credential opens it at once.
	BreakerFailures int `yaml:"breaker_failures"`
	// BreakerPause is how long the open breaker refuses pushes before it lets
	// one through to see; default 30s.
	BreakerPause time.Duration `yaml:"breaker_pause"`
}

// SetDefaults fills the fields that are zero.
func (l *Limits) SetDefaults() {
	setDefault(&l.Queue, 4096)
	setDefault(&l.InFlight, 256)
	setDefault(&l.Timeout, 5*time.Second)
	setDefault(&l.CallTimeout, 2*time.Second)
	setDefault(&l.Tries, 5)
	setDefault(&l.BreakerFailures, 5)
	setDefault(&l.BreakerPause, 30*time.Second)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every field that is out of range. Call SetDefaults first.
func (l *Limits) Validate(report func(field, problem string)) {
	validateRange(report, "queue", l.Queue, 1, 1_000_000)
	// One slot would leave none for calls while anything else is under way.
	validateRange(report, "in_flight", l.InFlight, 2, 10_000)
	validateRange(report, "timeout", l.Timeout, 100*time.Millisecond, time.Minute)
	validateRange(report, "call_timeout", l.CallTimeout, 100*time.Millisecond, time.Minute)
	validateRange(report, "tries", l.Tries, 1, 20)
	validateRange(report, "breaker_failures", l.BreakerFailures, 1, 10_000)
	validateRange(report, "breaker_pause", l.BreakerPause, time.Second, time.Hour)
}

func validateRange[T int | time.Duration](report func(field, problem string), field string, value, low, high T) {
	if value < low || value > high {
		report(field, fmt.Sprintf("must be between %v and %v, is %v", low, high, value))
	}
}
