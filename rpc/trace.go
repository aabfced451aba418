package rpc

import (
	"context"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
)

// timeline is the JSON form of a wake's timeline; times are Unix milliseconds.
type timeline struct {
	ID        string  `json:"id"`
	AOR       string  `json:"aor"`
	Node      string  `json:"node"`
	CallID    string  `json:"call_id"`
	Kind      string  `json:"kind"`
	StartedMS int64   `json:"started_ms"`
	Outcome   string  `json:"outcome"`
	Reason    string  `json:"reason,omitempty"`
	Verdict   string  `json:"verdict"`
	Events    []event `json:"events"`
	Omitted   int     `json:"omitted,omitempty"`
}

type event struct {
	AtMS     int64           `json:"at_ms"`
	Event    trace.EventName `json:"event"`
	Device   string          `json:"device,omitempty"`
	Detail   string          `json:"detail,omitempty"`
	Provider string          `json:"provider,omitempty"`
	App      string          `json:"app,omitempty"`
	Kind     string          `json:"kind,omitempty"`
	ID       string          `json:"id,omitempty"`
	Tries    int             `json:"tries,omitempty"`
	SentMS   int64           `json:"sent_ms,omitempty"`
	Code     int             `json:"code,omitempty"`
}

const (
	tracesAsked = 50 // calls of one answer, if the request does not say
	tracesMost  = 200
	partShort   = 2 // minimum length of a part of a name, in bytes
	latestMS    = 1e15
)

func (s *Server) wakeTrace(ctx context.Context, p *params) (any, error) {
	q := trace.Query{AOR: p.str("aor"), CallID: p.str("call_id"), Device: trace.DeviceName(p.str("device")), Provider: p.str("provider"),
		App: p.str("app"), Outcome: p.str("outcome"), Reason: p.str("reason"),
		Since: unixTime(p.number("since_ms", 0, 0, latestMS)), Until: unixTime(p.number("until_ms", 0, 0, latestMS)),
		Limit: int(p.number("limit", tracesAsked, 1, tracesMost))}
	user, cursor := p.str("user"), p.str("cursor")
	if p.err != nil {
		return nil, p.err
	}
	var err error
	if q.AOR != "" {
		if q.AOR, err = wake.CleanAOR(q.AOR); err != nil {
			return nil, err
		}
	}
	if user != "" && (q.AOR != "" || len(user) < partShort) {
		return nil, &wake.ParamError{Field: "user", Problem: "must have 2 characters or more, and stand without aor"}
	}
	if cursor, err = p.by.unseal(cursor); err != nil {
		return nil, err
	}
	if q.Before, err = trace.ParseCursor(cursor); err != nil {
		return nil, &wake.ParamError{Field: "cursor", Problem: err.Error()}
	}
	found := s.tracesOf(ctx, p.by, q, user)
	next, incomplete := p.by.seal(found.Next.String()), found.Incomplete
	res := struct {
		Wakes      []timeline `json:"wakes"`
		Cursor     string     `json:"cursor,omitempty"`
		Incomplete bool       `json:"incomplete,omitempty"`
		Users      []string   `json:"users,omitempty"`
		Like       []string   `json:"like,omitempty"`
	}{make([]timeline, len(found.Timelines)), next, incomplete, found.Users, found.Like}
	for i := range found.Timelines {
		res.Wakes[i] = wireTimeline(&found.Timelines[i])
	}
	return res, nil
}

// tracesOf finds the calls that the caller may see.
func (s *Server) tracesOf(ctx context.Context, by *tenant, q trace.Query, user string) trace.Found {
	if by == nil {
		return s.traces(ctx, q, user)
	}
	q.Domains, q.Apps, q.Part = by.Scope.Domains, by.Scope.Apps, strings.ToLower(user)
	all := trace.Found{}
	limit := q.Limit
	end := time.Now().Add(s.settings.Load().Deadline / 2) // a page is what is found by then
	for first := true; first || !q.Before.IsZero() && q.Limit > 0 && time.Now().Before(end); first = false {
		found := s.traces(ctx, q, "") // neither other tenants' users nor users with similar names
		for i := range found.Timelines {
			t := found.Timelines[i].OfApps(by.Scope.Apps)
			if q.Match(&t) {
				all.Timelines = append(all.Timelines, t)
			}
		}
		all.Incomplete = all.Incomplete || found.Incomplete
		all.Next, q.Before, q.Limit = found.Next, found.Next, limit-len(all.Timelines)
	}
	return all
}

// unixTime returns the time, zero for 0.
func unixTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func wireTimeline(t *trace.Timeline) timeline {
	events := make([]event, len(t.Events))
	for i, e := range t.Events {
		events[i] = event{AtMS: e.At.UnixMilli(), Event: e.Name, Device: e.Device, Detail: e.Detail, Provider: e.Provider,
			App: e.App, Kind: e.Kind, ID: e.ID, Tries: e.Tries, Code: e.Code}
		if !e.SentAt.IsZero() {
			events[i].SentMS = e.SentAt.UnixMilli()
		}
	}
	return timeline{ID: t.ID, AOR: t.AOR, Node: t.Node, CallID: t.CallID, Kind: t.Kind, StartedMS: t.StartedAt.UnixMilli(),
		Outcome: t.Outcome, Reason: t.Reason, Verdict: trace.Verdict(t), Events: events, Omitted: t.Omitted}
}
