package wake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/pnparam"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/secret"
)

// RegisterParams are the parameters of binding.register: one REGISTER that a
// node accepted, header values as they came.
type RegisterParams struct {
	Node      string
	AOR       string
	Contact   string // raw Contact header
	CallID    string
	CSeq      uint32
	Expires   int               // seconds granted; 0: the registration ended; -1: not said
	Headers   map[string]string // X-MPUSH and its like, raw
	Source    string            // transport:ip:port
	UserAgent string
}

// RegisterResult is the result of binding.register.
type RegisterResult struct {
	Status      Status
	Code        int      // what a node that asks first should answer: 200, 423 or 555
	MinExpires  int      // with 423: the least expiry that is accepted, in seconds
	FeatureCaps []string // values of Feature-Caps headers for the answer (RFC 8599 section 8.1)
	Devices     int
	Wakes       int // how many held requests are being signalled
}

const (
	defaultExpires = 3600 // seconds, where neither node nor Contact says
	maxUserAgent   = 128  // bytes kept
	maxSource      = 64
)

// Register stores what a REGISTER says about push and signals every request
// that is held for its AOR.
func (s *Service) Register(ctx context.Context, p RegisterParams) (RegisterResult, error) {
	if _, err := s.node(p.Node); err != nil {
		return RegisterResult{}, err
	}
	aor, err := cleanAOR(p.AOR)
	if err != nil {
		return RegisterResult{}, err
	}
	if err := checkID("call_id", p.CallID); err != nil {
		return RegisterResult{}, err
	}
	parsed, err := pnparam.Parse(pnparam.Register{Contact: p.Contact, Headers: p.Headers})
	if err != nil {
		if bad := (*pnparam.Error)(nil); errors.As(err, &bad) {
			err = &ParamError{bad.Field, bad.Problem}
		}
		return RegisterResult{}, err
	}

	r := registration(aor, p, parsed)
	res := RegisterResult{Code: 200}
	status, err := s.decide(ctx, parsed, &r, &res)
	if err != nil {
		return RegisterResult{}, err
	}
	if status == ignored {
		return RegisterResult{Status: None, Code: 200}, nil
	}
	began := time.Now()
	stored, err := s.store.Register(ctx, r)
	s.pace.observe(began)
	if err != nil {
		s.registerBack(stored.Wakes, r) // those known here while the store is away
		return RegisterResult{}, err
	}
	res.Status, res.Devices = stored.Status, stored.Devices
	if status != "" && stored.Status != Stale {
		res.Status = status
	}
	s.metrics.registers.WithLabelValues(string(res.Status)).Inc()
	if stored.Status == Removed {
		s.metrics.removed.WithLabelValues(removedUnbind).Inc()
	}
	if !r.Gone {
		for _, t := range r.Address.Tokens {
			s.strikes.forget(t.Value, removedNoAnswer, removedUnrefreshed)
		}
	}
	for _, w := range stored.Wakes {
		s.back(w, r)
		res.Wakes++
	}
	s.moved(ctx, stored.PreviousAORs, r)
	return res, nil
}

// ignored is the status of an un-REGISTER that the app's policy passes over.
const ignored Status = "ignored"

// decide says what a REGISTER's push data does: it sets r's action and what the
// client is told. The status is empty where the store decides.
func (s *Service) decide(ctx context.Context, parsed pnparam.Parsed, r *Registration, res *RegisterResult) (Status, error) {
	cfg := s.settings.Load()
	switch parsed.Intent {
	case pnparam.Query:
		res.FeatureCaps = featureCaps(s.pusher.Providers()...)
		return Queried, nil
	case pnparam.Unbind:
		if err := s.findUnbound(ctx, r, true); err != nil {
			return "", err
		}
		if r.Device != "" { // else there is none, or nobody can tell which
			r.Action = Unbind
		}
		return "", nil
	case pnparam.None:
		if cfg.UnbindWithoutPush && !r.Gone {
			device := r.Device
			if err := s.findUnbound(ctx, r, false); err != nil {
				return "", err
			}
			if r.Action = Unbind; r.Device == "" {
				r.Action, r.Device = Seen, device
			}
		}
		return "", nil
	}
	if !s.pusher.Serves(r.Address.Provider, r.Address.App, r.Address.Environment) {
		if cfg.Reject555 && !r.Gone {
			res.Code = 555
		}
		return Refused, nil
	}
	if r.Gone {
		switch s.pusher.Policy(r.Address.Provider, r.Address.App, r.Address.Environment).Unregister {
		case push.UnregisterRemove:
			r.Action = Unbind
			return "", nil
		case push.UnregisterIgnore:
			return ignored, nil
		}
	}
	r.Action = Bind
	if left := r.ExpiresAt.Sub(r.RegisteredAt); !r.Gone && left < cfg.MinExpires {
		r.Action, res.Code, res.MinExpires = Seen, 423, int(cfg.MinExpires.Seconds())
		return Refused, nil
	}
	res.FeatureCaps = featureCaps(r.Address.Provider)
	if parsed.PNSReg && cfg.Refresh.Enabled {
		res.FeatureCaps[0] += fmt.Sprintf(`;+sip.pnsreg="%.0f"`, cfg.Refresh.Before.Seconds())
	}
	return "", nil
}

