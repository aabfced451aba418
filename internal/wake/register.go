package wake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// RegisterParams are the parameters of binding.register: one REGISTER that a node
// accepted, with header values as received.
type RegisterParams struct {
	Node      string
	AOR       string
	Contact   string // raw Contact header
	CallID    string
	CSeq      uint32
	Expires   int               // seconds granted; 0: the registration ended; -1: unknown
	Headers   map[string]string // X-MPUSH and the like, raw
	Source    string            // transport:ip:port
	UserAgent string
}

// RegisterResult is the result of binding.register.
type RegisterResult struct {
	Status      Status
	Code        int      // for a node that asks first, the status to answer: 200, 423 or 555
	MinExpires  int      // with 423: the minimum accepted expiry, in seconds
	FeatureCaps []string // Feature-Caps header values for the answer (RFC 8599 section 8.1)
	Devices     int
	Wakes       int // number of held requests being signalled
	// Sleeps reports whether the contact is bound and will be pushed from now on.
	Sleeps bool
	// Contact is the Contact header value to save; empty if unchanged.
	Contact string
	// Problem names the header with unusable push data and the reason, without
	// quoting values. Only with StatusRefused.
	Problem string
}

const (
	defaultExpires = 3600 // seconds, if neither node nor Contact says
	maxUserAgent   = 128  // bytes kept
	maxSource      = 64
)

// Register stores a REGISTER's push data and signals every request held for its AOR.
// It signals even if the push data cannot be read, because the phone is reachable
// anyway.
func (s *Service) Register(ctx context.Context, p RegisterParams) (RegisterResult, error) {
	if _, err := s.node(p.Node); err != nil {
		return RegisterResult{}, err
	}
	aor, err := CleanAOR(p.AOR)
	if err != nil {
		return RegisterResult{}, err
	}
	if err := CheckID("call_id", p.CallID); err != nil {
		return RegisterResult{}, err
	}
	headers := pnparam.Register{Contact: p.Contact, Headers: p.Headers}
	parsed, problem := pnparam.Parse(headers)
	if bad := (*pnparam.Error)(nil); errors.As(problem, &bad) && bad.Field == "contact" && parsed.Contact == "" {
		return RegisterResult{}, &ParamError{bad.Field, bad.Problem} // not a Contact header at all
	}

	r := registration(aor, p, parsed)
	res := RegisterResult{Code: 200, Contact: pnparam.Saved(headers, parsed, aor)}
	var status Status
	if problem != nil {
		status, res.Problem = StatusRefused, problem.Error()
	} else if status, err = s.decide(ctx, parsed, &r, &res); err != nil {
		return RegisterResult{}, err
	}
	if res.Problem != "" {
		s.log.Debug("push data is not used", "aor", aor, "call_id", p.CallID, "problem", res.Problem)
	}
	if status == ignored {
		res.Status = StatusNone
		return res, nil
	}
	began := time.Now()
	stored, err := s.store.Register(ctx, r)
	s.latency.observe(began)
	if err != nil {
		s.registerBack(stored.Wakes, r) // those known here while the store is away
		return RegisterResult{}, err
	}
	res.Status, res.Devices = stored.Status, stored.Devices
	if status != "" && stored.Status != StatusStale {
		res.Status = status
	}
	res.Sleeps = r.Action == ActionBind && !r.Gone && res.Status != StatusNone
	if r.Action == ActionBind && !res.Sleeps {
		res.FeatureCaps = nil
	}
	s.metrics.registered[res.Status].Inc()
	if stored.Status == StatusRemoved {
		s.metrics.removed.WithLabelValues(removedUnbind).Inc()
	}
	if !r.Gone {
		for _, t := range r.Address.Tokens {
			s.failures.Forget(tokenFailure{t.Value, removedNoAnswer}, tokenFailure{t.Value, removedUnrefreshed},
				tokenFailure{t.Value, removedRegister})
		}
	}
	res.Wakes = s.registerBack(stored.Wakes, r)
	if stored.Status != StatusStale {
		s.cameLate(&r)
	}
	s.moved(ctx, stored.PreviousAORs, r)
	return res, nil
}

