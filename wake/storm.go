package wake

import (
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/limit"
)

// LimitsConfig bounds how many held requests a minute lead to pushes, so that
// nobody can have phones pushed without end. As many may come at once. Each
// instance counts for itself. 0 switches a limit off.
type LimitsConfig struct {
	// Pair is for one caller and one AOR: with a Pair below AOR nobody alone can
	// use up what an AOR may get. Default 20.
	Pair *int `yaml:"pair"`
	// Caller is for one caller, to whomever; anonymous callers have none, for they
	// are not one. Default 120.
	Caller *int `yaml:"caller"`
	// AOR is for one AOR, from whomever. Default 60.
	AOR *int `yaml:"aor"`
}

func (c *LimitsConfig) setDefaults() {
	for v, n := range map[**int]int{&c.Pair: 20, &c.Caller: 120, &c.AOR: 60} {
		if *v == nil {
			*v = &n
		}
	}
}

func (c *LimitsConfig) validate(report func(field, problem string)) {
	for field, n := range map[string]int{"pair": *c.Pair, "caller": *c.Caller, "aor": *c.AOR} {
		if n < 0 || n > 100_000 {
			report("limits."+field, "must be between 0 and 100000")
		}
	}
}

// The limits: a metric label, and the detail of an event.
const (
	limitPair   = "pair"
	limitCaller = "caller"
	limitAOR    = "aor"
)

// maxLimited is how many pairs, callers and AORs have a count of their own.
const maxLimited = 1 << 16

type stormPair struct{ caller, aor string }

// storms counts, for each limit.
type storms struct {
	pairs   *limit.Buckets[stormPair]
	callers *limit.Buckets[string]
	aors    *limit.Buckets[string]
}

func newStorms() storms {
	return storms{limit.New[stormPair](maxLimited), limit.New[string](maxLimited), limit.New[string](maxLimited)}
}

// stormy tells whether a wake must not push, because it is one too many for a
// limit; if it is not, it counts. One that has nobody to push costs nothing. The
// narrow limit comes first: what it stops does not count against the others.
func (s *Service) stormy(cl *call, st Started) bool {
	w := cl.wake
	if st.Forked || !slices.ContainsFunc(st.Bindings, func(b Binding) bool { return !awake(st.Recent, b.Device) }) {
		return false
	}
	cfg, now, who := &s.settings.Load().Limits, time.Now(), caller(cl.values.From)
	var over string
	switch {
	case !s.storms.pairs.Take(stormPair{who, w.AOR}, limit.Per(time.Minute, *cfg.Pair), now):
		over = limitPair
	case who != "" && !s.storms.callers.Take(who, limit.Per(time.Minute, *cfg.Caller), now):
		over = limitCaller
	case !s.storms.aors.Take(w.AOR, limit.Per(time.Minute, *cfg.AOR), now):
		over = limitAOR
	default:
		return false
	}
	s.metrics.limited.WithLabelValues(over).Inc()
	s.traces.add(w, now, eventLimited, "", over)
	return true
}

// caller returns who calls by the From URI, "" for one who is anonymous: without
// a From, by RFC 3323 section 4.1.1.3, or by what gateways write for it.
func caller(from string) string {
	uri, _, _ := strings.Cut(strings.ToLower(from), ";")
	if _, rest, ok := strings.Cut(uri, ":"); ok {
		uri = rest // without its scheme
	}
	user, host, _ := strings.Cut(uri, "@")
	if host == "anonymous.invalid" {
		return ""
	}
	switch user {
	case "anonymous", "unavailable", "unknown", "restricted":
		return ""
	}
	return uri[:min(len(uri), maxAOR)]
}
