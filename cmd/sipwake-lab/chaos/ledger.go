package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// ledger is what the run itself knows: who was asked what, what was acknowledged,
// and what phones and callers saw. Safe for concurrent use.
type ledger struct {
	mu     sync.Mutex
	asked  map[string]asked       // by Call-ID
	pushes map[string][]time.Time // of calls, delivered, by Call-ID
	began  time.Time
	acked  map[int]time.Time // the last wake.start that each sipwake acknowledged
}

func newLedger() *ledger {
	return &ledger{asked: make(map[string]asked), pushes: make(map[string][]time.Time), began: time.Now(),
		acked: make(map[int]time.Time)}
}

// start notes what a node's wake.start came to. Of several, as a node never sends,
// the first one that was acknowledged counts.
func (l *ledger) start(callID string, a asked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.asked[callID]; !ok || known.instance < 0 {
		l.asked[callID] = a
	}
	if a.instance >= 0 {
		l.acked[a.instance] = a.ackedAt
	}
}

// inWake waits until the sipwake has just acknowledged a wake, a few seconds at most.
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

func (l *ledger) push(callID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pushes[callID] = append(l.pushes[callID], time.Now())
}

// of returns what is known of a call.
func (l *ledger) of(callID string) (a asked, known bool, pushes []time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, known = l.asked[callID]
	return a, known, append([]time.Time(nil), l.pushes[callID]...)
}

// forget drops what is known of a call that was judged.
func (l *ledger) forget(callID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.asked, callID)
	delete(l.pushes, callID)
}

// at is a time in the run, as it is printed.
func (l *ledger) at(t time.Time) string { return fmt.Sprintf("+%07.3fs", t.Sub(l.began).Seconds()) }
