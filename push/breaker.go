package push

import (
	"errors"
	"log/slog"
	"time"

	"github.com/sony/gobreaker/v2"
)

// breaker disables an app while its service or its credential fails, and enables it
// at the first success. The nil breaker lets everything through.
//
// WebPush apps have none: every token names its own server, chosen by the client, and
// one bad server must not disable all the others.
type breaker struct {
	cb *gobreaker.TwoStepCircuitBreaker[struct{}]
	// credential is set if the last failure was a rejected credential. Only the
	// library's hooks read and write it, under the library's lock.
	credential bool
}

// What a try reports to the breaker; nil means that the service works.
var (
	errRejected = errors.New("credential rejected")
	errFailing  = errors.New("service failing")
	errNothing  = errors.New("says nothing about the service")
)

func newBreaker(limits Limits, log *slog.Logger) *breaker {
	b := &breaker{}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout: limits.BreakerPause,
		IsSuccessful: func(err error) bool {
			b.credential = errors.Is(err, errRejected)
			return err == nil
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNothing) },
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return b.credential || int(c.ConsecutiveFailures) >= limits.BreakerFailures
		},
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch {
			case from == gobreaker.StateClosed:
				cause := Unavailable
				if b.credential {
					cause = Credential
				}
				log.Warn("breaker opened: pushes are refused", "reason", string(cause), "pause", limits.BreakerPause)
			case to == gobreaker.StateClosed:
				log.Warn("breaker closed: pushes are sent again")
			}
		},
	})
	return b
}

// allow asks for one try. If ok, report must be called once.
func (b *breaker) allow() (report func(error), ok bool) {
	if b == nil {
		return func(error) {}, true
	}
	report, err := b.cb.Allow()
	return report, err == nil
}

// open reports whether every push would be refused now.
func (b *breaker) open() bool { return b != nil && b.cb.State() == gobreaker.StateOpen }

// probing reports whether the next result opens or closes the breaker.
func (b *breaker) probing() bool { return b != nil && b.cb.State() == gobreaker.StateHalfOpen }

// state returns the state's name for operators and its metric value.
func (b *breaker) state() (string, float64) {
	if b == nil {
		return "off", 0
	}
	s := b.cb.State()
	return s.String(), float64(s)
}

// verdict is what a try that ended with reply reports to the breaker. budget is the
// time that the try had: a timeout of less than a second says little. An answer about
// one push, token or platform shows that the service works and knows us. An answer
// about the connection shows nothing, nor does a push that was refused without asking
// the service.
func verdict(reply *Reply, budget time.Duration, limits Limits) error {
	switch reply.Reason {
	case Accepted:
		return nil
	case TokenDead, TokenBad, Credential, BadRequest, Unavailable:
	case Timeout:
		if budget < min(time.Second, limits.Timeout) {
			return errNothing
		}
	default: // Throttled, or not sent at all
		return errNothing
	}
	switch reply.about() {
	case AboutCredential:
		return errRejected
	case AboutService:
		return errFailing
	case AboutConnection, "":
		return errNothing
	}
	return nil
}
