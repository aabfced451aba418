package push

import (
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// App is one credential in one environment, and the addresses that it serves.
type App struct {
	Provider pnparam.Provider
	// Packages are the names by which addresses find the app. The first is the main
	// one, used as the metric label "app". None means the empty name, as in WebPush
	// addresses.
	Packages []string
	// Any makes the app also serve the packages of its Provider that no other app
	// has.
	Any bool
	// Environment is empty for providers without environments. Such an app serves an
	// address whatever environment the client named.
	Environment pnparam.Environment
	// Default makes the app also serve addresses with an empty Environment.
	Default bool
	// Client sends the pushes. The dispatcher owns it once the app is in use.
	Client Provider
	Limits Limits
	// Templates are the payloads; nil means DefaultTemplates of the Provider.
	Templates *Templates
	// BackgroundPerHour limits the background pushes to one iOS device per hour; 0
	// means no limit.
	BackgroundPerHour int
	// VAPID is the public key that browsers subscribe with, for a Web Push app.
	VAPID string
	// Policy says when the devices are pushed; its zero fields mean the default.
	Policy Policy
	// Fingerprint identifies the contents of the configuration and key files that
	// Client and Limits were made from. An app that is set again with the same
	// fingerprint keeps its queue, breaker and client. An empty fingerprint never
	// matches.
	Fingerprint string
	// CredentialExpiry is when the key or certificate expires; zero if never.
	CredentialExpiry time.Time
	// Chain records how long the CAs of the service are valid; may be nil.
	Chain *Chain
	// Doubts are what the service may refuse although all files are readable, in
	// plain English, for Warnings.
	Doubts []string
}

// name returns the main package.
func (a *App) name() string {
	if len(a.Packages) == 0 {
		return ""
	}
	return a.Packages[0]
}

// key identifies the app among all apps: it must match for it to be "the same app" in
// the next configuration.
func (a *App) key() appKey { return appKey{a.Provider, a.name(), a.Environment} }

// AppInfo reports the state of an app to operators.
type AppInfo struct {
	Provider    pnparam.Provider    `json:"provider"`
	Package     string              `json:"package"`
	Environment pnparam.Environment `json:"environment,omitempty"`
	Breaker     string              `json:"breaker"`   // closed, half-open or open; off if the app has none
	Queued      int                 `json:"queued"`    // waiting for a try, the first or a later one
	InFlight    int                 `json:"in_flight"` // being tried now
}

// Limits restrict what one app may use. Zero fields mean the default.
type Limits struct {
	// Queue limits the pushes that wait for a try, in each of the two lanes. Default
	// 4096.
	Queue int `yaml:"queue"`
	// InFlight limits the requests in flight. Default 256. A quarter of them is
	// reserved for calls.
	InFlight int `yaml:"in_flight"`
	// Timeout limits the duration of one try. Default 5s.
	Timeout time.Duration `yaml:"timeout"`
	// CallTimeout limits the duration of the first of the two tries for a call.
	// Default 2s. It is also at most half of the remaining time, so that a stream
	// that never answers leaves room for the second try.
	CallTimeout time.Duration `yaml:"call_timeout"`
	// Tries limits the tries of a push that is not a call. Default 5.
	Tries int `yaml:"tries"`
	// BreakerFailures is how many pushes in a row must fail with Unavailable or
	// Timeout before the breaker opens. Default 5. Further tries of one push do not
	// count. A rejected credential opens it at once.
	BreakerFailures int `yaml:"breaker_failures"`
	// BreakerPause is how long the open breaker refuses pushes before it lets one
	// through as a probe. Default 30s.
	BreakerPause time.Duration `yaml:"breaker_pause"`
}

// SetDefaults sets the zero fields.
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
	// One slot would leave none for calls while anything else is in flight.
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
