package outbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

const (
	// lease is how long an instance has exclusive use of a message.
	lease = time.Minute
	// round bounds one round of tries; it ends well within the lease.
	round = 40 * time.Second
	// batch is how many messages one read takes from the store.
	batch = 100
	// Pauses between the rounds of tries of a message; they double.
	firstPause = 5 * time.Second
	maxPause   = 10 * time.Minute
	// storeTimeout bounds one write to the store.
	storeTimeout = 2 * time.Second
)

// deliver tries every target of m that is not done. When it has all outcomes it writes
// them to the outbox, with the time of the next try if there is one. If this instance
// dies before, the lease expires and another instance tries again: a push may then be
// sent twice, but none is lost.
func (s *Service) deliver(m Message) {
	m.Targets = slices.Clone(m.Targets)
	d := &delivery{service: s, message: m, until: time.Now().Add(round)}
	var queued []int
	for i, t := range m.Targets {
		if t.State == TargetQueued {
			queued = append(queued, i)
		}
	}
	d.left = len(queued)
	for _, i := range queued {
		d.try(i, m.Targets[i])
	}
}

// delivery is one round of tries of a message.
type delivery struct {
	service *Service
	mu      sync.Mutex
	message Message
	left    int       // targets without an outcome yet
	until   time.Time // the end of the round
}

func (d *delivery) try(i int, t Target) {
	m := d.message
	d.service.devices.Push(wake.DevicePush{
		Binding: wake.Binding{AOR: m.AOR, Device: t.Device, Address: t.Address}, Kind: m.Kind,
		Values:   valuesOf(&m),
		Deadline: m.Deadline, TryUntil: d.until,
	}, func(o push.Outcome) { d.done(i, o) })
}

// valuesOf returns the values for payloads. There is no Call-ID; apps that tell calls
// apart by it get the message's ID.
func valuesOf(m *Message) push.Values {
	v := push.Values{AOR: m.AOR, From: m.From, Display: m.Display,
		UUID: m.ID, Title: m.Title, Body: m.Body, Data: m.Data}
	if m.Kind == push.Call || m.Kind == push.Cancel {
		v.CallID = m.ID
	}
	return v
}

func (d *delivery) done(i int, o push.Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := &d.message.Targets[i]
	t.Reason, t.Detail = o.Reason, o.Detail
	t.Tries += o.Tries
	t.State = targetState(o.Reason)
	if o.Reason == push.Expired && time.Now().Before(d.message.Deadline) {
		t.State = TargetQueued // only the round is over
	}
	if d.left--; d.left == 0 {
		d.message.NextTry = time.Now().Add(pauseOf(d.message))
		d.service.save(d.message)
	}
}

// targetState returns the state of a target whose push ended with r.
func targetState(r push.Reason) TargetState {
	switch r {
	case push.Accepted:
		return TargetSent
	case push.Unavailable, push.Timeout, push.Throttled, push.QueueFull, push.BreakerOpen, push.ShutDown,
		push.Dropped, push.Credential, push.ByPolicy:
		return TargetQueued // try later: the cause is the service, sipwake itself or the load
	}
	return TargetFailed
}

// pauseOf returns as long a pause as the message has waited already, so that pauses
// double however many tries a round had.
func pauseOf(m Message) time.Duration {
	return min(max(time.Since(m.CreatedAt), firstPause), maxPause)
}

// save writes the message in the background, so that no push waits for the store. If the
// write fails, the lease expires and the message is tried again.
func (s *Service) save(m Message) {
	failed := func(err error) { s.log.Warn("cannot write outbox", "message", m.ID, "err", err) }
	err := s.devices.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if err := s.store.Update(ctx, m); err != nil {
			failed(err)
		}
	})
	if err != nil {
		failed(err)
	}
}

// Run retries undelivered messages of all instances at this interval until ctx ends.
func (s *Service) Run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var jobs sync.WaitGroup
	defer jobs.Wait()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		due, err := s.store.Due(ctx, now, lease, batch)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				s.log.Warn("cannot read outbox", "err", err)
			}
			continue
		}
		stopped := make(map[string]bool)
		for _, m := range due {
			switch {
			case now.After(m.Deadline):
				s.expire(m)
			case m.Many == nil && m.Job != "" && s.waits(ctx, m.Job, stopped): // until its lease ends
			case m.Many != nil:
				s.startJob(ctx, &jobs, m)
			default:
				s.deliver(m)
			}
		}
	}
}

// startJob works on a push to many users if there is a place. Otherwise the message is
// free again when its lease expires.
func (s *Service) startJob(ctx context.Context, jobs *sync.WaitGroup, m Message) {
	if !s.jobs.take(m.Owner) {
		return
	}
	jobs.Go(func() {
		defer s.jobs.give(m.Owner)
		s.work(ctx, m)
	})
}

// jobs are the places for pushes to many users, by sender: a tenant does not take the
// places of another.
type jobs struct {
	mu    sync.Mutex
	taken map[string]int
}

func (j *jobs) take(owner string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	most := maxJobs
	if owner != "" {
		most = maxOwnJobs
	}
	if j.taken[owner] >= most {
		return false
	}
	j.taken[owner]++
	return true
}

func (j *jobs) give(owner string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.taken[owner]--; j.taken[owner] == 0 {
		delete(j.taken, owner)
	}
}

func (s *Service) expire(m Message) {
	m.Users = nil
	if m.Many != nil {
		many := *m.Many
		many.Ended, m.Many = true, &many
	}
	m.Targets = slices.Clone(m.Targets)
	for i := range m.Targets {
		if m.Targets[i].State == TargetQueued {
			m.Targets[i].State = TargetFailed
			if m.Targets[i].Reason == "" {
				m.Targets[i].Reason = push.Expired
			}
		}
	}
	s.save(m)
}

// Message returns a message of push.send or push.many with its state. It returns false
// if there is no such message (any more), or if it is not the caller's.
func (s *Service) Message(ctx context.Context, by wake.Caller, id string) (Message, bool, error) {
	if err := wake.CheckID("id", id); err != nil {
		return Message{}, false, err
	}
	m, ok, err := s.store.Message(ctx, id)
	if !ok || err != nil || m.isWord() || by.Scope != nil && by.Name != m.Owner {
		return Message{}, false, err
	}
	if m.Many != nil && !m.Many.Ended {
		var stop bool
		stop, err = s.stopped(ctx, id)
		m.setStopped(stop)
	}
	return m, true, err
}
