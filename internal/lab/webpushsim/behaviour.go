package webpushsim

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// Behaviour is how the server answers a push that is without fault. The zero
// Behaviour delivers it.
type Behaviour struct {
	// Status refuses it; one of 2xx is answered without delivery.
	Status int
	// Reason is the service's word in the JSON body, as Apple has it.
	Reason string
	// RetryAfter and Location are the headers' values.
	RetryAfter string
	Location   string
	// Body replaces the JSON.
	Body string
	// Delay comes on top of the server's latency.
	Delay time.Duration
	Fault Fault
}

// Fault is a failure of the connection instead of an answer.
type Fault int

// The faults.
const (
	None    Fault = iota
	Silence       // the request is never answered
	Reset         // the stream is reset
	Drop          // the connection is closed
	Flood         // the answer is accepted, and its body never ends
)

// Push is one push that was accepted or refused. Its Token prints as a hash.
type Push struct {
	At       time.Time
	Token    secret.Token
	Status   int
	Reason   string
	Protocol string
	Header   http.Header
	Message  *Message // nil if it could not be read
}

// Behave sets how pushes to the URL of a subscription are answered: each takes
// the next behaviour, and the last one stays. None means delivery.
func (s *Server) Behave(uri string, script ...Behaviour) {
	s.find(uri).script.behave(script)
}

// BehaveAll sets how pushes to the subscriptions that have no script of their own are
// answered, as Behave does for one.
func (s *Server) BehaveAll(script ...Behaviour) { s.all.behave(script) }

// script is the behaviours to come. Safe for concurrent use.
type script struct {
	mu    sync.Mutex
	ahead []Behaviour
}

func (s *script) behave(ahead []Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

// next is the next behaviour, and whether there is a script.
func (s *script) next() (b Behaviour, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ahead) == 0 {
		return Behaviour{}, false
	}
	b = s.ahead[0]
	if len(s.ahead) > 1 {
		s.ahead = s.ahead[1:]
	}
	return b, true
}

// behaviour is that of the browser, or of all.
func (s *Server) behaviour(b *browser) Behaviour {
	if next, ok := b.script.next(); ok {
		return next
	}
	next, _ := s.all.next()
	return next
}

// OnDeliver has f called with each push that is delivered to the URL of a
// subscription, after the answer was sent and from the push's own goroutine. nil
// ends it.
func (s *Server) OnDeliver(uri string, f func(*Message)) {
	b := s.find(uri)
	if f == nil {
		b.onDeliver.Store(nil)
		return
	}
	b.onDeliver.Store(&f)
}

// act does what b says and reports whether the push is to be delivered.
func (s *Server) act(w http.ResponseWriter, r *http.Request, p *Push, b Behaviour) bool {
	switch b.Fault {
	case Silence:
		select {
		case <-r.Context().Done():
		case <-s.closing:
		}
		return false
	case Reset:
		panic(http.ErrAbortHandler)
	case Drop:
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			_ = c.Close() // closed is closed
		}
		return false
	case Flood:
		w.WriteHeader(http.StatusCreated)
		for block := make([]byte, 16<<10); ; {
			if _, err := w.Write(block); err != nil {
				return false
			}
		}
	}
	if b.Status == 0 {
		return true
	}
	s.refuse(w, p, b)
	return false
}

func (s *Server) refuse(w http.ResponseWriter, p *Push, b Behaviour) {
	p.Status, p.Reason = b.Status, b.Reason
	s.record(*p)
	if b.RetryAfter != "" {
		w.Header().Set("Retry-After", b.RetryAfter)
	}
	if b.Location != "" {
		w.Header().Set("Location", b.Location)
	}
	body := []byte(b.Body)
	if b.Body == "" && b.Reason != "" {
		body, _ = json.Marshal(map[string]string{"reason": b.Reason}) // a string is always fine
	}
	if b.Status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(b.Status)
	_, _ = w.Write(body) // the client may be gone
}

// record notes a push that was answered.
func (s *Server) record(p Push) {
	s.recorder.Add(p, p.Status == http.StatusCreated)
	s.tell(p)
}

// tell hands a push to whoever wants to see each.
func (s *Server) tell(p Push) {
	if s.options.OnPush != nil {
		s.options.OnPush(p)
	}
}

// Pushes returns the last pushes, the oldest first.
func (s *Server) Pushes() []Push { return s.recorder.Last() }

// Counts tells how many pushes were accepted and refused since the start.
func (s *Server) Counts() (accepted, refused uint64) { return s.recorder.Counts() }
