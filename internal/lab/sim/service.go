package sim

import (
	"net/http"
	"sync"
)

// Service is a Server that is sent pushes P and answers them by behaviours B. Its fields
// are set before Serve.
type Service[P, B any] struct {
	*Server
	// OnPush is called with each push, in the push's own goroutine, before it is
	// answered. It may be nil, and must not block.
	OnPush func(P)

	recorder Recorder[P]
	all      Script[B] // for those without a script
}

// NewService listens. It keeps the last pushes, as many as record says: 0 means 1000,
// less than zero none.
func NewService[P, B any](c Config, record int, onPush func(P)) (*Service[P, B], error) {
	server, err := Listen(c)
	if err != nil {
		return nil, err
	}
	if record == 0 {
		record = 1000
	}
	return &Service[P, B]{Server: server, OnPush: onPush, recorder: Recorder[P]{Most: record}}, nil
}

// BehaveAll sets how pushes to the tokens that have no script of their own are
// answered: each takes the next behaviour, and the last one stays. None means delivery.
func (s *Service[P, B]) BehaveAll(script ...B) { s.all.Set(script) }

// Behaviour returns the next of the script, or of that for all.
func (s *Service[P, B]) Behaviour(of *Script[B]) B {
	if b, ok := of.Next(); ok {
		return b
	}
	b, _ := s.all.Next()
	return b
}

// Record notes a push that was answered, and whether it was accepted.
func (s *Service[P, B]) Record(p P, accepted bool) {
	s.recorder.Add(p, accepted)
	s.Tell(p)
}

// Tell hands a push to whoever wants to see each.
func (s *Service[P, B]) Tell(p P) {
	if s.OnPush != nil {
		s.OnPush(p)
	}
}

// Pushes returns the last pushes, the oldest first.
func (s *Service[P, B]) Pushes() []P { return s.recorder.Last() }

// Counts returns how many pushes were accepted and refused since the start.
func (s *Service[P, B]) Counts() (accepted, refused uint64) { return s.recorder.Counts() }

// Fault is a failure of the connection instead of an answer.
type Fault int

// The faults. Not every service has those of the last lines.
const (
	None    Fault = iota
	Silence       // the request is never answered
	Reset         // the stream is reset
	Drop          // the connection is closed
	GoAway        // GOAWAY that declares the push not processed, and the connection is closed
	Leave         // the push is delivered, and GOAWAY ends the connection afterwards
	Flood         // the answer is accepted, and its body never ends
)

// Fail makes one of the faults that every service has, and reports whether f is one:
// then there is nothing to answer.
func (s *Server) Fail(r *http.Request, f Fault) bool {
	switch f {
	case Silence:
		s.Silence(r)
	case Reset:
		panic(http.ErrAbortHandler)
	case Drop:
		_ = ConnOf(r).Close() // closed is closed
	default:
		return false
	}
	return true
}

// Script is the behaviours to come. Safe for concurrent use.
type Script[B any] struct {
	mu    sync.Mutex
	ahead []B
}

// Set replaces what is to come.
func (s *Script[B]) Set(ahead []B) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

// Next returns the next behaviour, of which the last one stays, and whether there is any.
func (s *Script[B]) Next() (b B, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ahead) == 0 {
		return b, false
	}
	b = s.ahead[0]
	if len(s.ahead) > 1 {
		s.ahead = s.ahead[1:]
	}
	return b, true
}