// ignored is the status of an un-REGISTER that the app's policy ignores.
const ignored Status = "ignored"

// decide determines the effect of a REGISTER's push data: it sets r's action and
// what the client is told. The status is empty if the store decides it.
func (s *Service) decide(ctx context.Context, parsed pnparam.Parsed, r *Registration, res *RegisterResult) (Status, error) {
	cfg := s.settings.Load()
	switch parsed.Intent {
	case pnparam.Query:
		res.FeatureCaps = s.featureCaps(parsed.Asked, parsed.AskedApp)
		if len(res.FeatureCaps) == 0 && cfg.Reject555 && !r.Gone {
			return s.unserved(r, res), nil
		}
		return StatusQueried, nil
	case pnparam.Unbind:
		if err := s.findUnbound(ctx, r, true); err != nil {
			return "", err
		}
		if r.Device != "" { // otherwise there is none, or it cannot be identified
			r.Action = ActionUnbind
		}
		return "", nil
	case pnparam.None:
		if r.Gone {
			return s.left(ctx, r)
		}
		if cfg.UnbindWithoutPush {
			device := r.Device
			if err := s.findUnbound(ctx, r, false); err != nil {
				return "", err
			}
			if r.Action = ActionUnbind; r.Device == "" {
				r.Action, r.Device = ActionSeen, device
			}
		}
		return "", nil
	}
	if _, ok := s.pusher.App(r.Address.Provider, r.Address.App, r.Address.Environment); !ok {
		return s.unserved(r, res), nil
	}
	policy := s.pusher.Policy(r.Address.Provider, r.Address.App, r.Address.Environment)
	if !r.Gone && !policy.Binds(r.Source) {
		res.Problem = "the app's policy wants no bindings over this transport"
		return StatusNone, nil
	}
	if r.Gone {
		switch policy.Unregister {
		case push.UnregisterRemove:
			r.Action = ActionUnbind
			return "", nil
		case push.UnregisterIgnore:
			return ignored, nil
		}
	}
	r.Action = ActionBind
	if left := r.ExpiresAt.Sub(r.RegisteredAt); !r.Gone && left < cfg.MinExpires {
		r.Action, res.Code, res.MinExpires = ActionSeen, 423, int(cfg.MinExpires.Seconds())
		res.Problem = "the registration is shorter than wake.min_expires"
		return StatusRefused, nil
	}
	res.FeatureCaps = s.featureCaps(r.Address.Provider, r.Address.App)
	if len(res.FeatureCaps) == 0 {
		return "", nil
	}
	if parsed.PNSReg && cfg.Refresh.Enabled {
		res.FeatureCaps[0] += fmt.Sprintf(`;+sip.pnsreg="%.0f"`, cfg.Refresh.Before.Seconds())
	}
	if purr := cfg.purrs.of(r.AOR, r.Device, r.RegisteredAt); purr != "" {
		res.FeatureCaps[0] += `;+sip.pnspurr="` + purr + `"`
	}
	return "", nil
}

