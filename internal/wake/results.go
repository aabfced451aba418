package wake

import "github.com/sipwake/sipwake/push"

// What became of a device that a held request was to wake: a metric label.
const (
	deviceWoken  = "woken"  // it was pushed and came back
	deviceSilent = "silent" // its push was accepted, and it did not come back while the request was held
	deviceFailed = "failed" // its push was not accepted
	deviceEnded  = "ended"  // its push was accepted, and the request ended before it came back
)

var deviceResults = []string{deviceWoken, deviceSilent, deviceFailed, deviceEnded}

// countResults counts, once a call, what became of the devices that it was to wake.
// waiting is the result of one that was pushed and is not back. One that was awake,
// or that is not to be pushed by the will of its app or user, does not count.
func (s *Service) countResults(cl *call, waiting string) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.results {
		return
	}
	cl.results = true
	for _, d := range cl.devices {
		if result := d.result(waiting); result != "" {
			a := s.labels(d.binding.Address)
			s.metrics.devices.WithLabelValues(a.provider, a.app, result).Inc()
		}
	}
}

// result is what became of the device, empty if it does not count.
func (d *device) result(waiting string) string {
	switch {
	case d.binding == nil:
		return ""
	case d.accepted && (d.registered || d.state == deviceBack):
		return deviceWoken
	case d.accepted:
		return waiting
	case d.state != deviceUnreachable:
		return ""
	}
	switch d.refusal {
	case push.ByPolicy, push.Denied, push.NoToken:
		return ""
	}
	return deviceFailed
}
