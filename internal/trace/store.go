package trace

import (
	"context"
	"time"
)

// Store keeps timelines. Each instance has its own part of a call; the parts of a call
// have the same Head. Safe for concurrent use.
type Store interface {
	// Put writes parts, each with the name of its instance. A part replaces what this
	// instance has written of the call before. Each Put also deletes some of the calls
	// that are too old or too many. It returns how many calls are kept. It must not
	// change the parts, nor keep them when it has returned.
	Put(ctx context.Context, parts []Timeline) (kept int, err error)
	// Find returns the parts of the calls that match once merged, the newest call
	// first and the parts of a call together, and the cursor of the next page, zero if
	// there is none. A page can have fewer calls than q.Limit, even none, although
	// there are more: see MaxLook.
	Find(ctx context.Context, q Query) (parts []Timeline, next Cursor, err error)
	// Users returns up to most AORs of kept calls that contain part, at the start or
	// anywhere in the user part.
	Users(ctx context.Context, part string, most int) ([]string, error)
}

// MaxLook is how many calls one Find of a Store examines. The next page continues with
// the others.
const MaxLook = 1000

// Config configures how timelines are kept.
type Config struct {
	// Disabled keeps none in the store; the last ones are still in memory.
	Disabled bool `yaml:"disabled"`
	// Retention is how long they are kept. Default 168h.
	Retention time.Duration `yaml:"retention"`
	// Calls is how many calls are kept; the oldest ones make room. Default 50000.
	Calls int `yaml:"calls"`
	// CallBytes is the most that one instance writes of one call. Events in the middle
	// of a longer timeline are left out. Default 8192.
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
