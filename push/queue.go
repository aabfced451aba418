package push

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// The lanes of a queue.
const (
	laneCalls = iota
	laneRest
	lanes
)

var laneNames = [lanes]string{"calls", "rest"}

// job is one Request on its way. Only the goroutine that has it in flight, or
// the queue under its lock, touches it.
type job struct {
	ctx    context.Context
	r      Request
	done   func(Outcome)
	n      Notification
	reply  Reply // of the last try
	tries  int
	unsent int  // tries of what is no call that never left this machine
	failed bool // the breaker has counted it as a failure of the service
	sentAt time.Time
	lane   int

	next    *job // in the lane's list
	waiting bool // for another try
	timer   *time.Timer
	unwatch func() bool // ends the watch over ctx
}

// lane is a bounded list of jobs, first in first out, the urgent ones before the others.
type lane struct {
	head, tail *job
	lastUrgent *job // nil if there is none in the list
	queued     int  // in the list
	waiting    int  // for another try, in no list
	inFlight   int
	most       int // of inFlight
}

// queue holds and sends the pushes of one app. It has a goroutine for each
// request in flight and none when idle.
type queue struct {
	App
	templates atomic.Pointer[Templates]
	policy    atomic.Pointer[Policy]
	base      context.Context // ends when pushes under way must be given up
	log       *slog.Logger
	throttle  throttle
	metrics   *appMetrics
	breaker   *breaker
	rejected  *[lanes]atomic.Uint64 // shared with the queue's successors
	// verdicts are the service's last; unjudged: it did not give any when it was asked.
	verdicts atomic.Pointer[[]Verdict]
	unjudged atomic.Bool
	// background is that of all apps.
	background *background

	mu      sync.Mutex
	lane    [lanes]lane
	waiting map[*job]struct{}
	retired bool
	drained chan struct{} // closed when retired and empty
}

func newQueue(base context.Context, a App, log *slog.Logger, m *appMetrics, rejected *[lanes]atomic.Uint64) *queue {
	q := &queue{
		App:      a,
		base:     base,
		log:      log.With("provider", string(a.Provider), "app", a.name(), "environment", string(a.Environment)),
		metrics:  m,
		rejected: rejected,
		waiting:  make(map[*job]struct{}),
		drained:  make(chan struct{}),
	}
	q.templates.Store(a.Templates)
	q.policy.Store(&a.Policy)
	if hasBreaker(a.Provider) {
		q.breaker = newBreaker(a.Limits, q.log)
	}
	q.lane[laneCalls].most = a.Limits.InFlight
	// Calls find a free slot even while a slow service holds all the others.
	q.lane[laneRest].most = max(1, a.Limits.InFlight-max(1, a.Limits.InFlight/4))
	return q
}

// admit takes the job, or says why not: QueueFull, or ShutDown when the queue
// is retired. The lock order is queue, then nothing.
func (q *queue) admit(j *job) Reason {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &q.lane[j.lane]
	switch {
	case q.retired:
		return ShutDown
	case l.queued+l.waiting >= q.room(j):
		q.rejected[j.lane].Add(1)
		return QueueFull
	}
	q.start(j)
	return ""
}

// room is how many may wait in the job's lane: for urgent ones as many again.
func (q *queue) room(j *job) int {
	if j.r.Urgent {
		return 2 * q.Limits.Queue
	}
	return q.Limits.Queue
}

// start gives the job a slot and a goroutine, or puts it into its lane. The
// caller holds the lock.
func (q *queue) start(j *job) {
	l := &q.lane[j.lane]
	if q.free(j.lane) {
		l.inFlight++
		go q.work(j)
		return
	}
	l.push(j)
}

// push puts the job into the list.
func (l *lane) push(j *job) {
	before := l.tail
	if j.r.Urgent {
		before, l.lastUrgent = l.lastUrgent, j
	}
	if before == nil {
		j.next, l.head = l.head, j
	} else {
		j.next, before.next = before.next, j
	}
	if before == l.tail {
		l.tail = j
	}
	l.queued++
}

