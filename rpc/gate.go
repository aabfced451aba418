package rpc

import (
	"strings"
	"sync/atomic"
	"time"
)

// gate bounds how many requests are worked on at once, calls apart from the
// rest. What is beyond the bound is refused at once: in a flood of REGISTERs
// those that are taken are answered soon, and calls go on.
type gate struct {
	most    int64
	lanes   [3]atomic.Int64
	refused atomic.Int64 // when it refused last, Unix nanoseconds
}

// lane returns the place of a method: wake.start and what belongs to a call have
// one for themselves, and so has push.relay, which waits for push services. What asks how busy we are needs none.
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

// enter reports whether a request of the method may go on; if so, leave is to be
// called when it is done.
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

// load is how full the fuller lane is, from 0 to 1: what is between two looks of a
// balancer counts for a second if it was refused.
func (g *gate) load() float64 {
	if time.Since(time.Unix(0, g.refused.Load())) < time.Second {
		return 1
	}
	return float64(max(g.lanes[0].Load(), g.lanes[1].Load())) / float64(g.most)
}
