package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

// maxGranted is the longest expiry that a PBX can grant.
const maxGranted = 30 * 24 * 60 * 60 // seconds

const maxServer = 512

// registerUpper processes the parameter upper of binding.register: what the PBX behind a
// gateway granted. An ordinary phone handles its registration itself.
func (s *Server) registerUpper(ctx context.Context, req wake.RegisterParams, v map[string]string, sleeps bool) error {
	granted, err := strconv.ParseUint(v["granted"], 10, 32)
	if err != nil || granted > maxGranted {
		return &wake.ParamError{Field: "upper", Problem: fmt.Sprintf("must have granted, seconds up to %d", maxGranted)}
	}
	if granted > 0 && !sleeps {
		return nil
	}
	aor, err := wake.CleanAOR(req.AOR)
	if err != nil {
		return err
	}
	set, _ := strconv.Atoi(v["set"]) // older gateways do not send it
	r := upper.Registration{AOR: aor, Node: req.Node, Server: v["server"], Set: set, URI: v["uri"], Contact: v["contact"], To: v["to"], User: v["user"], Realm: v["realm"],
		Granted: time.Duration(granted) * time.Second}
	ha1 := ""
	for name, value := range req.Headers {
		if strings.EqualFold(name, "X-PIID") {
			ha1 = strings.TrimSpace(value)
		}
	}
	return s.upper.Register(ctx, upper.Registered{Registration: r, HA1: secret.NewText(ha1)})
}

func (s *Server) upperResult(ctx context.Context, p *params) (any, error) {
	r := upper.Result{Node: p.str("node"), AOR: p.str("aor"), Key: p.str("call"), Server: p.str("server"), Code: int(p.number("code", 408, 100, 699)),
		Granted: int(p.number("granted", 0, -1, maxGranted)), Headers: strings.Split(p.str("headers"), "\r\n")}
	if p.err != nil {
		return nil, p.err
	}
	return struct{}{}, s.upper.Result(ctx, r)
}

// upperReturned returns the request's server again: the node keeps no other record of
// what it reported.
func (s *Server) upperReturned(ctx context.Context, p *params) (any, error) {
	node, server := p.str("node"), p.str("server")
	if server == "" || len(server) > maxServer {
		p.fail("server", fmt.Sprintf("must be the SIP URI of a PBX, up to %d bytes", maxServer))
	}
	if p.err != nil {
		return nil, p.err
	}
	if err := s.upper.Returned(ctx, node, server); errors.Is(err, upper.ErrNode) {
		return nil, &wake.ParamError{Field: "node", Problem: "must be a gateway"}
	} else if err != nil {
		return nil, err
	}
	return struct {
		Server string `json:"server"`
	}{server}, nil
}

// upperShown is a registration as operators see it.
type upperShown struct {
	AOR      string      `json:"aor"`
	Server   string      `json:"server"`
	Node     string      `json:"node"`
	User     string      `json:"user"`
	State    upper.State `json:"state"`
	Why      string      `json:"why,omitempty"`
	Granted  int         `json:"granted_s"`
	LastOK   time.Time   `json:"last_ok_at"`
	Due      time.Time   `json:"due_at"`
	Attempts int         `json:"failed_tries"`
}

func (s *Server) upperList(ctx context.Context, p *params) (any, error) {
	aor, cursor, limit := p.str("aor"), p.str("cursor"), int(p.number("limit", 500, 1, 1000))
	if p.err != nil {
		return nil, p.err
	}
	scope, err := upperScope(p.by)
	if err != nil {
		return nil, err
	}
	var (
		found []upper.Registration
		next  string
	)
	if aor == "" {
		found, next, err = s.allUppers(ctx, p.by, cursor, limit)
	} else if aor, err = wake.CleanAOR(aor); err == nil {
		found, err = s.oneUpper(ctx, scope, aor)
	}
	if err != nil {
		return nil, err
	}
	list := make([]upperShown, len(found))
	for i, u := range found {
		list[i] = upperShown{u.AOR, u.Server, u.Node, u.User, u.State, u.Why, int(u.Granted / time.Second), u.LastOK, u.Due, u.Tries}
	}
	return struct {
		Registrations []upperShown `json:"registrations"`
		Cursor        string       `json:"cursor,omitempty"`
	}{list, next}, nil
}

