package wake

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/pnparam"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/secret"
)

// SendParams are the parameters of push.send: a push of an application's own,
// to every device of an AOR or to one token.
type SendParams struct {
	AOR         string
	Provider    pnparam.Provider
	App         string
	Environment pnparam.Environment
	Token       secret.Token
	Kind        push.Kind // custom, chat or refresh
	Title       string
	Body        string
	Data        map[string]string
	TTL         time.Duration // how long it is worth delivering; 0: the configured time
}

// SendResult is the result of push.send.
type SendResult struct {
	ID      string // RFC 9562 UUID
	Devices []SendDevice
}

// SendDevice says what became of the push to one device: Queued, or the reason
// why it was refused at once.
type SendDevice struct {
	Device   string
	Provider pnparam.Provider
	Outcome  string
}

// Queued is the outcome of a push that is on its way.
const Queued = "queued"

// Send pushes to each device of an AOR, or to a token. It returns once the pushes
// are queued.
func (s *Service) Send(ctx context.Context, p SendParams) (SendResult, error) {
	bindings, err := s.sendTargets(ctx, p)
	if err != nil {
		return SendResult{}, err
	}
	if p.TTL == 0 {
		p.TTL = s.settings.Load().SendTTL
	}
	res := SendResult{ID: uuid.NewString(), Devices: make([]SendDevice, 0, len(bindings))}
	v := push.Values{AOR: p.AOR, UUID: res.ID, Title: p.Title, Body: p.Body, Data: p.Data}
	for _, b := range bindings {
		outcome := s.send(b, p, v)
		res.Devices = append(res.Devices, SendDevice{b.Device, b.Address.Provider, outcome})
	}
	return res, nil
}

func (s *Service) sendTargets(ctx context.Context, p SendParams) ([]Binding, error) {
	if p.Kind != push.Custom && p.Kind != push.Chat && p.Kind != push.Refresh {
		return nil, &ParamError{"kind", `must be "custom", "chat" or "refresh"`}
	}
	if p.TTL < 0 || p.TTL > 28*24*time.Hour {
		return nil, &ParamError{"ttl_s", "must be between 0 and 2419200"}
	}
	if p.AOR != "" {
		aor, err := cleanAOR(p.AOR)
		if err != nil {
			return nil, err
		}
		return s.store.Bindings(ctx, Query{AOR: aor})
	}
	switch {
	case p.Token.Empty():
		return nil, &ParamError{"aor", "is missing; give aor, or provider, app and token"}
	case p.Provider == "":
		return nil, &ParamError{"provider", "is missing"}
	case p.App == "" && p.Provider != pnparam.WebPush:
		return nil, &ParamError{"app", "is missing"}
	}
	a := pnparam.Address{Provider: p.Provider, App: p.App, Environment: p.Environment,
		Tokens: []pnparam.Token{{Value: p.Token}}}
	if p.Provider == pnparam.APNs {
		a.Tokens[0].Service = pnparam.Remote // a voip token is only pushed for calls
	}
	return []Binding{{Address: a}}, nil
}

func (s *Service) send(b Binding, p SendParams, v push.Values) string {
	req := push.Request{Kind: p.Kind, Provider: b.Address.Provider, App: b.Address.App,
		Environment: b.Address.Environment, Values: v, Deadline: time.Now().Add(p.TTL)}
	req.Service, req.Token = tokenFor(b.Address, p.Kind)
	if req.Token.Empty() {
		return string(push.NoToken)
	}
	refused := make(chan push.Reason, 1)
	s.pusher.Push(s.ctx, req, func(o push.Outcome) {
		refused <- o.Reason
		s.judge(b, req, o)
	})
	select {
	case r := <-refused:
		if r != push.Accepted {
			return string(r)
		}
	default:
	}
	return Queued
}

// judge acts on what a push's end says about its token: a dead one takes its
// binding along. It does not wait for the store.
func (s *Service) judge(b Binding, req push.Request, o push.Outcome) {
	if o.Reason != push.TokenDead || b.AOR == "" {
		return
	}
	ok := s.spawn(func() {
		ctx, cancel := context.WithTimeout(s.ctx, storePatience)
		defer cancel()
		if _, err := s.remove(ctx, Removal{AOR: b.AOR, Device: b.Device, Token: req.Token, NotAfter: o.DeadSince}, removedDead); err != nil {
			s.log.Warn("cannot remove binding with a dead token", "aor", b.AOR, "device", b.Device, "err", err)
		}
	})
	if !ok { // the next push will find it dead again
		s.log.Warn("cannot remove binding with a dead token", "aor", b.AOR, "device", b.Device, "err", ErrStopped)
	}
}

// storePatience bounds what the store may take where no request waits.
const storePatience = 2 * time.Second
