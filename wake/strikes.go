package wake

import (
	"context"
	"sync"
	"time"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/secret"
)

// strikes counts failures in a row, by token and rule. It holds what this
// instance saw since it started, and starts anew when it has grown too large: a
// binding goes later then, never sooner.
type strikes struct {
	mu     sync.Mutex
	counts map[strike]int
}

type strike struct {
	token  secret.Token
	reason string
}

const maxStrikes = 100_000

// add counts a failure and tells whether the limit is reached; 0 is no limit.
func (st *strikes) add(k strike, limit int) bool {
	if limit == 0 {
		return false
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.counts == nil || len(st.counts) >= maxStrikes {
		st.counts = make(map[strike]int)
	}
	st.counts[k]++
	if st.counts[k] < limit {
		return false
	}
	delete(st.counts, k)
	return true
}

// forget ends the row.
func (st *strikes) forget(token secret.Token, reasons ...string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, r := range reasons {
		delete(st.counts, strike{token, r})
	}
}

// judge acts on what a push's end says about its token: a dead one goes at once, a
// bad one when it was bad often enough, and the binding with its last token.
func (s *Service) judge(b Binding, req push.Request, o push.Outcome) {
	if b.AOR == "" {
		return
	}
	rules := s.settings.Load().Remove
	removal := Removal{AOR: b.AOR, Device: b.Device, Token: req.Token, TokenOnly: true, NotAfter: o.DeadSince}
	switch o.Reason {
	case push.Accepted:
		s.strikes.forget(req.Token, removedRejected, removedFailed)
	case push.TokenDead:
		s.removeSoon(removal, removedDead)
	case push.TokenBad:
		if s.strikes.add(strike{req.Token, removedRejected}, *rules.Rejected) {
			s.removeSoon(removal, removedRejected)
		}
	case push.Unavailable, push.Timeout, push.Throttled, push.BadRequest:
		if s.strikes.add(strike{req.Token, removedFailed}, rules.Failed) {
			s.removeSoon(removal, removedFailed)
		}
	}
}

// strikeUnanswered counts a call against the devices that took the push and did
// not come back.
func (s *Service) strikeUnanswered(cl *call) {
	limit := s.settings.Load().Remove.NoAnswer
	cl.each(func(d *device) {
		if d.accepted && d.state == waiting {
			s.strikeBinding(d.binding, removedNoAnswer, limit, d.binding.RegisteredAt)
		}
	})
}

// strikeFailed counts a failed call against the devices that had come back.
func (s *Service) strikeFailed(cl *call) {
	limit := s.settings.Load().Remove.CallFailed
	cl.each(func(d *device) {
		if d.state == back {
			// It has registered since it was pushed; its token is what counts.
			s.strikeBinding(d.binding, removedCallFailed, limit, time.Now())
		}
	})
}

func (s *Service) strikeBinding(b Binding, reason string, limit int, notAfter time.Time) {
	for _, t := range b.Address.Tokens {
		if s.strikes.add(strike{t.Value, reason}, limit) {
			s.removeSoon(Removal{AOR: b.AOR, Device: b.Device, Token: t.Value, NotAfter: notAfter}, reason)
		}
	}
}

// removeSoon removes a binding without making the caller wait for the store.
func (s *Service) removeSoon(r Removal, reason string) {
	ok := s.spawn(func() {
		ctx, cancel := context.WithTimeout(s.ctx, storePatience)
		defer cancel()
		if _, err := s.remove(ctx, r, reason); err != nil {
			s.log.Warn("cannot remove binding", "aor", r.AOR, "device", r.Device, "reason", reason, "err", err)
		}
	})
	if !ok { // the next failure will find it again
		s.log.Warn("cannot remove binding", "aor", r.AOR, "device", r.Device, "reason", reason, "err", ErrStopped)
	}
}
