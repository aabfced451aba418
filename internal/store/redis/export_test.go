package redis

import "time"

// SetClock makes the machine's clock one that is so far ahead of Redis'.
func (s *Store) SetClock(ahead time.Duration) {
	now := time.Now()
	s.clock.last.Store(&told{now, now.Add(-ahead)})
}

// ClockAhead is how far the machine's clock is taken to be ahead of Redis'.
func (s *Store) ClockAhead() time.Duration {
	now := time.Now()
	return now.Sub(s.clock.toRedis(now))
}

// Waiting is how many commands wait to be sent.
func (s *Store) Waiting() int { return s.pipe.Len() }

// PackDevice and UnpackDevice convert between the name of a device and its form in Redis.
var (
	PackDevice   = packDevice
	UnpackDevice = unpackDevice
)
