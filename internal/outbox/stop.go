package outbox

import (
	"context"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// wordEvery is how often a running push to many users checks for a stop.
const wordEvery = time.Second

// wordID returns the ID of the message that tells a push to many users to stop. It is a
// separate message because the instance that works on the push writes the push itself.
func wordID(job string) string { return job + "-stop" }

// Stop stops a push to many users. It returns at once; after about a second no user is
// pushed any more, and pushes that are still queued wait. Resume continues it. Stop does
// not change a push that has ended. It returns false if the caller has no such push.
func (s *Service) Stop(ctx context.Context, by wake.Caller, id string) (Message, bool, error) {
	return s.say(ctx, by, id, true)
}

// Resume continues a stopped push to many users where it was, until its original
// deadline. No user is pushed twice.
func (s *Service) Resume(ctx context.Context, by wake.Caller, id string) (Message, bool, error) {
	m, ok, err := s.say(ctx, by, id, false)
	if !ok || err != nil {
		return m, ok, err
	}
	return m, true, s.wakeJob(ctx, id)
}

func (s *Service) say(ctx context.Context, by wake.Caller, id string, stop bool) (Message, bool, error) {
	m, ok, err := s.Message(ctx, by, id)
	if !ok || err != nil {
		return m, ok, err
	}
	if m.Many == nil {
		return m, true, &wake.ParamError{Field: "id", Problem: "is not the ID of a push to many users"}
	}
	if m.Many.Ended {
		return m, true, nil
	}
	m.setStopped(stop)
	word := Message{ID: wordID(id), Owner: m.Owner, Job: id, Kind: m.Kind, CreatedAt: m.CreatedAt, Deadline: m.Deadline,
		NextTry: m.Deadline, Many: &Many{Ended: true, Stopped: stop}}
	if err := s.store.Put(ctx, word); err != nil {
		return m, true, err
	}
	return m, true, s.store.Update(ctx, word) // if there was one
}

// stopped reports whether the push to many users must stop.
func (s *Service) stopped(ctx context.Context, job string) (bool, error) {
	word, ok, err := s.store.Message(ctx, wordID(job))
	return ok && word.Many != nil && word.Many.Stopped, err
}

// setStopped sets Many.Stopped in a copy, because others may share m.Many.
func (m *Message) setStopped(stop bool) {
	many := *m.Many
	many.Stopped = stop
	m.Many = &many
}

// isWord reports whether the message is not a push, but tells one to stop.
func (m *Message) isWord() bool { return m.Many != nil && m.Job != "" }

// wakeJob makes a push to many users due now if it was put aside. The worker first puts
// it aside and then reads the stop message; Resume first changes the stop message and
// then calls wakeJob. So one of the two always sees the other.
func (s *Service) wakeJob(ctx context.Context, id string) error {
	m, ok, err := s.store.Message(ctx, id)
	if !ok || err != nil || !m.Many.Stopped {
		return err
	}
	m.setStopped(false)
	m.NextTry = time.Now()
	return s.store.Update(ctx, m)
}

// waits reports whether the push to many users that a message belongs to is stopped.
// known caches the answers.
func (s *Service) waits(ctx context.Context, job string, known map[string]bool) bool {
	stop, asked := known[job]
	if !asked {
		var err error
		if stop, err = s.stopped(ctx, job); err != nil {
			return true
		}
		known[job] = stop
	}
	return stop
}
