package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

const (
	// crowdSize is how many calls a node should hold when it dies, and crowdTime how
	// long it may take to make them: the first of them end after hold.
	crowdSize = 4300
	crowdTime = 8 * time.Second
	// crowdWindow is how many of them may wait for the answer to wake.start.
	crowdWindow = 24
	// crowdPrefix is the prefix of their Call-IDs.
	crowdPrefix = "crowd-"
)

// crowd is the users who are called by the thousand, and one who is called all the time.
type crowd struct {
	w     *world
	round atomic.Int64
}

// register is a REGISTER of a user of the crowd at a node, as that would tell it.
func (c *crowd) register(ctx context.Context, n *node, user string, cseq int64) error {
	body, err := request("binding.register", map[string]any{
		"node": n.name, "aor": user + "@" + domain, "call_id": "registration-of-" + user, "cseq": cseq, "expires": 3600,
		"contact": fmt.Sprintf("<sip:%s@127.0.0.1:9;pn-provider=fcm;pn-param=%s;pn-prid=fcm-token-of-%s>;+sip.instance=\"<urn:uuid:%s>\"",
			user, project, user, user),
		"source": "udp:127.0.0.1:9",
	})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	_, _, err = c.w.calls.post(ctx, 0, body, func(int) {})
	return err
}

// enrol registers users and lets their pushes be counted.
func (c *crowd) enrol(ctx context.Context, n *node, users int, cseq int64, until time.Time) (done int) {
	var next, ok atomic.Int64
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for ctx.Err() == nil && time.Now().Before(until) {
				i := int(next.Add(1)) - 1
				if i >= users {
					return
				}
				user := crowdUser(i)
				c.w.fcm.OnDeliver("fcm-token-of-"+user, func(m *fcmsim.Message) {
					if m.Data["ntype"] == "0" {
						c.w.ledger.push(m.Data["ncallid"], pushed{time.Now(), fcm, m.Data["callUUID"]})
					}
				})
				if c.register(ctx, n, user, cseq) == nil {
					ok.Add(1)
				}
			}
		})
	}
	work.Wait()
	return int(ok.Load())
}

func crowdUser(i int) string { return fmt.Sprintf("crowd%04d", i) }

// killCrowded kills a node that holds as many calls as the machine can make in the time.
// The phones come back at another node: signals to the dead node must not delay signals
// to the others.
func killCrowded(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	n, d := oneNode(w, r), lasts(r)
	other := w.nodes[0]
	if other == n {
		other = w.nodes[1]
	}
	round := w.crowd.round.Add(1)
	users := w.crowd.enrol(ctx, n, crowdSize, 2*round, time.Now().Add(crowdTime))
	sleep(ctx, 3500*time.Millisecond) // a phone that has just registered counts as awake
	prefix := fmt.Sprintf("%s%d-", crowdPrefix, round)
	began := time.Now()
	until := began.Add(crowdTime)
	for i := 0; i < users && ctx.Err() == nil && time.Now().Before(until); i++ {
		for sent := i; sent-w.ledger.crowded(prefix, false) >= crowdWindow && time.Now().Before(until); {
			sleep(ctx, 2*time.Millisecond)
		}
		if err := w.strangers.invite(n, crowdUser(i), prefix+crowdUser(i)); err != nil {
			return "", fmt.Errorf("cannot call: %w", err)
		}
	}
	held := w.ledger.crowded(prefix, true)
	// Making so many calls loads this machine, which excuses what happened so far. From
	// here on it excuses nothing.
	w.times.add(partHarness, began, time.Now().Add(time.Second))
	n.kill()
	back := w.crowd.enrol(ctx, other, held, 2*round+1, time.Now().Add(d))
	return fmt.Sprintf("%s with %d calls, %d came back", n.name, held, back), n.run(ctx)
}

// flood calls and registers one user as often as the machine can. That excuses nothing: no
// other user may notice it.
func flood(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	const user, calls = "flooded", 100 // a second
	n, until := oneNode(w, r), time.Now().Add(lasts(r))
	round := w.crowd.round.Add(1)
	var work sync.WaitGroup
	var registers atomic.Int64
	for i := range 4 {
		work.Go(func() {
			for ctx.Err() == nil && time.Now().Before(until) {
				if w.crowd.register(ctx, w.nodes[i%2], user, time.Now().UnixMilli()%1e9) == nil {
					registers.Add(1)
				}
			}
		})
	}
	made := 0
	for ; ctx.Err() == nil && time.Now().Before(until); made++ {
		if err := w.strangers.invite(n, user, fmt.Sprintf("flood-%d-%d", round, made)); err != nil {
			return "", fmt.Errorf("cannot call: %w", err)
		}
		sleep(ctx, time.Second/calls)
	}
	work.Wait()
	return fmt.Sprintf("%s, %d calls, %d REGISTERs of one", n.name, made, registers.Load()), nil
}

// crowded counts the calls of a crowd for which wake.start was asked, or those that are
// held.
func (l *ledger) crowded(prefix string, held bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.crowds[prefix]
	if held {
		return c.held
	}
	return c.asked
}

// crowdCount counts calls of one crowd.
type crowdCount struct{ asked, held int }

// countCrowd counts a wake.start of a crowd. l.mu is held.
func (l *ledger) countCrowd(callID string, a asked) {
	if i := strings.LastIndex(callID, "-"); strings.HasPrefix(callID, crowdPrefix) && i >= 0 {
		c := l.crowds[callID[:i+1]]
		c.asked++
		if a.hold > 0 {
			c.held++
		}
		l.crowds[callID[:i+1]] = c
	}
}
