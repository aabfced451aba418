package wake

import "github.com/sipwake/sipwake/push"

// Results for a device that a held request should wake: a metric label.
const (
	deviceWoken  = "woken"  // pushed, and came back
	deviceSilent = "silent" // push accepted, but not back while the request was held
	deviceFailed = "failed" // push not accepted
	deviceEnded  = "ended"  // push accepted, but the request ended before it came back
)

var deviceResults = []string{deviceWoken, deviceSilent, deviceFailed, deviceEnded}

// countResults counts, once per call, the results of the devices it should wake.
// waiting is the result for a device that was pushed and is not back. A device does
// not count if it was awake, or if its app or user does not want the push.
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

// result returns the device's result, or "" if it does not count.
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
