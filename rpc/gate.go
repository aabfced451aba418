package rpc

import (
	"strings"
	"sync/atomic"
	"time"
)

// gate limits the concurrent requests, separately for calls and for the rest. It
// refuses further requests immediately: in a flood of REGISTERs the accepted ones are
// answered quickly, and calls still work.
type gate struct {
	most    int64
	lanes   [3]atomic.Int64
	refused atomic.Int64 // time of the last refusal, Unix nanoseconds
}

// lane returns the lane of a method. The methods of calls, such as wake.start, have
// their own lane. So does push.relay, which waits for push services. The service
// methods, which report the load, have none (nil).
func (g *gate) lane(method string) *atomic.Int64 {
	switch {
	case strings.HasPrefix(method, "service."):
		return nil
	case strings.HasPrefix(method, "wake.") && method != "wake.trace":
		return &g.lanes[0]
	case method == "push.relay":
		return &g.lanes[2]
	}
	return &g.lanes[1]
}

// enter reports whether a request of the method may proceed. If so, call leave when it
// is done.
func (g *gate) enter(method string) bool {
	l := g.lane(method)
	if l != nil && l.Add(1) > g.most {
		l.Add(-1)
		g.refused.Store(time.Now().UnixNano())
		return false
	}
	return true
}

func (g *gate) leave(method string) {
	if l := g.lane(method); l != nil {
		l.Add(-1)
	}
}

// load returns how full the fuller lane is, from 0 to 1. It is 1 for a second after a
// refusal, so that a load balancer that polls notices it.
func (g *gate) load() float64 {
	if time.Since(time.Unix(0, g.refused.Load())) < time.Second {
		return 1
	}
	return float64(max(g.lanes[0].Load(), g.lanes[1].Load())) / float64(g.most)
}