// upperScope returns the scope for registrations at PBXs. They belong to users, not to
// apps, so a tenant needs domains.
func upperScope(t *tenant) (*wake.Scope, error) {
	scope := t.caller().Scope
	if scope != nil && len(scope.Domains) == 0 {
		return nil, &rpcError{Code: codeNotAllowed, Message: "not allowed: registrations at PBXs belong to users, and this token is that of a tenant without domains"}
	}
	return scope, nil
}

// oneUpper returns the registration of the user, if there is one in the scope.
func (s *Server) oneUpper(ctx context.Context, scope *wake.Scope, aor string) ([]upper.Registration, error) {
	one, found, err := s.upper.Find(ctx, aor)
	if found && err == nil {
		found, err = s.hasUpper(ctx, scope, aor)
	}
	if !found || err != nil {
		return nil, err
	}
	return []upper.Registration{one}, nil
}

// hasUpper reports whether the user's registration is in the scope: the user and all of
// its devices must be. A scope with apps also needs at least one device, which shows
// whose user it is.
func (s *Server) hasUpper(ctx context.Context, scope *wake.Scope, aor string) (bool, error) {
	if scope == nil || !scope.User(aor) || len(scope.Apps) == 0 {
		return scope.User(aor), nil
	}
	devices, err := s.service.Bindings(ctx, aor, secret.Token{})
	others := slices.ContainsFunc(devices, func(b wake.Binding) bool { return !scope.Binding(&b) })
	return len(devices) > 0 && !others, err
}

// upperPage is how many registrations to read at once for a tenant's page: each may
// need a lookup.
const upperPage = 50

// allUppers returns a page of the registrations that the caller may see.
func (s *Server) allUppers(ctx context.Context, by *tenant, cursor string, limit int) (found []upper.Registration, next string, err error) {
	if by == nil {
		return s.upper.List(ctx, cursor, limit)
	}
	if next, err = by.unseal(cursor); err != nil {
		return nil, "", err
	}
	end := time.Now().Add(s.settings.Load().Deadline / 2) // a page is what is found by then
	for first := true; first || next != "" && len(found) < limit && time.Now().Before(end); first = false {
		var some []upper.Registration
		if some, next, err = s.upper.List(ctx, next, min(upperPage, limit-len(found))); err != nil {
			return nil, "", err
		}
		for _, u := range some {
			switch mine, err := s.hasUpper(ctx, by.Scope, u.AOR); {
			case err != nil:
				return nil, "", err
			case mine:
				found = append(found, u)
			}
		}
	}
	return found, by.seal(next), nil
}

func (s *Server) upperRefresh(ctx context.Context, p *params) (any, error) {
	aor := p.str("aor")
	return s.forUpper(ctx, p, aor, s.upper.Refresh)
}

func (s *Server) upperRemove(ctx context.Context, p *params) (any, error) {
	aor := p.str("aor")
	return s.forUpper(ctx, p, aor, s.upper.Remove)
}

// forUpper calls do for the registration of one user. All devices of the user must be in
// the tenant's scope.
func (s *Server) forUpper(ctx context.Context, p *params, aor string, do func(context.Context, string) (bool, error)) (any, error) {
	if p.err != nil {
		return nil, p.err
	}
	aor, err := wake.CleanAOR(aor)
	if err != nil {
		return nil, err
	}
	scope, err := upperScope(p.by)
	if err != nil {
		return nil, err
	}
	found, err := s.hasUpper(ctx, scope, aor)
	if found && err == nil {
		found, err = do(ctx, aor)
	}
	if err != nil {
		return nil, err
	}
	return struct {
		Found bool `json:"found"`
	}{found}, nil
}
