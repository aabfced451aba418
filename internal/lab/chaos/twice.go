package chaos

import (
	"context"
	"slices"
	"time"
)

// noteGrace is how long after a push was accepted its sipwake may not have recorded it:
// the answer is on its way, and the record waits for Redis.
const noteGrace = time.Second

// judgePushes counts the pushes that were sent twice for the same wake and device. It runs
// at the end, so that late pushes count too.
func (v *verdicts) judgePushes(ctx context.Context) {
	ids, all := v.w.ledger.repeated()
	for _, id := range ids {
		a, _, pushes := v.w.ledger.of(id)
		for _, p := range pushes[1:] {
			if why := v.twice(a, pushes[0], p); why != "" {
				v.again[why]++
				continue
			}
			if v.pushedTwice++; v.pushedTwice <= maxStories {
				v.w.say("FINDING push sent twice: %s asked %v, wake %s at %s by %s, and wake %s at %s\n%s", id, a.tries,
					pushes[0].wake, v.w.ledger.at(pushes[0].at), p.provider, p.wake, v.w.ledger.at(p.at), v.w.traces(ctx, id))
			}
		}
	}
	v.w.say("pushes: %d taken; sent twice and excused:%s", all, counts(v.again))
}

// twice returns what excuses a second push, "" for nothing. The push service accepted the
// first one and answered.
//
//   - The answer may never have arrived, because the provider's connections were broken.
//   - The sipwake ended or was paused before it had recorded the answer, or later, while
//     the record waited for Redis. Another sipwake continues, with the UUID of the same
//     wake.
//   - Two sipwakes were asked, and one of them started the call from its memory because
//     Redis did not answer. Then both have the call. A sipwake that answered says so; if
//     its answer came too late, it is known that Redis was away.
//
// In each case it is the same wake with the same UUID. Nothing excuses another UUID.
func (v *verdicts) twice(a asked, first, second pushed) string {
	t := v.w.times
	sent, noted := first.at.Add(-noteGrace), first.at.Add(noteGrace)
	owner := func(from, to time.Time) bool {
		return slices.ContainsFunc(a.tries, func(i int) bool { return t.bad(v.w.sipwakes[i].name, from, to) })
	}
	switch {
	case first.wake != second.wake:
	case t.bad(partHarness, sent, second.at):
		return "machine too slow"
	case len(a.tries) > 1 && (a.cached || t.bad(partRedis, a.at, second.at)):
		return "started from memory"
	case t.bad(first.provider, sent, noted):
		return first.provider + " away"
	case owner(sent, noted):
		return "sipwake away"
	case owner(sent, second.at) && t.bad(partRedis, sent, second.at):
		return "sipwake and Redis away"
	}
	return ""
}
