package sim

import (
	"net/http"
	"sync"
)

// Service is a Server that receives pushes P and answers them with behaviours B. Set its
// fields before Serve.
type Service[P, B any] struct {
	*Server
	// OnPush is called with each push, in the push's own goroutine, before it is
	// answered. It may be nil, and must not block.
	OnPush func(P)

	recorder Recorder[P]
	all      Script[B] // for those without a script
}

// NewService opens the listener. The service keeps the last record pushes: 0 means 1000,
// negative none.
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

// BehaveAll sets how pushes to tokens without their own script are answered: each push
// uses the next behaviour, and the last one is used again and again. Without any, pushes
// are delivered.
func (s *Service[P, B]) BehaveAll(script ...B) { s.all.Set(script) }

// Behaviour returns the next behaviour of the script, or else of the script for all.
func (s *Service[P, B]) Behaviour(of *Script[B]) B {
	if b, ok := of.Next(); ok {
		return b
	}
	b, _ := s.all.Next()
	return b
}

// Record records a push that was answered, and whether it was accepted.
func (s *Service[P, B]) Record(p P, accepted bool) {
	s.recorder.Add(p, accepted)
	s.Tell(p)
}

// Tell passes a push to OnPush.
func (s *Service[P, B]) Tell(p P) {
	if s.OnPush != nil {
		s.OnPush(p)
	}
}

// Pushes returns the last pushes, the oldest first.
func (s *Service[P, B]) Pushes() []P { return s.recorder.Last() }

// Counts returns how many pushes were accepted and refused since the start.
func (s *Service[P, B]) Counts() (accepted, refused uint64) { return s.recorder.Counts() }

// Fault is a connection failure in place of an answer.
type Fault int

// The faults. Not every service supports the last ones.
const (
	None    Fault = iota
	Silence       // the request is never answered
	Reset         // the stream is reset
	Drop          // the connection is closed
	GoAway        // GOAWAY that declares the push not processed, and the connection is closed
	Leave         // the push is delivered, and GOAWAY ends the connection afterwards
	Flood         // the answer is accepted, and its body never ends
)

// Fail executes f if it is a fault that every service supports, and reports whether it
// is. If so, there is nothing to answer.
func (s *Server) Fail(r *http.Request, f Fault) bool {
	switch f {
	case Silence:
		s.Silence(r)
	case Reset:
		panic(http.ErrAbortHandler)
	case Drop:
		_ = ConnOf(r).Close() // it is closed in any case
	default:
		return false
	}
	return true
}

// Devices are the devices of a service, by token. Safe for concurrent use.
type Devices[D any] struct {
	// Known: only tokens that were added exist. Set it before Serve.
	Known bool
	all   sync.Map // token to *D
}

// AddToken makes a token known.
func (d *Devices[D]) AddToken(token string) { d.all.LoadOrStore(token, new(D)) }

// Device returns the device of the token, or nil if the token does not exist.
func (d *Devices[D]) Device(token string) *D {
	v, ok := d.all.Load(token)
	if !ok && d.Known {
		return nil
	}
	if !ok {
		v, _ = d.all.LoadOrStore(token, new(D))
	}
	return v.(*D)
}

// Script is a list of behaviours to come. Safe for concurrent use.
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

// Next returns the next behaviour, and whether there is any. The last one is returned
// again and again.
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
