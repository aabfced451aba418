package rpc

import (
	"context"

	"github.com/sipwake/sipwake/trace"
	"github.com/sipwake/sipwake/wake"
)

// timeline is a wake's story on the wire; times are Unix milliseconds.
type timeline struct {
	ID        string  `json:"id"`
	AOR       string  `json:"aor"`
	Node      string  `json:"node"`
	CallID    string  `json:"call_id"`
	Kind      string  `json:"kind"`
	StartedMS int64   `json:"started_ms"`
	Outcome   string  `json:"outcome"`
	Reason    string  `json:"reason,omitempty"`
	Events    []event `json:"events"`
	Omitted   int     `json:"omitted,omitempty"`
}

type event struct {
	AtMS   int64           `json:"at_ms"`
	Event  trace.EventName `json:"event"`
	Device string          `json:"device,omitempty"`
	Detail string          `json:"detail,omitempty"`
}

func (s *Server) wakeTrace(ctx context.Context, p *params) (any, error) {
	aor, callID := p.str("aor"), p.str("call_id")
	if p.err != nil {
		return nil, p.err
	}
	if aor == "" && callID == "" {
		return nil, &wake.ParamError{Field: "aor", Problem: "is missing; give aor or call_id"}
	}
	if aor != "" {
		var err error
		if aor, err = wake.CleanAOR(aor); err != nil {
			return nil, err
		}
	}
	found := s.traces(ctx, aor, callID)
	list := make([]timeline, len(found))
	for i, t := range found {
		events := make([]event, len(t.Events))
		for j, e := range t.Events {
			events[j] = event{e.At.UnixMilli(), e.Name, e.Device, e.Detail}
		}
		list[i] = timeline{t.ID, t.AOR, t.Node, t.CallID, t.Kind, t.StartedAt.UnixMilli(), t.Outcome, t.Reason, events, t.Omitted}
	}
	return struct {
		Wakes []timeline `json:"wakes"`
	}{list}, nil
}
