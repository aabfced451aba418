package wake

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
)

// endUnknown is the logged reason for a call whose wake.end never came.
const endUnknown EndReason = "unknown"

func (cl *call) setOutcome(o Outcome) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.outcome = o
}

// logEnd writes the log line of a call that has ended.
func (s *Service) logEnd(cl *call, reason EndReason, code int) {
	if !s.log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	w := &cl.wake
	waiting := deviceEnded
	if reason == EndTimeout || reason == EndFailed || reason == endUnknown {
		waiting = deviceSilent
	}
	cl.mu.Lock()
	outcome, devices := cmp.Or(cl.outcome, "adopted"), s.deviceLines(cl, waiting)
	cl.mu.Unlock()
	args := []any{"aor", w.AOR, "call_id", w.CallID, "node", w.Node, "kind", w.Kind, "outcome", outcome,
		"reason", reason, "code", code, "seconds", seconds(time.Since(w.StartedAt))}
	if back := devices.firstBack(); back > 0 {
		args = append(args, "wake_seconds", back)
	}
	s.log.Info("wake ended", append(args, "devices", devices)...)
}

// logUnheld writes the log line of a call that was not held; cl is nil if its
// devices were not even looked up. The line is rate-limited, because strangers can
// call endlessly.
func (s *Service) logUnheld(w Wake, o Outcome, cl *call) {
	devices := deviceLines{}
	if cl != nil {
		cl.mu.Lock()
		devices = s.deviceLines(cl, deviceEnded)
		cl.mu.Unlock()
	}
	s.repeats.Info("wake not held", "aor", w.AOR, "call_id", w.CallID, "node", w.Node, "kind", w.Kind, "outcome", o, "devices", devices)
}

// deviceLine is the log entry for one device of a call.
type deviceLine struct {
	Device   string `json:"device,omitempty"` // if the client named it
	Provider string `json:"provider,omitempty"`
	App      string `json:"app,omitempty"`
	Result   string `json:"result"`         // a result of sipwake_wake_devices_total, awake, or unpushed
	Push     string `json:"push,omitempty"` // how the push ended: a reason, or pending
	// PushSeconds and BackSeconds are the times from wake.start to the end of the
	// push and to the device's REGISTER.
	PushSeconds float64 `json:"push_seconds,omitempty"`
	BackSeconds float64 `json:"back_seconds,omitempty"`
}

type deviceLines []deviceLine

// String returns JSON, even in a text log.
func (l deviceLines) String() string {
	b, err := json.Marshal(l)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(b)
}

// firstBack returns when the first pushed device was back, or 0 if none was.
func (l deviceLines) firstBack() (first float64) {
	for _, d := range l {
		if d.Result == deviceWoken && (first == 0 || d.BackSeconds < first) {
			first = d.BackSeconds
		}
	}
	return first
}

// deviceLines returns the lines of the call's devices. The call's lock must be held.
func (s *Service) deviceLines(cl *call, waiting string) deviceLines {
	lines := make(deviceLines, 0, len(cl.devices))
	for _, d := range cl.devices {
		l := deviceLine{Result: d.result(waiting), Push: string(d.ended)}
		if d.binding != nil {
			a := s.labels(d.binding.Address)
			l.Provider, l.App = a.provider, a.app
			if !trace.Hashed(d.binding.Device) {
				l.Device = d.binding.Device
			}
		}
		if l.Result == "" {
			l.Result = "unpushed"
			if d.registered || d.state == deviceBack {
				l.Result = "awake"
			}
		}
		if d.ended != "" {
			l.PushSeconds = seconds(d.endedAt.Sub(cl.wake.StartedAt))
		}
		if !d.cameBack.IsZero() {
			l.BackSeconds = seconds(d.cameBack.Sub(cl.wake.StartedAt))
		}
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b deviceLine) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Result, b.Result))
	})
	return lines
}

// seconds returns d in seconds, rounded for people to read.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
