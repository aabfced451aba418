package outbox

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// Devices finds the devices of a user and pushes them. wake.Service implements it and
// documents the methods.
type Devices interface {
	Bindings(ctx context.Context, aor string, token secret.Token) ([]wake.Binding, error)
	Push(p wake.DevicePush, done func(push.Outcome))
	Serves(b wake.Binding) bool
	EachBinding(ctx context.Context, f func([]wake.Binding) error) error
	Go(f func(ctx context.Context)) error
}

var _ Devices = (*wake.Service)(nil)

// Service accepts pushes of applications and delivers them. Safe for concurrent use.
type Service struct {
	store   Store
	devices Devices
	log     *slog.Logger
	ttl     func() time.Duration
	jobs    jobs
}

// New returns a Service. ttl returns the default lifetime of a push.
func New(store Store, devices Devices, ttl func() time.Duration, log *slog.Logger) *Service {
	return &Service{store: store, devices: devices, ttl: ttl, log: log, jobs: jobs{taken: make(map[string]int)}}
}

// SendParams are the parameters of push.send: a push of an application to every device
// of an AOR or to one token.
type SendParams struct {
	By          wake.Caller
	AOR         string
	Provider    pnparam.Provider
	App         string
	Environment pnparam.Environment
	Token       secret.Token
	Kind        push.Kind
	From        string // as in Message
	Display     string // as in Message
	Title       string
	Body        string
	Data        map[string]string
	// TTL is how long to try to deliver it. 0: the configured time, but at most half a
	// minute for a call and a cancel, because a phone must not ring much later.
	TTL time.Duration
}

// callTTL is the longest default lifetime of a push about a call.
const callTTL = 30 * time.Second

// Send stores a push to each device of an AOR, or to a token, and begins to deliver it.
// Message returns its state until a day after its deadline.
func (s *Service) Send(ctx context.Context, p SendParams) (Message, error) {
	if p.AOR != "" {
		var err error
		if p.AOR, err = wake.CleanAOR(p.AOR); err != nil {
			return Message{}, err
		}
	}
	bindings, err := s.targets(ctx, p)
	if err != nil {
		return Message{}, err
	}
	if p.TTL == 0 {
		p.TTL = s.ttl()
		if p.Kind == push.Call || p.Kind == push.Cancel {
			p.TTL = min(p.TTL, callTTL)
		}
	}
	now := time.Now()
	m := Message{ID: uuid.NewString(), Owner: p.By.Name, AOR: p.AOR, Kind: p.Kind, From: p.From, Display: p.Display, Title: p.Title, Body: p.Body, Data: p.Data,
		CreatedAt: now, Deadline: now.Add(p.TTL)}
	return m, s.begin(ctx, &m, bindings)
}

// begin stores a message for the devices and begins to deliver it.
func (s *Service) begin(ctx context.Context, m *Message, bindings []wake.Binding) error {
	m.NextTry, m.Targets = m.CreatedAt.Add(lease), make([]Target, len(bindings))
	for i, b := range bindings {
		m.Targets[i] = Target{Device: b.Device, Address: b.Address, State: TargetQueued}
		if _, token := wake.TokenFor(b.Address, m.Kind); token.Empty() {
			m.Targets[i].State, m.Targets[i].Reason = TargetFailed, push.NoToken
		} else if !s.devices.Serves(b) {
			m.Targets[i].State, m.Targets[i].Reason = TargetFailed, push.NoApp
		}
	}
	if err := s.store.Put(ctx, *m); err != nil {
		return err
	}
	s.deliver(*m)
	return nil
}

// checkSend checks the parameters that push.send and push.many share.
func checkSend(p *SendParams) error {
	if !slices.Contains(push.Kinds(), p.Kind) {
		return &wake.ParamError{Field: "kind", Problem: "must be call, chat, cancel, custom or refresh, or a number from 0 to 4"}
	}
	if p.TTL < 0 || p.TTL > 28*24*time.Hour {
		return &wake.ParamError{Field: "ttl_s", Problem: "must be between 0 and 2419200"}
	}
	return nil
}

func (s *Service) targets(ctx context.Context, p SendParams) ([]wake.Binding, error) {
	if err := checkSend(&p); err != nil {
		return nil, err
	}
	if p.AOR != "" {
		list, err := s.devices.Bindings(ctx, p.AOR, secret.Token{})
		return p.By.Scope.Of(slices.Clone(list)), err
	}
	switch {
	case p.Token.Empty():
		return nil, &wake.ParamError{Field: "aor", Problem: "is missing; give aor, or provider, app and token"}
	case p.Provider == "":
		return nil, &wake.ParamError{Field: "provider", Problem: "is missing"}
	case p.App == "" && p.Provider != pnparam.WebPush:
		return nil, &wake.ParamError{Field: "app", Problem: "is missing"}
	}
	a := pnparam.Address{Provider: p.Provider, App: p.App, Environment: p.Environment,
		Tokens: []pnparam.Token{{Value: p.Token}}}
	if bad := (*pnparam.Error)(nil); errors.As(a.Check(), &bad) {
		return nil, &wake.ParamError{Field: strings.Replace(bad.Field, "tokens", "token", 1), Problem: bad.Problem}
	}
	if p.Provider == pnparam.APNs {
		a.Tokens[0].Service = pnparam.Remote // a voip token is pushed only for calls
		if p.Kind == push.Call {
			a.Tokens[0].Service = pnparam.VoIP
		}
	}
	return []wake.Binding{{Address: a}}, s.checkToken(ctx, p)
}

// checkToken returns an error if a tenant may not push the token. A tenant with domains
// may push only tokens of its own users. The error does not reveal whether another
// tenant's user has the token.
func (s *Service) checkToken(ctx context.Context, p SendParams) error {
	scope := p.By.Scope
	if !scope.App(p.App) {
		return &wake.ParamError{Field: "app", Problem: "is none of this tenant's"}
	}
	if scope == nil || len(scope.Domains) == 0 {
		return nil
	}
	list, err := s.devices.Bindings(ctx, "", p.Token)
	if err != nil {
		return err
	}
	mine := slices.ContainsFunc(scope.Of(slices.Clone(list)), func(b wake.Binding) bool {
		return b.Address.Provider == p.Provider && b.Address.App == p.App
	})
	if !mine {
		return &wake.ParamError{Field: "token", Problem: "is not that of a device of this tenant's users"}
	}
	return nil
}
