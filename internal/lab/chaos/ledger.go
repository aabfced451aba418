package chaos

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ledger is the run's own record: the requests to each sipwake, what was acknowledged, and
// what phones and callers saw. Safe for concurrent use.
type ledger struct {
	mu     sync.Mutex
	asked  map[string]asked    // by Call-ID
	pushes map[string][]pushed // of calls, delivered, by Call-ID
	began  time.Time
	acked  map[int]time.Time // the last wake.start that each sipwake acknowledged
	crowds map[string]crowdCount
}

// pushed is an accepted push. A phone has one device, so all pushes of a Call-ID are for
// the same device.
type pushed struct {
	at       time.Time
	provider string
	wake     string // UUID
}

func newLedger() *ledger {
	return &ledger{asked: make(map[string]asked), pushes: make(map[string][]pushed), began: time.Now(),
		acked: make(map[int]time.Time), crowds: make(map[string]crowdCount)}
}

// start records the outcome of a node's wake.start. A node repeats it if the first one was
// not answered or started from memory. Then the first acknowledged one counts, but every
// sipwake that was asked may have pushed.
func (l *ledger) start(callID string, a asked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, again := l.asked[callID]
	if !again {
		l.countCrowd(callID, a)
	}
	for _, i := range known.tries {
		if !slices.Contains(a.tries, i) {
			a.tries = append(a.tries, i)
		}
	}
	if again && known.instance >= 0 {
		known.tries, known.cached = a.tries, known.cached || a.cached
		l.asked[callID] = known
	} else {
		l.asked[callID] = a
	}
	if a.instance >= 0 {
		l.acked[a.instance] = a.ackedAt
	}
}

// inWake waits until the sipwake has just acknowledged a wake, for a few seconds at most.
func (l *ledger) inWake(ctx context.Context, instance int) {
	for until := time.Now().Add(4 * time.Second); ctx.Err() == nil && time.Now().Before(until); {
		l.mu.Lock()
		at := l.acked[instance]
		l.mu.Unlock()
		if time.Since(at) < pushLatency/2 {
			return
		}
		sleep(ctx, 5*time.Millisecond)
	}
}

func (l *ledger) push(callID string, p pushed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pushes[callID] = append(l.pushes[callID], p)
}

// of returns what is known of a call.
func (l *ledger) of(callID string) (a asked, known bool, pushes []pushed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, known = l.asked[callID]
	return a, known, slices.Clone(l.pushes[callID])
}

// repeated returns the Call-IDs with more than one accepted push, and the number of all
// pushes.
func (l *ledger) repeated() (callIDs []string, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.pushes {
		all += len(p)
		if len(p) > 1 {
			callIDs = append(callIDs, id)
		}
	}
	slices.Sort(callIDs)
	return callIDs, all
}

// at formats a time relative to the start of the run.
func (l *ledger) at(t time.Time) string { return fmt.Sprintf("+%07.3fs", t.Sub(l.began).Seconds()) }
