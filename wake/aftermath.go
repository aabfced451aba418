package wake

import (
	"time"

	"github.com/sipwake/sipwake/push"
)

// What follows the end of a call: devices that were woken for nothing are told
// (seed rows C3, P2), and failures are counted against bindings (strikes.go).

// cancelTTL is how long the news that a call is over is worth delivering.
const cancelTTL = 30 * time.Second

// missedTTL is how long the news of a missed call is.
const missedTTL = 24 * time.Hour

// aftermath acts on a call that has ended.
func (s *Service) aftermath(cl *call, reason EndReason) {
	if reason == Failed {
		s.strikeFailed(cl)
	}
	if reason != Answered {
		s.strikeUnanswered(cl)
	}
	if cl.wake.Kind != push.Call {
		return
	}
	cl.over(reason)
	cl.each(func(d *device) {
		s.tellCancelled(cl, d)
		policy := s.policy(d)
		if policy.MissedCall && reason != Answered && reason != Declined {
			s.tell(cl, d.binding, push.Custom, missedCall(cl.values), missedTTL, policy)
		}
	})
}

// tellCancelled sends the device a cancel push if its app wants one, once. The
// caller holds the call's lock.
func (s *Service) tellCancelled(cl *call, d *device) {
	policy := s.policy(d)
	if cl.wake.Kind == push.Call && !d.told && tellCancel(policy.Cancel, d, cl.reason) {
		d.told = true
		s.tell(cl, d.binding, push.Cancel, cl.values, cancelTTL, policy)
	}
}

func (s *Service) policy(d *device) push.Policy {
	a := d.binding.Address
	return s.pusher.Policy(a.Provider, a.App, a.Environment)
}

// tellCancel tells whether the device gets a cancel push. One that is back hears
// it from SIP.
func tellCancel(rule push.CancelRule, d *device, reason EndReason) bool {
	switch rule {
	case push.CancelUnanswered:
		return d.accepted && d.state != back && reason != Answered
	case push.CancelPushed:
		return d.accepted && d.state != back
	case push.CancelAlways:
		return true
	}
	return false
}

func missedCall(v push.Values) push.Values {
	who := v.Display
	if who == "" {
		who = v.User
	}
	v.Title, v.Body = "Missed call", who
	return v
}

// tell sends a push that belongs to a call which is over. A device without a
// token for it (an iPhone with a voip token only) learns it from SIP.
func (s *Service) tell(cl *call, b Binding, k push.Kind, v push.Values, ttl time.Duration, policy push.Policy) {
	req, reason := s.request(b, k, v, time.Now().Add(ttl), policy)
	if reason != "" {
		return
	}
	s.traces.add(cl.wake, time.Now(), eventPushing, b.Device, string(k))
	s.pusher.Push(s.ctx, req, func(o push.Outcome) {
		if o.Reason == push.Accepted {
			s.traces.add(cl.wake, time.Now(), eventAccepted, b.Device, string(k))
		} else {
			s.traces.add(cl.wake, time.Now(), eventPushFailed, b.Device, failure(o))
		}
		s.judge(b, req, o)
	})
}
