package push

import (
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/deadline"
	"github.com/sipwake/sipwake/internal/pnparam"
)

const (
	backoffBase = 500 * time.Millisecond
	backoffCap  = 30 * time.Second
	callTries   = 2
)

// pause decides whether a push gets another try after tries tries, the last of which
// ended with reply, and how long to wait before it. A call that was starved of a
// local resource is retried while there is time; other kinds must not take such
// resources from calls. now+wait is before the deadline and no earlier than the
// service asked for.
func pause(kind Kind, limits Limits, reply Reply, tries int, now, deadline time.Time) (wait time.Duration, again bool) {
	if reply.Starved && kind == Call {
		return starvedPause, now.Add(starvedPause).Before(deadline)
	}
	most := limits.Tries
	if kind == Call {
		most = callTries
	}
	if !reply.Reason.Retryable() || tries >= most {
		return 0, false
	}
	// The held caller hears nothing meanwhile, so a failed connection is replaced at
	// once. Only an overloaded service gets a rest.
	if kind != Call || reply.Reason == Throttled {
		wait = backoff(tries)
	}
	wait = max(wait, reply.RetryAfter)
	return wait, now.Add(wait).Before(deadline)
}

// backoff doubles with each try, up to the cap. The upper half is random, so that
// pushes that failed together do not come back together.
func backoff(tries int) time.Duration {
	d := min(backoffBase<<min(tries-1, 10), backoffCap)
	return d/2 + rand.N(d/2)
}

// budget returns the time allowed for the next try.
func budget(kind Kind, limits Limits, tries int, left time.Duration) time.Duration {
	if kind == Call && tries == 0 {
		return min(limits.Timeout, limits.CallTimeout, left/2)
	}
	return min(limits.Timeout, left)
}

// run tries the job until it ends or has to wait for another try, in which case the
// queue owns it again. It is called with a slot in flight, and keeps it only for
// tries that follow at once.
func (q *queue) run(j *job) {
	for {
		if reason := q.refusal(j); reason != "" {
			q.finish(j, reason)
			return
		}
		report, ok := q.breaker.allow()
		if !ok {
			q.finish(j, BreakerOpen)
			return
		}
		q.try(j, report)
		wait, again := pause(j.r.Kind, q.Limits, j.reply, j.tries+j.unsent, time.Now(), j.r.lastTry())
		if !again {
			q.finish(j, j.reply.Reason)
			return
		}
		q.metrics.retries.Inc()
		if wait > 0 {
			q.wait(j, wait)
			return
		}
	}
}

// refusal returns why the next try must not be made, or "". It prepares the payload
// before the first try.
func (q *queue) refusal(j *job) Reason {
	switch {
	case q.base.Err() != nil:
		return ShutDown
	case j.ctx.Err() != nil:
		return Dropped
	case !time.Now().Before(j.r.lastTry()):
		return Expired
	case j.n.Payload != nil || j.tries > 0:
		return ""
	}
	templates := q.templates.Load()
	payload, err := templates.Payload(nil, q.shown(&j.r), templates.most(j.r.Service))
	if err != nil {
		j.reply.Detail = err.Error()
		return BadRequest
	}
	j.n = Notification{
		Kind: j.r.Kind, App: j.r.App, Environment: j.r.Environment, Service: j.r.Service, Token: j.r.Token, Keys: j.r.Keys, Payload: payload,
		Deadline: j.r.Deadline, Delivery: templates.Delivery(&j.r), CollapseID: collapseID(&j.r),
	}
	if q.overBackground(j) {
		j.reply.Detail = "the device gets no more background pushes this hour"
		return ByPolicy
	}
	return ""
}

// shown returns the part of the request that its payload may show.
func (q *queue) shown(r *Request) *Request {
	p := q.policy.Load().Privacy
	if p == PrivacyNone {
		return r
	}
	part := *r
	part.Values = p.Hide(r.Kind, r.Values)
	return &part
}

// collapseID lets a second try replace an accepted but unanswered first one on the
// phone, and a cancel replace its call. FCM gets none: it throttles collapsible
// messages to a few per hour and device.
func collapseID(r *Request) string {
	const most = 64 // bytes, apns-collapse-id
	if r.Provider != pnparam.APNs || r.Service == pnparam.VoIP || len(r.Values.UUID) > most {
		return ""
	}
	return r.Values.UUID
}

// try sends the job once. The end of the request's context does not cut it short: the
// push may already be on the phone, and the caller wants to know.
func (q *queue) try(j *job, report func(error)) {
	now := time.Now()
	limit := budget(j.r.Kind, q.Limits, j.tries, j.r.lastTry().Sub(now))
	ctx := deadline.With(q.base, now.Add(limit))
	j.sentAt = now
	j.reply = q.Client.Push(ctx, &j.n)
	ctx.Release()
	switch {
	case !j.reply.Starved:
		j.tries++
	case j.r.Kind != Call:
		j.unsent++
	}
	q.metrics.observe(time.Since(now), j.r.Values.CallID)

	if !q.metrics.knows(j.r.Kind, j.reply.Reason) {
		j.reply = Reply{Reason: BadRequest, Detail: "the provider gave no known reason"}
	}
	if strings.Contains(j.reply.Detail, j.r.Token.Reveal()) {
		j.reply.Detail = "" // a service that echoes the token must not get it into a log
	}
	if q.base.Err() != nil || j.reply.Starved {
		report(errNothing)
		return
	}
	v := verdict(&j.reply, limit, q.Limits)
	if errors.Is(v, errFailing) {
		// The service may fail for this token only. Its retries must then not block
		// other pushes. A probe must report what it found.
		if j.failed && !q.breaker.probing() {
			v = errNothing
		}
		j.failed = true
	}
	report(v)
}
