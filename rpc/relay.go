package rpc

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/sipuri"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// relayWait is how long push.relay waits for the push service. After that the caller
// asks again.
const relayWait = 4 * time.Second

// relayed is the result of push.relay.
type relayed struct {
	State      string      `json:"state"` // pending, or done with the other fields
	Reason     push.Reason `json:"reason,omitempty"`
	About      push.About  `json:"about,omitempty"`
	Detail     string      `json:"detail,omitempty"`
	PushID     string      `json:"push_id,omitempty"`
	RetryAfter float64     `json:"retry_after_s,omitempty"`
	DeadSince  time.Time   `json:"dead_since,omitzero"`
}

// pushRelay sends a push for another sipwake, to a token known to that sipwake.
func (s *Server) pushRelay(ctx context.Context, p *params) (any, error) {
	id, req := p.str("id"), push.Request{
		Kind: p.kind("kind"), Provider: pnparam.Provider(p.str("provider")), App: p.str("app"),
		Environment: pnparam.Environment(p.str("environment")), Service: pnparam.Service(p.str("service")),
		Token: secret.NewToken(p.str("token")), Keys: relayKeys(p),
		Deadline: time.Now().Add(time.Duration(p.number("ttl_s", 30, 1, int64(push.MaxTTL/time.Second))) * time.Second),
	}
	values := p.object("values")
	req.Values = relayValues(values)
	if err := cmp.Or(p.err, values.err); err != nil {
		return nil, err
	}
	by := p.by.caller()
	if err := checkRelay(by, id, &req); err != nil {
		return nil, err
	}
	o, ended := s.relay.Push(ctx, cmp.Or(by.Name, operatorName), id, req)
	if !ended {
		return relayed{State: "pending"}, nil
	}
	return relayed{"done", o.Reason, o.About, o.Detail, o.ID, math.Round(o.RetryAfter.Seconds()*1000) / 1000, o.DeadSince}, nil
}

// operatorName is the name for counting pushes of callers that are not tenants.
const operatorName = "operator"

// checkRelay checks what the binding store would have checked, and that the app belongs
// to the tenant. A tenant with domains has its users here and must use push.send.
func checkRelay(by wake.Caller, id string, r *push.Request) error {
	if by.Scope != nil && len(by.Scope.Domains) > 0 {
		return &wake.ParamError{Field: "token", Problem: "is not for a tenant with domains: it pushes its users by push.send"}
	}
	if !by.Scope.App(r.App) {
		return &wake.ParamError{Field: "app", Problem: "is none of this tenant's"}
	}
	if err := wake.CheckID("id", id); err != nil {
		return err
	}
	if _, ok := push.ParseKind(string(r.Kind)); !ok {
		return &wake.ParamError{Field: "kind", Problem: "must be call, chat, cancel, custom or refresh"}
	}
	a := pnparam.Address{Provider: r.Provider, App: r.App, Tokens: []pnparam.Token{{Service: r.Service, Value: r.Token}}}
	return a.Check()
}

// relayKeys returns the keys of a subscription; nil if there are none.
func relayKeys(p *params) *pnparam.WebPushKeys {
	p256dh, auth := p.str("p256dh"), p.str("auth")
	if p256dh == "" && auth == "" {
		return nil
	}
	keys := pnparam.ParseWebPushKeys(p256dh, auth)
	if keys == nil {
		p.fail("p256dh", "and auth are not the keys of a push subscription")
	}
	return keys
}

// relayValues reads the content of a push.
func relayValues(q *params) push.Values {
	v := push.Values{AOR: q.str("aor"), From: q.str("from"), User: q.str("user"), Display: q.str("display"), CallID: q.str("call_id"),
		UUID: q.str("uuid"), Media: q.str("media"), Title: q.str("title"), Body: q.str("body"), Called: q.str("called"),
		CalledURI: q.str("called_uri"), Verstat: q.str("verstat"), Reason: q.str("reason"), Headers: q.stringMap("headers"), Data: q.stringMap("data")}
	if v.User == "" && v.From != "" {
		v.User = sipuri.Dial(v.From)
	}
	return v
}
