package webpushsim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/sipwake/sipwake/internal/lab/sim"
	"github.com/sipwake/sipwake/internal/secret"
)

// Behaviour is how the server answers a valid push. The zero Behaviour delivers it.
type Behaviour struct {
	// Status refuses the push; a 2xx is answered without delivery.
	Status int
	// Reason is the service's word in the JSON body, like Apple's.
	Reason string
	// RetryAfter and Location are the headers' values.
	RetryAfter string
	Location   string
	// Body replaces the JSON.
	Body string
	// Delay is added to the server's latency.
	Delay time.Duration
	Fault Fault
}

// Fault is a connection failure in place of an answer.
type Fault = sim.Fault

// The faults that the server supports.
const (
	None    = sim.None
	Silence = sim.Silence
	Reset   = sim.Reset
	Drop    = sim.Drop
	Flood   = sim.Flood
)

// Push is one push that was accepted or refused. Its Token does not print itself.
type Push struct {
	At       time.Time
	Token    secret.Token
	Status   int
	Reason   string
	Protocol string
	Header   http.Header
	Message  *Message // nil if it could not be read
}

// Behave sets how pushes to the URL of a subscription are answered: each push uses the
// next behaviour, and the last one is used again and again. Without any, pushes are
// delivered.
func (s *Server) Behave(uri string, script ...Behaviour) {
	s.find(uri).script.Set(script)
}

// OnDeliver sets the function that is called with each push that is delivered to the
// URL of a subscription, after the answer and in the push's own goroutine. nil removes
// it.
func (s *Server) OnDeliver(uri string, f func(*Message)) {
	b := s.find(uri)
	if f == nil {
		b.onDeliver.Store(nil)
		return
	}
	b.onDeliver.Store(&f)
}

// act executes b and reports whether to deliver the push.
func (s *Server) act(w http.ResponseWriter, r *http.Request, p *Push, b Behaviour) bool {
	if s.Fail(r, b.Fault) {
		return false
	}
	if b.Fault == Flood {
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
	s.Record(*p, false)
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
	_, _ = w.Write(body) // the client may have gone
}