// unserved refuses push data for a service or app that is not configured.
func (s *Service) unserved(r *Registration, res *RegisterResult) Status {
	if s.settings.Load().Reject555 && !r.Gone {
		res.Code = 555
	}
	res.Problem = "the push service or the app is not served here"
	return StatusRefused
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
		until = time.Time{} // not registered, as opposed to an expired registration
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

// featureCaps returns a Feature-Caps value for the provider, or one for each
// provider if none is named (RFC 8599 section 10). It includes the key with which a
// browser subscribes for this app.
func (s *Service) featureCaps(provider pnparam.Provider, app string) []string {
	var caps []string
	for _, o := range s.pusher.Offers(app) {
		// Acrobits apps report by HTTP: no REGISTER can ask for that.
		if provider != "" && provider != o.Provider || o.Provider == pnparam.Acrobits {
			continue
		}
		value := `*;+sip.pns="` + string(o.Provider) + `"`
		if o.VAPID != "" {
			value += `;+sip.vapid="` + o.VAPID + `"`
		}
		caps = append(caps, value)
	}
	return caps
}

// left applies the apps' policies to a registration that ended without push data:
// that of the same device or, with "Contact: *", those of all devices (RFC 3261
// section 10.2.2). The status is ignored if all policies ignore it.
func (s *Service) left(ctx context.Context, r *Registration) (Status, error) {
	bindings, err := s.store.Bindings(ctx, Query{AOR: r.AOR})
	if err != nil {
		if errors.Is(err, ErrUnavailable) {
			err = nil // Register fails too, but the REGISTER is kept for later
		}
		return "", err
	}
	mine, passedOver := 0, 0
	for i := range bindings {
		b := &bindings[i]
		if r.Contact != "" && b.Device != r.Device && b.CallID != r.CallID && b.Contact != r.Contact {
			continue
		}
		mine++
		switch s.policy(b).Unregister {
		case push.UnregisterRemove:
			if _, err := s.remove(ctx, Removal{AOR: r.AOR, Device: b.Device, NotAfter: r.RegisteredAt}, removedUnbind); err != nil {
				return "", err
			}
		case push.UnregisterIgnore:
			passedOver++
		}
	}
	if mine > 0 && passedOver == mine {
		return ignored, nil
	}
	return "", nil
}

// findUnbound sets r's device for a REGISTER without a token. If its instance is not
// known, this is the device with the same registration or, with onlyOne, the user's
// only device. If there is none, the device is left unchanged, or emptied without
// onlyOne.
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

// back handles a device that registered while w is held.
func (s *Service) back(w Wake, r Registration) {
	s.traces.Begin(w.head()) // for another instance's wake, the trace holds our part only
	s.traces.Add(w.ID, trace.Event{At: r.RegisteredAt, Name: trace.Registered, Device: r.Device, Detail: r.Source})
	if r.Action == ActionBind {
		s.metrics.observeWoken(s.labels(r.Address), &w, &r)
	}
	if cl := s.calls.get(w.key()); cl != nil {
		cl.setRegistered(r.key())
	} else {
		s.publish(w, EventRegistered, r.key())
	}
	s.signal(&w, &r, true)
}

// moved removes bindings of r's tokens under other AORs whose registration was ended
// or has expired: the app has moved from that account to this one. Registered ones
// stay, because a phone may have several accounts. On failure the old binding stays
// until its next REGISTER or push.
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

// Replayed handles a REGISTER that the store accepted late. It signals the nodes
// that were already holding a request when the REGISTER came.
func (s *Service) Replayed(ctx context.Context, r Registration, stored Registered) {
	s.registerBack(stored.Wakes, r)
	if stored.Status == StatusRemoved {
		s.metrics.removed.WithLabelValues(removedUnbind).Inc()
	}
	// The phone may have moved from this account to one of those since.
	for _, aor := range stored.PreviousAORs {
		list, err := s.store.Bindings(ctx, Query{AOR: aor})
		if err != nil {
			s.log.Warn("cannot read bindings of the other account", "aor", aor, "err", err)
			return
		}
		for _, b := range list {
			if b.RegisteredAt.After(r.RegisteredAt) && slices.ContainsFunc(r.Address.Tokens, func(t pnparam.Token) bool { return b.has(t.Value) }) {
				s.moved(ctx, []string{r.AOR}, r)
			}
		}
	}
	s.moved(ctx, stored.PreviousAORs, r)
}

// registerBack signals every node that holds one of the wakes for the device, and
// returns their number.
func (s *Service) registerBack(wakes []Wake, r Registration) (n int) {
	for _, w := range wakes {
		if w.Means(r.Device) {
			s.back(w, r)
			n++
		}
	}
	return n
}

func (b Binding) has(token secret.Token) bool {
	return slices.ContainsFunc(b.Address.Tokens, func(t pnparam.Token) bool { return t.Value == token })
}
