package rpc

import (
	"context"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/wake"
)

// timeline is a wake's story on the wire; times are Unix milliseconds.
type timeline struct {
	ID        string         `json:"id"`
	AOR       string         `json:"aor"`
	Node      string         `json:"node"`
	CallID    string         `json:"call_id"`
	Kind      push.Kind      `json:"kind"`
	StartedMS int64          `json:"started_ms"`
	Outcome   wake.Outcome   `json:"outcome"`
	Reason    wake.EndReason `json:"reason,omitempty"`
	Events    []event        `json:"events"`
}

type event struct {
	AtMS   int64  `json:"at_ms"`
	Event  string `json:"event"`
	Device string `json:"device,omitempty"`
	Detail string `json:"detail,omitempty"`
}

func (s *Server) wakeTrace(ctx context.Context, p *params) (any, error) {
	aor, callID := p.str("aor"), p.str("call_id")
	if p.err != nil {
		return nil, p.err
	}
	found, err := s.service.Traces(ctx, aor, callID)
	if err != nil {
		return nil, err
	}
	list := make([]timeline, len(found))
	for i, t := range found {
		events := make([]event, len(t.Events))
		for j, e := range t.Events {
			events[j] = event{e.At.UnixMilli(), e.Name, e.Device, e.Detail}
		}
		list[i] = timeline{t.ID, t.AOR, t.Node, t.CallID, t.Kind, t.StartedAt.UnixMilli(), t.Outcome, t.Reason, events}
	}
	return struct {
		Wakes []timeline `json:"wakes"`
	}{list}, nil
}
