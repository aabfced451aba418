package limit

import "time"

// CallsConfig limits how many held requests a minute cause pushes, so that nobody can
// have phones pushed without end. A limit is also the largest burst. Each instance
// counts separately. 0 turns a limit off.
type CallsConfig struct {
	// Pair limits one caller to one AOR. If it is below AOR, no single caller can use
	// up the AOR's limit. Default 20.
	Pair *int `yaml:"pair"`
	// Caller limits one caller to all AORs. It does not apply to anonymous callers,
	// who cannot be told apart. Default 120.
	Caller *int `yaml:"caller"`
	// AOR limits one AOR from all callers. Default 60.
	AOR *int `yaml:"aor"`
}

// SetDefaults fills the fields that are not set.
func (c *CallsConfig) SetDefaults() {
	for v, n := range map[**int]int{&c.Pair: 20, &c.Caller: 120, &c.AOR: 60} {
		if *v == nil {
			*v = &n
		}
	}
}

// Validate reports each invalid setting. Call SetDefaults first.
func (c *CallsConfig) Validate(report func(field, problem string)) {
	for field, n := range map[string]int{"pair": *c.Pair, "caller": *c.Caller, "aor": *c.AOR} {
		if n < 0 || n > 100_000 {
			report(field, "must be between 0 and 100000")
		}
	}
}

// CallLimit names a limit of CallsConfig. It is a metric label and the detail of
// an event in a trace.
type CallLimit string

// The limits.
const (
	LimitPair   CallLimit = "pair"
	LimitCaller CallLimit = "caller"
	LimitAOR    CallLimit = "aor"
)

// Of returns how many held requests a minute the limit allows. Call SetDefaults
// first.
func (c *CallsConfig) Of(l CallLimit) int {
	switch l {
	case LimitPair:
		return *c.Pair
	case LimitCaller:
		return *c.Caller
	}
	return *c.AOR
}

// CallLimits lists every CallLimit.
func CallLimits() []CallLimit { return []CallLimit{LimitPair, LimitCaller, LimitAOR} }

// maxCounted is how many pairs, callers and AORs are counted separately, each.
const maxCounted = 1 << 16

type pair struct{ caller, aor string }

// Calls counts calls by caller, by called AOR and by the pair of both. Safe for
// concurrent use.
type Calls struct {
	pairs   *Buckets[pair]
	callers *Buckets[string]
	aors    *Buckets[string]
}

// NewCalls returns Calls that have counted nothing.
func NewCalls() *Calls {
	return &Calls{New[pair](maxCounted), New[string](maxCounted), New[string](maxCounted)}
}

// Over returns the limit that a call would exceed, "" if none. It does not count the
// call, so it can be used before any other work for the call.
func (c *Calls) Over(cfg *CallsConfig, caller, aor string, now time.Time) CallLimit {
	switch {
	case !c.pairs.Has(pair{caller, aor}, Per(time.Minute, *cfg.Pair), now):
		return LimitPair
	case caller != "" && !c.callers.Has(caller, Per(time.Minute, *cfg.Caller), now):
		return LimitCaller
	case !c.aors.Has(aor, Per(time.Minute, *cfg.AOR), now):
		return LimitAOR
	}
	return ""
}

// Take counts a call and returns the limit that it exceeds, "" if none. The narrowest
// limit comes first, and a call that it stops does not count against the others.
func (c *Calls) Take(cfg *CallsConfig, caller, aor string, now time.Time) CallLimit {
	switch {
	case !c.pairs.Take(pair{caller, aor}, Per(time.Minute, *cfg.Pair), now):
		return LimitPair
	case caller != "" && !c.callers.Take(caller, Per(time.Minute, *cfg.Caller), now):
		return LimitCaller
	case !c.aors.Take(aor, Per(time.Minute, *cfg.AOR), now):
		return LimitAOR
	}
	return ""
}
