package rpc

import (
	"context"
	_ "embed"
	"encoding/json"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

// bulkDeadline is the minimum deadline of the revealing methods: they transfer many
// bindings at once, and no proxy waits for them.
const bulkDeadline = 8 * time.Second

// revealing reports whether a method always needs a token or a certificate, whatever
// the caller's address. Only binding.export shows push tokens. binding.import can set
// a Contact and so hijack calls. A backup uses disk space.
func revealing(method string) bool {
	return method == "binding.export" || method == "binding.import" || method == "store.backup"
}

// backupDeadline limits the time of a backup, which may be some gigabytes.
const backupDeadline = 2 * time.Minute

// storeBackup makes the embedded store write a backup beside its file.
func (s *Server) storeBackup(ctx context.Context, p *params) (any, error) {
	if p.err != nil {
		return nil, p.err
	}
	if s.backup == nil {
		return nil, &rpcError{Code: codeNoMethod, Message: "method not found: this store is Redis; keep its own snapshots"}
	}
	file, size, err := s.backup(ctx)
	if err != nil {
		return nil, err
	}
	return struct {
		File  string `json:"file"`
		Bytes int64  `json:"bytes"`
	}{file, size}, nil
}

// needsProof is the error for such callers if no tokens or certificates are configured.
const needsProof = "not authorised: this method is for callers that show a token, on this machine too: " +
	"write one into a file, name the file in rpc.token_files, give the token to the proxies (SIPWAKE_TOKEN), and reload"

// exported is a binding as binding.export returns it and binding.import accepts it. It
// has everything that is stored, including tokens and keys.
type exported struct {
	AOR         string              `json:"aor"`
	Device      string              `json:"device"`
	Provider    pnparam.Provider    `json:"provider"`
	App         string              `json:"app,omitempty"`
	Team        string              `json:"team,omitempty"`
	Environment pnparam.Environment `json:"environment,omitempty"`
	Tokens      []exportedToken     `json:"tokens"`
	NoCalls     bool                `json:"no_calls,omitempty"`
	NoMessages  bool                `json:"no_messages,omitempty"`
	P256dh      string              `json:"p256dh,omitempty"`
	Auth        string              `json:"auth,omitempty"`
	Contact     string              `json:"contact"`
	CallID      string              `json:"call_id"`
	CSeq        uint32              `json:"cseq"`
	Node        string              `json:"node"`
	Source      string              `json:"source,omitempty"`
	UserAgent   string              `json:"user_agent,omitempty"`
	Registered  time.Time           `json:"registered_at"`
	Expires     time.Time           `json:"expires_at,omitzero"`
	Created     time.Time           `json:"created_at,omitzero"`
}

type exportedToken struct {
	Service pnparam.Service `json:"service,omitempty"`
	Token   string          `json:"token"`
}

func newExported(b wake.Binding) exported {
	a := b.Address
	e := exported{b.AOR, b.Device, a.Provider, a.App, a.Team, a.Environment, make([]exportedToken, len(a.Tokens)),
		a.Denied.Calls, a.Denied.Messages, "", "", b.Contact, b.CallID, b.CSeq, b.Node, b.Source, b.UserAgent,
		b.RegisteredAt, b.ExpiresAt, b.CreatedAt}
	for i, t := range a.Tokens {
		e.Tokens[i] = exportedToken{t.Service, t.Value.Reveal()}
	}
	if a.Keys != nil {
		e.P256dh, e.Auth = a.Keys.P256dh.Reveal(), a.Keys.Auth.Reveal()
	}
	return e
}

func (e *exported) binding() wake.Binding {
	a := pnparam.Address{Provider: e.Provider, App: e.App, Team: e.Team, Environment: e.Environment,
		Denied: pnparam.Denied{Calls: e.NoCalls, Messages: e.NoMessages}}
	for _, t := range e.Tokens {
		a.Tokens = append(a.Tokens, pnparam.Token{Service: t.Service, Value: secret.NewToken(t.Token)})
	}
	if e.P256dh != "" {
		a.Keys = &pnparam.WebPushKeys{P256dh: secret.NewToken(e.P256dh), Auth: secret.NewToken(e.Auth)}
	}
	return wake.Binding{AOR: e.AOR, Device: e.Device, Address: a, Contact: e.Contact, CallID: e.CallID, CSeq: e.CSeq,
		Node: e.Node, Source: e.Source, UserAgent: e.UserAgent, RegisteredAt: e.Registered, ExpiresAt: e.Expires, CreatedAt: e.Created}
}

func (s *Server) bindingExport(ctx context.Context, p *params) (any, error) {
	cursor, limit := p.str("cursor"), int(p.number("limit", 500, 1, 1000))
	if p.err != nil {
		return nil, p.err
	}
	found, next, err := s.allBindings(ctx, p.by, cursor, limit)
	if err != nil {
		return nil, err
	}
	list := make([]exported, len(found))
	for i, b := range found {
		list[i] = newExported(b)
	}
	return struct {
		Bindings []exported `json:"bindings"`
		Cursor   string     `json:"cursor,omitempty"`
	}{list, next}, nil
}

// allBindings returns what it finds within half of the deadline, so that a slow page
// is a short one instead of an error.
func (s *Server) allBindings(ctx context.Context, by *tenant, cursor string, limit int) ([]wake.Binding, string, error) {
	half, cancel := context.WithTimeout(ctx, s.settings.Load().Deadline/2)
	defer cancel()
	return s.service.AllBindings(half, by.caller(), cursor, limit)
}

// maxImport is how many bindings one binding.import accepts.
const maxImport = 100

func (s *Server) bindingImport(ctx context.Context, p *params) (any, error) {
	v := p.get("bindings")
	var list []exported
	switch {
	case p.err != nil:
		return nil, p.err
	case v == nil:
		p.fail("bindings", "is missing")
	case json.Unmarshal(appendValue(nil, v), &list) != nil: // its error may quote a token
		p.fail("bindings", "is not a list of bindings as binding.export returns them")
	case len(list) > maxImport:
		p.fail("bindings", "holds more than 100")
	}
	if p.err != nil {
		return nil, p.err
	}
	bindings := make([]wake.Binding, len(list))
	for i := range list {
		bindings[i] = list[i].binding()
	}
	stored, err := s.service.Import(ctx, bindings)
	if err != nil {
		return nil, err
	}
	return struct {
		Stored int `json:"stored"`
	}{stored}, nil
}

//go:embed openrpc.json
var openRPC []byte

func (s *Server) discover(context.Context, *params) (any, error) {
	return json.RawMessage(openRPC), nil
}
