package wake

import (
	"context"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/sipuri"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// DevicePush is one push to one device.
type DevicePush struct {
	Binding  Binding
	Kind     push.Kind
	Values   push.Values
	Deadline time.Time // as in push.Request
	TryUntil time.Time // as in push.Request
}

// Push sends a push that belongs to no call, unless the device has no token for its
// kind, or the app or the client does not want it. It never blocks. It calls done
// once, from any goroutine, and acts on what the outcome says about the device's
// token. If Values has no User, it is derived from From.
func (s *Service) Push(p DevicePush, done func(push.Outcome)) {
	if p.Values.User == "" && p.Values.From != "" {
		p.Values.User = sipuri.Dial(p.Values.From)
	}
	req, reason := s.requestFor(&p)
	if reason != "" {
		done(push.Outcome{Reply: push.Reply{Reason: reason}})
		return
	}
	s.send(s.ctx, &p.Binding, req, done)
}

// send sends a push to the device of b; b must not change afterwards.
func (s *Service) send(ctx context.Context, b *Binding, req push.Request, done func(push.Outcome)) {
	token := req.Token
	s.pusher.Push(ctx, req, func(o push.Outcome) {
		s.applyOutcome(b, token, o)
		done(o)
	})
}

// attempt is the immediate result of a push.
type attempt int

const (
	pushRefused attempt = iota
	pushShed            // not sent because of the load
	pushDelayed         // sent unless the device proves to be awake first
	pushSent            // queued
)

// pushForCall queues the push of a device for the call.
func (s *Service) pushForCall(cl *call, b *Binding) attempt {
	if !s.mayPush(cl) {
		s.follow(cl, cl.setUnreachable(b.Device))
		return pushShed
	}
	req, reason := s.request(b, cl.wake.Kind, cl.wake.Urgent)
	req.Values, req.Deadline = cl.wake.values(), cl.wake.Deadline
	if reason != "" {
		s.pushed(cl, b, push.Outcome{Reply: push.Reply{Reason: reason}})
		if reason == push.ByPolicy {
			return pushShed
		}
		return pushRefused
	}
	cl.pushEvent(trace.Pushing, b, "", push.Outcome{})
	s.send(cl.ctx, b, req, func(o push.Outcome) { s.pushed(cl, b, o) })
	switch cl.refusal(b.Device) {
	case "":
		return pushSent
	case push.QueueFull:
		return pushShed
	}
	return pushRefused
}

// pushed handles the outcome of one device's push for a call.
func (s *Service) pushed(cl *call, b *Binding, o push.Outcome) {
	cl.pushEnded(b.Device, o.Reason)
	if o.Reason == push.Accepted {
		cl.pushEvent(trace.Accepted, b, "", o)
		if ended := cl.accept(b.Device); ended {
			s.tellEnd(cl, cl.endReason(), b.Device) // the call ended during the push
		} else {
			s.alert(cl)
		}
		if s.others != nil {
			s.others.Pushed(cl.wake, b.Device)
		}
		return
	}
	cl.pushEvent(trace.Failed, b, "", o)
	if o.Reason == push.ShutDown && s.others != nil {
		return // the instance that adopts the wake pushes
	}
	if o.Tries == 0 {
		cl.refuse(b.Device, o.Reason)
	}
	s.follow(cl, cl.setUnreachable(b.Device))
}

func failure(o push.Outcome) string {
	if o.Detail == "" {
		return string(o.Reason)
	}
	return string(o.Reason) + ": " + o.Detail
}

func (s *Service) policy(b *Binding) push.Policy {
	return s.pusher.Policy(b.Address.Provider, b.Address.App, b.Address.Environment)
}

// request makes the request for a push. A non-empty reason says why there is none:
// the device has no token for it, or the app's policy or the client forbids it.
func (s *Service) request(b *Binding, k push.Kind, urgent bool) (req push.Request, reason push.Reason) {
	a := &b.Address
	req.Kind, req.Provider, req.App, req.Environment, req.Keys, req.Urgent = k, a.Provider, a.App, a.Environment, a.Keys, urgent
	req.Service, req.Token = TokenFor(*a, k)
	switch {
	case req.Token.Empty():
		return req, push.NoToken
	case denied(a.Denied, k):
		return req, push.Denied
	}
	level := s.level()
	if urgent {
		level = 0
	}
	return req, s.policy(b).Refusal(k, int(level))
}

// requestFor makes the request for a push that belongs to no call.
func (s *Service) requestFor(p *DevicePush) (push.Request, push.Reason) {
	req, reason := s.request(&p.Binding, p.Kind, false)
	req.Values, req.Deadline, req.TryUntil = p.Values, p.Deadline, p.TryUntil
	return req, reason
}

// denied reports whether the client rejects pushes of a kind.
func denied(d pnparam.Denied, k push.Kind) bool {
	switch k {
	case push.Call, push.Cancel:
		return d.Calls
	case push.Chat, push.Custom:
		return d.Messages
	}
	return false
}

// TokenFor returns the device's token for a kind of push, or an empty one if there
// is none. An APNs voip token is only used for a call. Without one, a call goes to
// the remote token as an alert.
func TokenFor(a pnparam.Address, k push.Kind) (pnparam.Service, secret.Token) {
	services := []pnparam.Service{""}
	if a.Provider == pnparam.APNs {
		services = []pnparam.Service{pnparam.Remote}
		if k == push.Call {
			services = []pnparam.Service{pnparam.VoIP, pnparam.Remote}
		}
	}
	for _, svc := range services {
		if t := a.Token(svc); !t.Empty() {
			return svc, t
		}
	}
	return "", secret.Token{}
}

// tokenFailure is the key by which consecutive failures are counted.
type tokenFailure struct {
	token  secret.Token
	reason string // why the binding would be removed
}

// applyOutcome acts on what a push outcome says about its token. A dead token is
// removed at once, a bad one after enough failures. The binding is removed with its
// last token.
func (s *Service) applyOutcome(b *Binding, token secret.Token, o push.Outcome) {
	if b.AOR == "" || o.Starved { // the push service was not asked about the token
		return
	}
	rules := s.settings.Load().Remove
	removal := Removal{AOR: b.AOR, Device: b.Device, Token: token, TokenOnly: true, NotAfter: o.DeadSince}
	switch o.Reason {
	case push.Accepted:
		s.failures.Forget(tokenFailure{token, removedRejected}, tokenFailure{token, removedFailed})
	case push.TokenDead:
		s.removeSoon(removal, removedDead)
	case push.TokenBad:
		if s.failures.Add(tokenFailure{token, removedRejected}, *rules.Rejected) {
			s.removeSoon(removal, removedRejected)
		}
	case push.Unavailable, push.Timeout, push.Throttled, push.BadRequest:
		if s.failures.Add(tokenFailure{token, removedFailed}, rules.Failed) {
			s.removeSoon(removal, removedFailed)
		}
	}
}

// countUnanswered counts a call, once, against the devices whose push was accepted
// but that did not come back.
func (s *Service) countUnanswered(cl *call) {
	// By the platform's rules, a refresh push may arrive late.
	if cl.wake.Kind == push.Refresh || !cl.countOnce() {
		return
	}
	for _, o := range cl.outcomes() {
		if o.accepted && !o.back {
			s.countFailure(o.binding, removedNoAnswer, s.settings.Load().Remove.NoAnswer, o.binding.RegisteredAt)
		}
	}
}

// countFailed counts a failed call against the devices that had come back.
func (s *Service) countFailed(cl *call) {
	for _, o := range cl.outcomes() {
		if o.back {
			// It has registered since the push; what matters is its token.
			s.countFailure(o.binding, removedCallFailed, s.settings.Load().Remove.CallFailed, time.Now())
		}
	}
}

// countFailure counts a failure against every token of the binding. It removes the
// binding when one of them reaches the limit.
func (s *Service) countFailure(b *Binding, reason string, limit int, notAfter time.Time) {
	for _, t := range b.Address.Tokens {
		if s.failures.Add(tokenFailure{t.Value, reason}, limit) {
			s.removeSoon(Removal{AOR: b.AOR, Device: b.Device, Token: t.Value, NotAfter: notAfter}, reason)
		}
	}
}

// removeSoon removes a binding without making the caller wait for the store.
func (s *Service) removeSoon(r Removal, reason string) {
	failed := func(err error) { // the next failure retries this
		s.repeats.Warn("cannot remove binding", "aor", r.AOR, "device", trace.DeviceName(r.Device), "reason", reason, "err", err)
	}
	err := s.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if _, err := s.remove(ctx, r, reason); err != nil {
			failed(err)
		}
	})
	if err != nil {
		failed(err)
	}
}

// storeTimeout bounds store operations that no request waits for.
const storeTimeout = 2 * time.Second

// Serves reports whether an app is configured for the binding.
func (s *Service) Serves(b Binding) bool {
	_, ok := s.pusher.App(b.Address.Provider, b.Address.App, b.Address.Environment)
	return ok
}

// SendTTL is how long an application's push is worth delivering if the request does
// not say.
func (s *Service) SendTTL() time.Duration { return s.settings.Load().SendTTL }
