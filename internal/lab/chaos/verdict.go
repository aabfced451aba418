package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// recovery is how long everything that a wake needs must have worked without a
	// break before its push is owed even if the sipwake that started it died: three
	// seconds until that one counts as dead, one until the others adopt its wakes, and
	// as much again for a slow machine.
	recovery = 8 * time.Second
	// margin is how much later than the phone's REGISTER a call must have ended. If it
	// ended sooner, the two may have crossed.
	margin = 500 * time.Millisecond
)

// verdicts judges calls. These are the rules, each for a call whose node ran all the
// time:
//
//   - stuck: the caller got no final answer within hold + ring + slack.
//   - rang not: the phone's REGISTER got 200 while the caller still waited (margin),
//     but no INVITE reached the phone. If the phone registered at the other node, Redis
//     and a sipwake must have worked, because they tell the node that holds the call.
//   - not pushed: wake.start was acknowledged with a hold time, but the phone was not
//     pushed, although its provider, Redis and at least one sipwake worked without a
//     break for the time recovery while the caller waited.
//   - given up: wake.start was acknowledged, no push was delivered, and the call ended
//     well before the hold time was over, although the provider worked all the time.
//   - ended early: the push was delivered and the phone's REGISTER got 200 well within
//     the hold time, but the call had already ended, although the provider worked all
//     the time.
//   - nobody: sipwake answered that there is nobody to wake, although the provider
//     worked and every phone's binding was acknowledged before the first fault.
//   - not asked: no sipwake acknowledged wake.start, or the node never sent it, although
//     Redis, at least one sipwake and the node had worked from some seconds before on.
//
// All but the first are lost wakes. A call that the caller cancelled only has to end. A
// wake that was not acknowledged when it could not be is excused, and counted by the part
// that was away.
type verdicts struct {
	w *world

	mu       sync.Mutex
	calls    int
	answered int
	ended    int // cancelled, and got its end
	failed   int // the phone rang, but did not answer
	excused  map[string]int
	lost     int
	stuck    int

	again       map[string]int // pushes sent twice, by what excuses them
	pushedTwice int
}

// judge counts the call. If it is a finding, judge prints all that is known of it.
func (v *verdicts) judge(ctx context.Context, c *call) {
	if ctx.Err() != nil {
		return // the run was interrupted
	}
	kind, why := v.verdict(c)
	v.mu.Lock()
	v.calls++
	switch kind {
	case isAnswered:
		v.answered++
	case isCancelled:
		v.ended++
	case hasFailed:
		v.failed++
	case isExcused:
		v.excused[why]++
	case isLost:
		v.lost++
	case isStuck:
		v.stuck++
	}
	v.mu.Unlock()
	if kind == isLost || kind == isStuck || kind == isExcused {
		v.w.tell(ctx, c, kind, why)
	}
}

type verdict string

const (
	isAnswered  verdict = "answered"
	isCancelled verdict = "cancelled"
	hasFailed   verdict = "failed"
	isExcused   verdict = "excused"
	isLost      verdict = "wake lost"
	isStuck     verdict = "stuck"
)

func (v *verdicts) verdict(c *call) (kind verdict, why string) {
	t := v.w.times
	switch {
	case c.code == 200:
		return isAnswered, ""
	case c.nodeDied:
		return isExcused, "node killed"
	case c.final.IsZero() && t.bad(partHarness, c.began, time.Now()):
		return isExcused, "machine too slow"
	case c.final.IsZero():
		return isStuck, fmt.Sprintf("no final answer: %v", c.err)
	case len(c.invites) > 0 && c.cancelled.IsZero():
		return hasFailed, ""
	case !c.cancelled.IsZero():
		return isCancelled, ""
	}
	if why := v.lostWake(c); why != "" {
		return isLost, why
	}
	parts := []string{c.through.name, partRedis, c.sleeper.provider}
	if c.asked.hold > 0 { // check what happened later first
		parts = []string{c.through.name, c.sleeper.provider, partRedis}
	}
	for _, part := range parts {
		if t.bad(part, c.began.Add(-time.Second), c.final) {
			return isExcused, part + " away"
		}
	}
	if !v.someSipwake(c.began, c.final) {
		return isExcused, "sipwake away"
	}
	return isExcused, "time"
}

// lostWake returns the rule by which a call that was neither answered nor cancelled is a
// lost wake, "" if it is none.
func (v *verdicts) lostWake(c *call) string {
	t := v.w.times
	nodeBad := t.bad(c.through.name, c.began, c.final) || t.bad(c.back.name, c.began, c.final)
	slow := t.bad(partHarness, c.began, c.final)
	space := margin
	if nodeBad || slow {
		space += 3 * time.Second // queued requests come all at once
	}
	for _, at := range c.returned {
		if at.Add(space).Before(c.final) && v.told(c, at) {
			return "rang not: the phone was back and no INVITE reached it"
		}
	}
	if slow {
		return ""
	}
	if !c.known || c.asked.instance < 0 {
		return v.notAsked(c)
	}
	providerBad := t.bad(c.sleeper.provider, c.began, c.final)
	if c.asked.hold == 0 {
		if c.asked.outcome == "none" && !providerBad {
			return "nobody: sipwake knew no device"
		}
		return "" // sipwake refused at once: the breaker is open, or it was overloaded
	}
	ends := c.began.Add(hold)
	early := c.final.Before(ends.Add(-2*time.Second)) && !nodeBad && !providerBad
	switch {
	case len(c.pushes) == 0 && early:
		return "given up: no push was delivered and the hold ended early"
	case len(c.pushes) == 0 && v.owed(c):
		return "not pushed"
	case len(c.pushes) > 0 && early && len(c.returned) > 0 && c.returned[0].Before(ends.Add(-time.Second)):
		return "ended early: the phone was on its way"
	}
	return ""
}

// told reports whether the node that holds the call must know of a phone that came back at
// this time: it has seen the REGISTER itself, or sipwake was able to signal it.
func (v *verdicts) told(c *call, at time.Time) bool {
	if c.through == c.back {
		return true
	}
	until := at.Add(recovery)
	if c.final.Before(until) {
		until = c.final
	}
	return !v.w.times.bad(partRedis, c.began, until) && !v.w.times.bad(c.back.name, at.Add(-time.Second), until) &&
		v.someSipwake(at.Add(-time.Second), until)
}

// owed reports whether everything that a push needs worked long enough.
func (v *verdicts) owed(c *call) bool {
	t := v.w.times
	return calm(c.asked.ackedAt, c.final, func(from, to time.Time) bool {
		return !t.bad(c.sleeper.provider, from, to) && !t.bad(partRedis, from, to) && v.someSipwake(from, to)
	}) >= recovery
}

func (v *verdicts) notAsked(c *call) string {
	t := v.w.times
	at := c.began
	if c.known {
		at = c.asked.at
	}
	from, to := at.Add(-4*time.Second), at.Add(2500*time.Millisecond)
	if t.bad(c.through.name, from, to) || t.bad(partRedis, from, to) || !v.someSipwake(from, to) {
		return ""
	}
	if !c.known {
		return "not asked: the node never called wake.start"
	}
	return "not asked: no sipwake took wake.start: " + fmt.Sprint(c.asked.err)
}

// someSipwake reports whether one of the sipwakes worked all the time.
func (v *verdicts) someSipwake(from, to time.Time) bool {
	for _, s := range v.w.sipwakes {
		if !v.w.times.bad(s.name, from, to) {
			return true
		}
	}
	return false
}
