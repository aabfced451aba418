package rpc

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// method reads its parameters and returns the result to marshal.
type method func(ctx context.Context, p *params) (any, error)

// methods is the method table, docs/RPC.md in code.
func (s *Server) methods() map[string]method {
	return map[string]method{
		"binding.register": s.bindingRegister,
		"binding.rejected": s.bindingRejected,
		"binding.list":     s.bindingList,
		"binding.remove":   s.bindingRemove,
		"binding.export":   s.bindingExport,
		"binding.import":   s.bindingImport,
		"wake.start":       s.wakeStart,
		"wake.progress":    s.wakeProgress,
		"wake.end":         s.wakeEnd,
		"wake.trace":       s.wakeTrace,
		"upper.result":     s.upperResult,
		"upper.returned":   s.upperReturned,
		"upper.list":       s.upperList,
		"upper.refresh":    s.upperRefresh,
		"upper.remove":     s.upperRemove,
		"push.send":        s.pushSend,
		"push.many":        s.pushMany,
		"push.list":        s.pushList,
		"push.relay":       s.pushRelay,
		"push.status":      s.pushStatus,
		"push.stop":        s.pushStop,
		"push.resume":      s.pushResume,
		"service.load":     s.serviceLoad,
		"service.stats":    s.serviceStats,
		"service.info":     s.serviceInfo,
		"store.backup":     s.storeBackup,
		"rpc.discover":     s.discover,
	}
}

const maxHold = time.Hour // limit for what a node may send; the rules shorten it

func (s *Server) bindingRegister(ctx context.Context, p *params) (any, error) {
	req := wake.RegisterParams{
		Node: p.str("node"), AOR: p.str("aor"), Contact: p.str("contact"), CallID: p.str("call_id"),
		CSeq:    uint32(p.number("cseq", 0, 0, math.MaxUint32)),
		Expires: int(p.number("expires", -1, -1, math.MaxUint32)),
		Headers: p.stringMap("headers"), Source: p.str("source"), UserAgent: p.str("user_agent"),
	}
	above := p.stringMap("upper")
	if p.err != nil {
		return nil, p.err
	}
	r, err := s.service.Register(ctx, req)
	if err != nil {
		return nil, err
	}
	if above != nil {
		if err := s.registerUpper(ctx, req, above, r.Sleeps); err != nil {
			return nil, err
		}
	}
	if r.FeatureCaps == nil {
		r.FeatureCaps = []string{}
	}
	return registerResult(r), nil
}

func (s *Server) bindingRejected(ctx context.Context, p *params) (any, error) {
	req := wake.RejectedParams{Node: p.str("node"), AOR: p.str("aor"), Contact: p.str("contact"), Headers: p.stringMap("headers")}
	if p.err != nil {
		return nil, p.err
	}
	n, err := s.service.Rejected(ctx, req)
	if err != nil {
		return nil, err
	}
	return struct {
		Counted int `json:"counted"`
	}{n}, nil
}

// binding is a binding as operators see it, with a shortened token.
type binding struct {
	AOR         string              `json:"aor"`
	Device      string              `json:"device"`
	Provider    pnparam.Provider    `json:"provider"`
	App         string              `json:"app"`
	Environment pnparam.Environment `json:"environment,omitempty"`
	Tokens      []token             `json:"tokens"`
	Node        string              `json:"node"`
	Source      string              `json:"source"`
	UserAgent   string              `json:"user_agent,omitempty"`
	Registered  time.Time           `json:"registered_at"`
	Expires     time.Time           `json:"expires_at"`
	Created     time.Time           `json:"created_at"`
}

// removal is why a binding was removed.
type removal struct {
	Device   string           `json:"device"`
	Provider pnparam.Provider `json:"provider"`
	App      string           `json:"app"`
	Reason   string           `json:"reason"`
	At       time.Time        `json:"at"`
}

type token struct {
	Service pnparam.Service `json:"service,omitempty"`
	Token   secret.Token    `json:"token"`
}

