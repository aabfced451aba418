package wake

import (
	"sync/atomic"
	"time"
)

// LoadLevel is how busy this instance is: 0 low, 1 moderate, 2 high, 3 very high, 4
// extreme. Clients and load balancers use it to choose an instance.
type LoadLevel int

// loadSteps are the utilisations at which levels 1 to 4 begin.
var loadSteps = [...]float64{.25, .5, .75, .95}

// LoadReason is the utilisation of one limited resource, 0 to 1.
type LoadReason struct {
	Name  string
	Share float64
}

// AddLoad adds a limited resource for Load to consider. Call it before the first
// request.
func (s *Service) AddLoad(name string, share func() float64) {
	s.sources = append(s.sources, loadSource{name, share})
}

type loadSource struct {
	name  string
	share func() float64
}

// Load returns the level, set by the fullest resource, and the utilisation of each.
func (s *Service) Load() (LoadLevel, []LoadReason) {
	reasons := make([]LoadReason, len(s.sources))
	for i, src := range s.sources {
		reasons[i] = LoadReason{src.name, src.share()}
	}
	return s.level(), reasons
}

func (s *Service) level() LoadLevel {
	fullest := 0.0
	for _, src := range s.sources {
		fullest = max(fullest, src.share())
	}
	level := LoadLevel(0)
	for _, step := range loadSteps {
		if fullest >= step {
			level++
		}
	}
	return level
}

// latency tracks how long the store takes for a REGISTER or a wake, as a moving
// average in which each new value has a weight of one eighth. Safe for concurrent
// use.
type latency struct {
	mean atomic.Int64 // nanoseconds
	at   atomic.Int64 // of the last answer, Unix nanoseconds
}

const (
	// maxLatency is the latency that counts as full load: proxies wait a little
	// longer than this for an answer.
	maxLatency = 300 * time.Millisecond
	// latencyTTL is how long the mean counts when no request comes.
	latencyTTL = 2 * time.Second
)

func (l *latency) observe(began time.Time) {
	now := time.Now()
	mean := l.mean.Load()
	l.mean.Store(mean + (int64(now.Sub(began))-mean)/8) // a value lost in a race does no harm
	l.at.Store(now.UnixNano())
}

func (l *latency) share() float64 {
	if time.Since(time.Unix(0, l.at.Load())) > latencyTTL {
		return 0
	}
	return min(float64(l.mean.Load())/float64(maxLatency), 1)
}