func registration(aor string, p RegisterParams, parsed pnparam.Parsed) Registration {
	expires := p.Expires
	if expires < 0 {
		expires = parsed.Expires
	}
	if expires < 0 {
		expires = defaultExpires
	}
	now := time.Now()
	until := now.Add(time.Duration(expires) * time.Second)
	if expires == 0 {
		until = time.Time{} // not registered, as opposed to a registration that ran out
	}
	return Registration{
		Binding: Binding{
			AOR: aor, Device: parsed.Device, Address: parsed.Address, Contact: parsed.Contact,
			CallID: p.CallID, CSeq: p.CSeq, Node: p.Node,
			Source: p.Source[:min(len(p.Source), maxSource)], UserAgent: p.UserAgent[:min(len(p.UserAgent), maxUserAgent)],
			RegisteredAt: now, ExpiresAt: until,
		},
		Gone: expires == 0,
	}
}

// featureCaps returns a Feature-Caps value for each provider (RFC 8599 section 10).
func featureCaps(providers ...pnparam.Provider) []string {
	caps := make([]string, len(providers))
	for i, p := range providers {
		caps[i] = `*;+sip.pns="` + string(p) + `"`
	}
	return caps
}

// findUnbound names the device that a REGISTER without a token means. Unless its
// instance is known it is the device with the same registration or, if asked
// for, the only one. The device is left as it is, or empty without onlyOne, if
// there is none.
func (s *Service) findUnbound(ctx context.Context, r *Registration, onlyOne bool) error {
	bindings, err := s.store.Bindings(ctx, Query{AOR: r.AOR})
	if errors.Is(err, ErrUnavailable) && r.Device != "" {
		return nil // Register fails too, but the REGISTER is kept for later
	}
	if err != nil {
		return err
	}
	for _, b := range bindings {
		if b.Device == r.Device {
			return nil
		}
	}
	for _, b := range bindings {
		if b.CallID == r.CallID || b.Contact == r.Contact {
			r.Device = b.Device
			return nil
		}
	}
	switch {
	case !onlyOne:
		r.Device = ""
	case len(bindings) == 1:
		r.Device = bindings[0].Device
	}
	return nil
}

// back acts on a device that registered while w is held.
func (s *Service) back(w Wake, r Registration) {
	s.traces.start(w) // of another instance's wake this is its own part
	s.traces.add(w, r.RegisteredAt, eventRegistered, r.Device, r.Source)
	if r.Action == Bind {
		s.metrics.woken.WithLabelValues(string(r.Address.Provider)).Observe(r.RegisteredAt.Sub(w.StartedAt).Seconds())
	}
	s.signal(w, r)
}

// moved removes the bindings that r's tokens have under other AORs, as far as their
// registration has ended or run out: the app has gone from that account to this one.
// One that is registered stays, for a phone may have several accounts. A failure
// leaves the old binding, whose next REGISTER or push tells.
func (s *Service) moved(ctx context.Context, previous []string, r Registration) {
	for _, aor := range previous {
		for _, t := range r.Address.Tokens {
			removal := Removal{AOR: aor, Token: t.Value, NotAfter: r.RegisteredAt, Unregistered: true}
			if _, err := s.remove(ctx, removal, removedMoved); err != nil {
				s.log.Warn("cannot remove binding of the previous account", "aor", aor, "err", err)
			}
		}
	}
}

// remove removes bindings, or a token of them, and returns how many bindings went.
func (s *Service) remove(ctx context.Context, r Removal, reason string) (int, error) {
	r.Reason = reason
	res, err := s.store.Remove(ctx, r)
	if err != nil {
		return 0, err
	}
	if res.Bindings > 0 {
		s.metrics.removed.WithLabelValues(reason).Add(float64(res.Bindings))
		s.log.Info("binding removed", "aor", r.AOR, "device", r.Device, "token", r.Token, "reason", reason, "bindings", res.Bindings)
	}
	if res.Tokens > 0 {
		s.log.Info("token removed, the device has another one", "aor", r.AOR, "device", r.Device, "token", r.Token, "reason", reason)
	}
	return res.Bindings, nil
}

// Bindings returns the bindings of an AOR, or those with the token; exactly
// one of the two is given.
func (s *Service) Bindings(ctx context.Context, aor string, token secret.Token) ([]Binding, error) {
	if aor == "" && !token.Empty() {
		return s.store.Bindings(ctx, Query{Token: token})
	}
	aor, err := cleanAOR(aor)
	if err != nil {
		return nil, err
	}
	return s.store.Bindings(ctx, Query{AOR: aor})
}

// RemoveBindings removes bindings on an operator's word: those of an AOR,
// limited to a device or a token if given, or those with the token anywhere.
func (s *Service) RemoveBindings(ctx context.Context, aor, device string, token secret.Token) (int, error) {
	if aor != "" || token.Empty() {
		aor, err := cleanAOR(aor)
		if err != nil {
			return 0, err
		}
		return s.remove(ctx, Removal{AOR: aor, Device: device, Token: token}, removedOperator)
	}
	bindings, err := s.store.Bindings(ctx, Query{Token: token})
	if err != nil {
		return 0, err
	}
	total := 0
	for _, b := range bindings {
		n, err := s.remove(ctx, Removal{AOR: b.AOR, Device: b.Device, Token: token}, removedOperator)
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}