func (s *Server) bindingList(ctx context.Context, p *params) (any, error) {
	aor, tok := p.str("aor"), secret.NewToken(p.str("token"))
	all, cursor, limit := p.boolean("all"), p.str("cursor"), int(p.number("limit", 500, 1, 1000))
	app, provider, search := p.str("app"), pnparam.Provider(p.str("provider")), strings.ToLower(p.str("search"))
	if p.err != nil {
		return nil, p.err
	}
	var (
		found   []wake.Binding
		next    string
		removed []removal
		err     error
	)
	if all {
		found, next, err = s.allBindings(ctx, p.by, cursor, limit)
	} else if found, err = s.service.Bindings(ctx, aor, tok); err == nil && aor != "" {
		removed, err = s.removals(ctx, p.by.caller().Scope, aor)
	}
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(slices.Clone(found), func(b wake.Binding) bool {
		return !p.by.caller().Scope.Binding(&b) || app != "" && app != b.Address.App || provider != "" && provider != b.Address.Provider || !strings.Contains(b.AOR, search)
	})
	list := make([]binding, len(found))
	for i, b := range found {
		tokens := make([]token, len(b.Address.Tokens))
		for j, t := range b.Address.Tokens {
			tokens[j] = token{t.Service, t.Value}
		}
		list[i] = binding{b.AOR, b.Device, b.Address.Provider, b.Address.App, b.Address.Environment, tokens,
			b.Node, b.Source, b.UserAgent, b.RegisteredAt, b.ExpiresAt, b.CreatedAt}
	}
	return struct {
		Bindings []binding `json:"bindings"`
		Cursor   string    `json:"cursor,omitempty"`
		Removed  []removal `json:"removed,omitempty"`
	}{list, next, removed}, nil
}

func (s *Server) removals(ctx context.Context, scope *wake.Scope, aor string) ([]removal, error) {
	clean, err := wake.CleanAOR(aor)
	if err != nil || !scope.User(clean) {
		return nil, err
	}
	notes, err := s.service.Removals(ctx, clean)
	list := make([]removal, 0, len(notes))
	for _, n := range notes {
		if scope.App(n.App) {
			list = append(list, removal(n))
		}
	}
	return list, err
}

func (s *Server) bindingRemove(ctx context.Context, p *params) (any, error) {
	aor, device, tok := p.str("aor"), p.str("device"), secret.NewToken(p.str("token"))
	if p.err != nil {
		return nil, p.err
	}
	n, err := s.service.RemoveBindings(ctx, p.by.caller(), aor, device, tok)
	if err != nil {
		return nil, err
	}
	return struct {
		Removed int `json:"removed"`
	}{n}, nil
}

func (s *Server) wakeStart(ctx context.Context, p *params) (any, error) {
	req := wake.StartParams{
		Node: p.str("node"), AOR: p.str("aor"), CallID: p.str("call_id"), Call: p.str("call"),
		Kind: push.Kind(p.str("kind")), From: p.str("from"), Display: p.str("display"),
		To: p.str("to"), Headers: p.stringMap("headers"), Media: p.str("media"), Body: p.str("body"), ContentType: p.str("content_type"), Priority: p.str("priority"),
		Instance: p.str("instance"), Contact: p.str("contact"), PURR: p.str("purr"), Source: p.str("source"), Live: p.strings("live"), Again: p.boolean("again"), Ringing: p.strings("ringing"), Hold: p.seconds("hold_s", maxHold),
		TraceParent: p.traceParent,
	}
	if p.err != nil {
		return nil, p.err
	}
	r, err := s.service.Start(ctx, req)
	if err != nil {
		return nil, err
	}
	// Rounded up: a node that stops holding early loses calls.
	return startResult{r.Outcome, r.Devices, int(math.Ceil(r.Hold.Seconds())), r.Cached, r.UUID, r.AOR}, nil
}

func (s *Server) wakeProgress(ctx context.Context, p *params) (any, error) {
	req := wake.ProgressParams{
		Node: p.str("node"), AOR: p.str("aor"), Call: p.str("call"), Contact: p.str("contact"),
	}
	if p.err != nil {
		return nil, p.err
	}
	withheld, err := s.service.Progress(ctx, req)
	if err != nil {
		return nil, err
	}
	return progressResult{withheld}, nil
}

func (s *Server) wakeEnd(ctx context.Context, p *params) (any, error) {
	req := wake.EndParams{
		Node: p.str("node"), AOR: p.str("aor"), Call: p.str("call"),
		Reason: wake.EndReason(p.str("reason")), Code: int(p.number("code", 0, 0, 699)),
	}
	if p.err != nil {
		return nil, p.err
	}
	pending, err := s.service.End(ctx, req)
	if err != nil {
		return nil, err
	}
	return endResult{pending}, nil
}

func (s *Server) serviceLoad(context.Context, *params) (any, error) {
	level, reasons := s.service.Load()
	list := make([]loadReason, len(reasons))
	for i, r := range reasons {
		list[i] = loadReason{r.Name, math.Round(r.Share*1000) / 1000}
	}
	return struct {
		Load    wake.LoadLevel `json:"load"`
		Reasons []loadReason   `json:"reasons"`
	}{level, list}, nil
}

type loadReason struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"` // of its capacity, 0 to 1
}

func (s *Server) serviceStats(context.Context, *params) (any, error) { return s.stats() }

func (s *Server) serviceInfo(context.Context, *params) (any, error) { return s.info(), nil }
