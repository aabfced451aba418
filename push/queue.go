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

// job is one Request in progress. Only the goroutine that has it in flight, or the
// queue under its lock, touches it.
type job struct {
	ctx    context.Context
	r      Request
	done   func(Outcome)
	n      Notification
	reply  Reply // of the last try
	tries  int
	unsent int  // tries that never left this machine; not counted for calls
	failed bool // the breaker has counted it as a service failure
	sentAt time.Time
	lane   int

	next    *job // in the lane's list
	waiting bool // for another try
	timer   *time.Timer
	unwatch func() bool // stops watching ctx
}

// lane is a bounded FIFO list of jobs, with the urgent ones before the others.
type lane struct {
	head, tail *job
	lastUrgent *job // nil if there is none in the list
	queued     int  // in the list
	waiting    int  // for another try, in no list
	inFlight   int
	most       int // limit of inFlight
}

// queue holds and sends the pushes of one app. It runs one goroutine per request in
// flight, and none when idle.
type queue struct {
	App
	templates atomic.Pointer[Templates]
	policy    atomic.Pointer[Policy]
	base      context.Context // ends when pushes in flight must be given up
	log       *slog.Logger
	throttle  throttle
	metrics   *appMetrics
	breaker   *breaker
	rejected  *[lanes]atomic.Uint64 // shared with the queues that replace this one
	// verdicts are the service's latest. unjudged is set when the service gave none
	// when asked.
	verdicts atomic.Pointer[[]Verdict]
	unjudged atomic.Bool
	// background is shared by all apps.
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
	// Calls find a free slot even while a slow service occupies all the others.
	q.lane[laneRest].most = max(1, a.Limits.InFlight-max(1, a.Limits.InFlight/4))
	return q
}

// admit accepts the job, or returns why not: QueueFull, or ShutDown when the queue is
// retired. No other lock is taken under the queue's lock.
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

// room returns how many jobs may wait in the job's lane; twice as many if urgent.
func (q *queue) room(j *job) int {
	if j.r.Urgent {
		return 2 * q.Limits.Queue
	}
	return q.Limits.Queue
}

// start gives the job a slot and a goroutine, or queues it in its lane. The caller
// holds the lock.
func (q *queue) start(j *job) {
	l := &q.lane[j.lane]
	if q.free(j.lane) {
		l.inFlight++
		go q.work(j)
		return
	}
	l.push(j)
}

// push adds the job to the list.
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

// pop removes and returns the first job. The list must not be empty.
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

// free reports whether the lane may have one more job in flight. The caller holds the
// lock.
func (q *queue) free(i int) bool {
	return q.inFlight() < q.Limits.InFlight && q.lane[i].inFlight < q.lane[i].most
}

func (q *queue) inFlight() int { return q.lane[laneCalls].inFlight + q.lane[laneRest].inFlight }

// work runs the job, and then others until there is none for its slot. The goroutine
// counts as inFlight, and ends as soon as it no longer does.
func (q *queue) work(j *job) {
	for j != nil {
		i := j.lane // another goroutine may own the job when run returns
		q.run(j)
		j = q.next(i)
	}
}

// next frees the slot of lane i and takes one for the next job, if any.
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

// wait parks the job, without a slot, until the pause is over, its context ends or
// the service stops. Waiting jobs may exceed the limit by the number in flight: an
// admitted push is not refused later.
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

// wake ends the job's wait, if it is waiting. The caller holds the lock.
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

// retire makes the queue refuse new jobs. drained is closed once the present ones are
// done.
func (q *queue) retire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retired = true
	if q.inFlight() == 0 {
		q.signalDrained()
	}
}

// signalDrained closes drained if the queue is retired and empty. The caller holds
// the lock. It gets to the end only once: with nothing in flight, nothing can finish
// again.
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

// abort ends every wait. It is called after the base context ended, so all queued
// jobs end as ShutDown.
func (q *queue) abort() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for j := range q.waiting {
		q.wake(j)
	}
}

// held returns how many jobs wait for a try. The caller holds the lock.
func (q *queue) held() int {
	n := 0
	for i := range q.lane {
		n += q.lane[i].queued + q.lane[i].waiting
	}
	return n
}

// load returns the fill ratio of the fullest lane, or half the ratio of slots in
// flight if that is more: with all slots taken and nothing waiting, the app is busy
// but refuses nothing.
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

// info returns the state of the queue.
func (q *queue) info() AppInfo {
	state, _ := q.breaker.state()
	q.mu.Lock()
	defer q.mu.Unlock()
	return AppInfo{
		Provider: q.Provider, Package: q.name(), Environment: q.Environment,
		Breaker: state, Queued: q.held(), InFlight: q.inFlight(),
	}
}
