package rpc

import (
	"context"
	"strings"
	"time"

	"github.com/sipwake/sipwake/secret"
	"github.com/sipwake/sipwake/upper"
	"github.com/sipwake/sipwake/wake"
)

// maxGranted bounds what a PBX can grant.
const maxGranted = 30 * 24 * 60 * 60 // seconds

// upperRegistration reads the parameter upper of binding.register: what the PBX behind a
// gateway granted.
func (p *params) upperRegistration() (r upper.Registration, ok bool) {
	v := p.get("upper")
	if v == nil {
		return r, false
	}
	u := newParams(v)
	r = upper.Registration{Server: u.str("server"), URI: u.str("uri"), To: u.str("to"), User: u.str("user"), Realm: u.str("realm"),
		Granted: time.Duration(u.number("granted", 0, 0, maxGranted)) * time.Second}
	if u.err != nil {
		p.fail("upper", "has a field of the wrong type, or is no object")
	}
	return r, true
}

func (s *Server) registerUpper(ctx context.Context, req wake.RegisterParams, r upper.Registration) error {
	aor, err := wake.CleanAOR(req.AOR)
	if err != nil {
		return err
	}
	r.AOR, r.Node = aor, req.Node
	ha1 := ""
	for name, value := range req.Headers {
		if strings.EqualFold(name, "X-PIID") {
			ha1 = strings.TrimSpace(value)
		}
	}
	return s.upper.Register(ctx, upper.Registered{Registration: r, HA1: secret.NewText(ha1)})
}

func (s *Server) upperResult(ctx context.Context, p *params) (any, error) {
	r := upper.Result{Node: p.str("node"), AOR: p.str("aor"), Key: p.str("call"), Code: int(p.number("code", 408, 100, 699)),
		Granted: int(p.number("granted", 0, -1, maxGranted)), Headers: strings.Split(p.str("headers"), "\r\n")}
	if p.err != nil {
		return nil, p.err
	}
	return struct{}{}, s.upper.Result(ctx, r)
}

// upperShown is what operators see of a registration.
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
	var (
		found []upper.Registration
		next  string
		err   error
	)
	if aor == "" {
		found, next, err = s.upper.List(ctx, cursor, limit)
	} else if aor, err = wake.CleanAOR(aor); err == nil {
		var one upper.Registration
		var ok bool
		if one, ok, err = s.upper.Find(ctx, aor); ok {
			found = append(found, one)
		}
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

func (s *Server) upperRefresh(ctx context.Context, p *params) (any, error) {
	return s.forUpper(ctx, p, s.upper.Refresh)
}

func (s *Server) upperRemove(ctx context.Context, p *params) (any, error) {
	return s.forUpper(ctx, p, s.upper.Remove)
}

// forUpper does something to the registration of one user.
func (s *Server) forUpper(ctx context.Context, p *params, do func(context.Context, string) (bool, error)) (any, error) {
	aor := p.str("aor")
	if p.err != nil {
		return nil, p.err
	}
	aor, err := wake.CleanAOR(aor)
	if err != nil {
		return nil, err
	}
	found, err := do(ctx, aor)
	if err != nil {
		return nil, err
	}
	return struct {
		Found bool `json:"found"`
	}{found}, nil
}
