package wake

import (
	"context"
	"strings"
	"time"
)

// EndReason is why a held request ended.
type EndReason string

// The reasons of wake.end.
const (
	Answered  EndReason = "answered"
	Cancelled EndReason = "cancelled"
	TimedOut  EndReason = "timeout"
	UserBusy  EndReason = "busy"
	Declined  EndReason = "declined"
	Failed    EndReason = "failed"
)

var reasons = []EndReason{Answered, Cancelled, TimedOut, UserBusy, Declined, Failed}

// EndParams are the parameters of wake.end: a held request has ended.
type EndParams struct {
	Node   string
	AOR    string
	CallID string
	Call   string
	Reason EndReason
	Code   int // final SIP status, 0 if unknown
}

// End ends a wake: pushes that wait are dropped, and no device is signalled for
// it any more. It may come before its Start. It tells whether the wake was open.
func (s *Service) End(ctx context.Context, p EndParams) (bool, error) {
	if _, err := s.node(p.Node); err != nil {
		return false, err
	}
	aor, err := cleanAOR(p.AOR)
	if err != nil {
		return false, err
	}
	if err := checkID("call", p.Call); err != nil {
		return false, err
	}
	known := false
	for _, r := range reasons {
		known = known || r == p.Reason
	}
	if !known {
		return false, &ParamError{"reason", "must be answered, cancelled, timeout, busy, declined or failed"}
	}
	ended, err := s.store.End(ctx, aor, p.Node, p.Call)
	// Also when the store is away: no push is sent for a call that is over.
	cl := s.endCall(callKey{p.Node, p.Call, aor})
	if cl != nil {
		s.aftermath(cl, p.Reason)
	}
	if err != nil {
		return false, err
	}
	if !ended.Known {
		return false, nil
	}
	if cl == nil {
		s.announce(ended.Wake, NewsEnded, string(p.Reason))
	}
	now := time.Now()
	s.metrics.ends.WithLabelValues(string(p.Reason)).Inc()
	s.traces.start(ended.Wake) // of another instance's wake this is its own part
	s.traces.add(ended.Wake, now, eventEnded, "", string(p.Reason))
	s.traces.setReason(ended.Wake, p.Reason)
	s.log.Info("wake ended", "aor", aor, "call_id", ended.Wake.CallID, "node", p.Node, "kind", ended.Wake.Kind,
		"reason", p.Reason, "code", p.Code, "seconds", now.Sub(ended.Wake.StartedAt).Seconds())
	return true, nil
}

// userPart returns the user part of a SIP URI, or the whole without its scheme.
func userPart(uri string) string {
	if _, rest, ok := strings.Cut(uri, ":"); ok {
		uri = rest
	}
	user, _, _ := strings.Cut(uri, "@")
	return user
}
