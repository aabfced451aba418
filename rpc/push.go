package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

func (s *Server) pushSend(ctx context.Context, p *params) (any, error) {
	req := sendParams(p)
	req.AOR, req.Token = p.str("aor"), secret.NewToken(p.str("token"))
	req.Environment = pnparam.Environment(p.str("environment"))
	if p.err != nil {
		return nil, p.err
	}
	m, err := s.outbox.Send(ctx, req)
	if err != nil {
		return nil, err
	}
	return newMessage(m), nil
}

// sendParams reads what push.send and push.many have in common.
func sendParams(p *params) outbox.SendParams {
	return outbox.SendParams{
		By: p.by.caller(), Provider: pnparam.Provider(p.str("provider")), App: p.str("app"),
		Kind: p.kind("kind"), From: p.str("from"), Display: p.str("display"),
		Title: p.str("title"), Body: p.str("body"), Data: p.stringMap("data"),
		TTL: p.seconds("ttl_s", 28*24*time.Hour),
	}
}

func (s *Server) pushMany(ctx context.Context, p *params) (any, error) {
	req := outbox.ManyParams{SendParams: sendParams(p), AORs: p.strings("aors"), Rate: int(p.number("rate", 0, 1, outbox.MaxRate))}
	if p.by != nil && p.err == nil {
		if req.Rate == 0 {
			req.Rate = min(outbox.DefaultRate, p.by.rate)
		}
		if req.Rate > p.by.rate {
			p.fail("rate", fmt.Sprint("is more than the ", p.by.rate, " of this tenant"))
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	m, err := s.outbox.SendMany(ctx, req)
	if err != nil {
		return nil, err
	}
	return newMessage(m), nil
}

func (s *Server) pushList(ctx context.Context, p *params) (any, error) {
	req := outbox.ListParams{By: p.by.caller(), State: outbox.TargetState(p.str("state")), AOR: p.str("aor"), App: p.str("app"), Job: p.str("job"),
		Cursor: p.str("cursor"), Limit: int(p.number("limit", 100, 1, 1000))}
	if p.err != nil {
		return nil, p.err
	}
	var err error
	if req.Cursor, err = p.by.unseal(req.Cursor); err != nil {
		return nil, err
	}
	half, cancel := context.WithTimeout(ctx, s.settings.Load().Deadline/2) // a page is what is found by then
	defer cancel()
	found, next, err := s.outbox.List(half, req)
	if err != nil {
		return nil, err
	}
	list := make([]message, len(found))
	for i, m := range found {
		list[i] = newMessage(m)
	}
	return struct {
		Messages []message `json:"messages"`
		Cursor   string    `json:"cursor,omitempty"`
	}{list, p.by.seal(next)}, nil
}

func (s *Server) pushStatus(ctx context.Context, p *params) (any, error) {
	id := p.str("id")
	if p.err != nil {
		return nil, p.err
	}
	m, ok, err := s.outbox.Message(ctx, p.by.caller(), id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errUnknownPush()
	}
	return newMessage(m), nil
}

func errUnknownPush() error {
	return &wake.ParamError{Field: "id", Problem: "is not known, or too long ago"}
}

func (s *Server) pushStop(ctx context.Context, p *params) (any, error) {
	id := p.str("id")
	return changeMany(ctx, p, id, s.outbox.Stop)
}

func (s *Server) pushResume(ctx context.Context, p *params) (any, error) {
	id := p.str("id")
	return changeMany(ctx, p, id, s.outbox.Resume)
}

// changeMany changes a push to many users.
func changeMany(ctx context.Context, p *params, id string,
	do func(context.Context, wake.Caller, string) (outbox.Message, bool, error)) (any, error) {
	if p.err != nil {
		return nil, p.err
	}
	m, ok, err := do(ctx, p.by.caller(), id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errUnknownPush()
	}
	return newMessage(m), nil
}

// message is the status of a push of an application.
type message struct {
	ID       string    `json:"id"`
	AOR      string    `json:"aor,omitempty"`
	Kind     push.Kind `json:"kind"`
	Created  time.Time `json:"created_at"`
	Deadline time.Time `json:"deadline"`
	Devices  []target  `json:"devices"`
	Job      string    `json:"job,omitempty"`
	Many     *many     `json:"many,omitempty"`
}

// many is the progress of a push to many users.
type many struct {
	Provider pnparam.Provider `json:"provider,omitempty"`
	App      string           `json:"app,omitempty"`
	Rate     int              `json:"rate"`
	State    string           `json:"state"`
	Users    int              `json:"users"`
	Sent     int              `json:"sent"`
	None     int              `json:"without_device"`
}

func newMany(m *outbox.Many) *many {
	if m == nil {
		return nil
	}
	state := "sending"
	switch {
	case m.Ended:
		state = "ended"
	case m.Stopped:
		state = "stopped"
	case m.List == "":
		state = "waiting"
	}
	return &many{m.Provider, m.App, m.Rate, state, m.Users, m.Sent, m.None}
}

type target struct {
	Device   string             `json:"device,omitempty"`
	Provider pnparam.Provider   `json:"provider"`
	App      string             `json:"app,omitempty"`
	State    outbox.TargetState `json:"state"`
	Reason   push.Reason        `json:"reason,omitempty"`
	Detail   string             `json:"detail,omitempty"`
	Tries    int                `json:"tries"`
}

func newMessage(m outbox.Message) message {
	targets := make([]target, len(m.Targets))
	for i, t := range m.Targets {
		targets[i] = target{t.Device, t.Address.Provider, t.Address.App, t.State, t.Reason, t.Detail, t.Tries}
	}
	return message{m.ID, m.AOR, m.Kind, m.CreatedAt, m.Deadline, targets, m.Job, newMany(m.Many)}
}
