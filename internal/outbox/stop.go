package outbox

import (
	"context"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// wordEvery is how often whoever works on a push to many users looks whether it is to
// stop.
const wordEvery = time.Second

// wordID is the ID of the message that says whether a push to many users is to stop.
// The push itself is written by whoever works on it.
func wordID(job string) string { return job + "-stop" }

// Stop stops a push to many users: within about a second nobody is pushed any more, and
// pushes to users who had their turn and are still queued wait. It answers at once;
// false if there is no such push of the caller. Resume lets it go on. One that has
// ended stays as it is.
func (s *Service) Stop(ctx context.Context, by wake.Caller, id string) (Message, bool, error) {
	return s.say(ctx, by, id, true)
}

// Resume lets a push to many users that was stopped go on where it was, until the
// deadline that it had from the beginning. Nobody is pushed twice.
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
		return m, true, &wake.ParamError{Field: "id", Problem: "is not that of a push to many users"}
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

// stopped reports whether the push to many users is to stop.
func (s *Service) stopped(ctx context.Context, job string) (bool, error) {
	word, ok, err := s.store.Message(ctx, wordID(job))
	return ok && word.Many != nil && word.Many.Stopped, err
}

// setStopped changes a push to many users, and not what others have of it.
func (m *Message) setStopped(stop bool) {
	many := *m.Many
	many.Stopped = stop
	m.Many = &many
}

// isWord reports whether the message is no push, but says that one is to stop.
func (m *Message) isWord() bool { return m.Many != nil && m.Job != "" }

// wakeJob has a push to many users worked on that was put aside, if it is. Whoever
// puts it aside looks for the word after that, and Resume gives the word before this: one
// of the two sees the other.
func (s *Service) wakeJob(ctx context.Context, id string) error {
	m, ok, err := s.store.Message(ctx, id)
	if !ok || err != nil || !m.Many.Stopped {
		return err
	}
	m.setStopped(false)
	m.NextTry = time.Now()
	return s.store.Update(ctx, m)
}

// waits reports whether the push to many users that a message belongs to is to stop;
// known are the answers so far.
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