// pop takes the first job out of the list, which has one.
func (l *lane) pop() *job {
	j := l.head
	l.head, j.next = j.next, nil
	if l.head == nil {
		l.tail = nil
	}
	if l.lastUrgent == j {
		l.lastUrgent = nil
	}
	l.queued--
	return j
}

// free reports whether the lane may have one more in flight. The caller holds the
// lock.
func (q *queue) free(i int) bool {
	return q.inFlight() < q.Limits.InFlight && q.lane[i].inFlight < q.lane[i].most
}

func (q *queue) inFlight() int { return q.lane[laneCalls].inFlight + q.lane[laneRest].inFlight }

// work runs the job and then others until there is none for its slot. The
// goroutine is counted in inFlight, and ends at once when it leaves it.
func (q *queue) work(j *job) {
	for j != nil {
		i := j.lane // the job may be another's when run returns
		q.run(j)
		j = q.next(i)
	}
}

// next gives the slot of lane i back and takes one for the next job, if any.
func (q *queue) next(i int) *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lane[i].inFlight--
	for i := range q.lane {
		l := &q.lane[i]
		if l.head == nil || !q.free(i) {
			continue
		}
		j := l.pop()
		l.inFlight++
		return j
	}
	q.signalDrained()
	return nil
}

// wait parks the job, which has no slot then, until the pause is over, its
// context ends or the service is to stop. It may be over bound by what was in
// flight: a push that was admitted is not refused later.
func (q *queue) wait(j *job, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.base.Err() != nil {
		q.start(j)
		return
	}
	j.waiting = true
	q.waiting[j] = struct{}{}
	q.lane[j.lane].waiting++
	wake := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.wake(j)
	}
	j.timer = time.AfterFunc(pause, wake)
	j.unwatch = context.AfterFunc(j.ctx, wake)
}

// wake ends the job's wait, if it waits. The caller holds the lock.
func (q *queue) wake(j *job) {
	if !j.waiting {
		return
	}
	j.waiting = false
	j.timer.Stop()
	j.unwatch()
	delete(q.waiting, j)
	q.lane[j.lane].waiting--
	q.start(j)
}

// retire makes the queue refuse new jobs; drained is closed once those it has
// are done.
func (q *queue) retire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retired = true
	if q.inFlight() == 0 {
		q.signalDrained()
	}
}

// signalDrained closes drained if the queue is retired and empty. The caller
// holds the lock, and comes here once only: nothing is in flight, so nothing
// can leave it again.
func (q *queue) signalDrained() {
	if !q.retired || q.inFlight() > 0 || q.held() > 0 {
		return
	}
	select {
	case <-q.drained: // retired twice
	default:
		close(q.drained)
	}
}

// abort ends every wait. Called after the base context ended, so that all that
// is queued ends as ShutDown.
func (q *queue) abort() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for j := range q.waiting {
		q.wake(j)
	}
}

// held is how many jobs wait for a try. The caller holds the lock.
func (q *queue) held() int {
	n := 0
	for i := range q.lane {
		n += q.lane[i].queued + q.lane[i].waiting
	}
	return n
}

// load is the share of the fullest lane, or half of the share in flight: with
// every slot taken and nothing waiting the app is busy, but refuses nothing.
func (q *queue) load() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	share := float64(q.inFlight()) / float64(q.Limits.InFlight) / 2
	for i := range q.lane {
		held := q.lane[i].queued + q.lane[i].waiting
		share = max(share, float64(held)/float64(q.Limits.Queue))
	}
	return min(share, 1)
}

// info tells how the queue is doing.
func (q *queue) info() AppInfo {
	state, _ := q.breaker.state()
	q.mu.Lock()
	defer q.mu.Unlock()
	return AppInfo{
		Provider: q.Provider, Package: q.name(), Environment: q.Environment,
		Breaker: state, Queued: q.held(), InFlight: q.inFlight(),
	}
}
