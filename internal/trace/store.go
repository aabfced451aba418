package trace

import (
	"context"
	"time"
)

// Store keeps timelines. Each instance has its own part of a call; those of one call
// have the same Head. Safe for concurrent use.
type Store interface {
	// Put writes parts, each with the name of its instance, and takes the place of
	// what that instance has written of that call. It forgets what is too old or too
	// much, some of it with each call, and returns how many calls are kept. The parts
	// are not its own, and are no more when it returns.
	Put(ctx context.Context, parts []Timeline) (kept int, err error)
	// Find returns the parts of calls that match when they are merged, those of one
	// call side by side, the newest call first, and where to go on: zero when there
	// are no more. When much had to be looked at there may be fewer calls than
	// q.Limit, even none, with more to come.
	Find(ctx context.Context, q Query) (parts []Timeline, next Cursor, err error)
	// Users returns up to most AORs of kept calls that have the part in them: at
	// the start, or further on in the user part.
	Users(ctx context.Context, part string, most int) ([]string, error)
}

// MaxLook is how many calls one Find of a Store looks at. Further ones come with the
// next Find.
const MaxLook = 1000

// Config says how timelines are kept.
type Config struct {
	// Disabled keeps none in the store; the last ones are in memory all the same.
	Disabled bool `yaml:"disabled"`
	// Retention is how long they are kept. Default 168h.
	Retention time.Duration `yaml:"retention"`
	// Calls is how many calls are kept; the oldest ones make room. Default 50000.
	Calls int `yaml:"calls"`
	// CallBytes is the most that one instance writes of one call. What is beyond
	// leaves out events from the middle. Default 8192.
	CallBytes int `yaml:"call_bytes"`
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	if c.Retention == 0 {
		c.Retention = 7 * 24 * time.Hour
	}
	if c.Calls == 0 {
		c.Calls = 50_000
	}
	if c.CallBytes == 0 {
		c.CallBytes = 8192
	}
}

// Validate reports every problem. Call SetDefaults first.
func (c *Config) Validate(report func(field, problem string)) {
	if c.Retention < time.Minute {
		report("retention", "must be 1m or more")
	}
	if c.Calls < 1 || c.Calls > 100_000_000 {
		report("calls", "must be between 1 and 100000000")
	}
	if c.CallBytes < 2048 || c.CallBytes > 1<<16 {
		report("call_bytes", "must be between 2048 and 65536")
	}
}
