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

// Send stores a push to each device of an AOR, or to a token, and begins to
// deliver it. The message it returns can be asked for by its ID for a day after
// its deadline.
func (s *Service) Send(ctx context.Context, p SendParams) (Message, error) {
	if p.AOR != "" {
		var err error
		if p.AOR, err = cleanAOR(p.AOR); err != nil {
			return Message{}, err
		}
	}
	bindings, err := s.sendTargets(ctx, p)
	if err != nil {
		return Message{}, err
	}
	if p.TTL == 0 {
		p.TTL = s.settings.Load().SendTTL
	}
	now := time.Now()
	m := Message{ID: uuid.NewString(), AOR: p.AOR, Kind: p.Kind, Title: p.Title, Body: p.Body, Data: p.Data,
		CreatedAt: now, Deadline: now.Add(p.TTL), NextTry: now.Add(outboxLease), Targets: make([]Target, len(bindings))}
	for i, b := range bindings {
		m.Targets[i] = Target{Device: b.Device, Address: b.Address, State: TargetQueued}
		if _, token := tokenFor(b.Address, p.Kind); token.Empty() {
			m.Targets[i].State, m.Targets[i].Reason = TargetFailed, push.NoToken
		} else if !s.pusher.Serves(b.Address.Provider, b.Address.App, b.Address.Environment) {
			m.Targets[i].State, m.Targets[i].Reason = TargetFailed, push.NoApp
		}
	}
	if err := s.outbox.Put(ctx, m); err != nil {
		return Message{}, err
	}
	s.deliver(m)
	return m, nil
}

func (s *Service) sendTargets(ctx context.Context, p SendParams) ([]Binding, error) {
	if p.Kind != push.Custom && p.Kind != push.Chat && p.Kind != push.Refresh {
		return nil, &ParamError{"kind", `must be "custom", "chat" or "refresh"`}
	}
	if p.TTL < 0 || p.TTL > 28*24*time.Hour {
		return nil, &ParamError{"ttl_s", "must be between 0 and 2419200"}
	}
	if p.AOR != "" {
		return s.store.Bindings(ctx, Query{AOR: p.AOR})
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

// storePatience bounds what the store may take where no request waits.
const storePatience = 2 * time.Second
