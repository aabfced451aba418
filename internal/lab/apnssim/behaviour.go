package apnssim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/sim"
	"github.com/sipwake/sipwake/internal/secret"
)

// Behaviour is how the server answers a valid push. The zero Behaviour delivers it.
type Behaviour struct {
	// Status and Reason refuse the push with Apple's JSON body.
	Status int
	Reason string
	// Timestamp is when the token died, for 410.
	Timestamp time.Time
	// RetryAfter is the header's value.
	RetryAfter string
	// Body replaces Apple's JSON, to simulate the answer of a middlebox.
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
	GoAway  = sim.GoAway
	Leave   = sim.Leave
)

// Push is one push that was accepted or refused. Its Token does not print itself.
type Push struct {
	At         time.Time
	Token      secret.Token
	Status     int
	Reason     string
	Topic      string
	PushType   string
	Priority   string
	Expiration string
	CollapseID string
	Team       string // from the provider token
	Connection int    // 1 for the first connection, and so on
	Payload    []byte
}

// device is the state of a token.
type device struct {
	onDeliver atomic.Pointer[func([]byte, http.Header)]

	script sim.Script[Behaviour]

	mu     sync.Mutex
	away   bool
	stored map[string]stored // by topic
}

// stored is a push for a device that is away. Apple stores one for each topic.
type stored struct {
	body    []byte
	header  http.Header
	expires time.Time
}

// SetAway sets whether the device of the token is unreachable. While it is, the last push
// of each topic is stored until its apns-expiration; a push with 0 is lost. Stored pushes
// are delivered when the device is back, in the caller's goroutine.
func (s *Server) SetAway(token string, away bool) {
	s.AddToken(token)
	d := s.Device(token)
	d.mu.Lock()
	d.away = away
	var due []stored
	if !away {
		for _, p := range d.stored {
			if p.expires.After(time.Now()) {
				due = append(due, p)
			}
		}
		d.stored = nil
	}
	d.mu.Unlock()
	for _, p := range due {
		d.deliver(p)
	}
}

// keep stores the push if the device is away, and reports whether the device is away.
func (d *device) keep(p stored, topic string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away && p.expires.After(time.Now()) {
		if d.stored == nil {
			d.stored = make(map[string]stored)
		}
		d.stored[topic] = p
	}
	return d.away
}

func (d *device) deliver(p stored) {
	if f := d.onDeliver.Load(); f != nil {
		(*f)(p.body, p.header)
	}
}

// Behave sets how pushes to the token are answered: each push uses the next behaviour,
// and the last one is used again and again. Without any, pushes are delivered.
func (s *Server) Behave(token string, script ...Behaviour) {
	s.AddToken(token)
	s.Device(token).script.Set(script)
}

// OnDeliver sets the function that is called with each push that is delivered to the
// token, after the answer and in the push's own goroutine. nil removes it.
func (s *Server) OnDeliver(token string, f func(payload []byte, header http.Header)) {
	s.AddToken(token)
	d := s.Device(token)
	if f == nil {
		d.onDeliver.Store(nil)
		return
	}
	d.onDeliver.Store(&f)
}

// act executes b and reports whether to deliver the push.
func (s *Server) act(w http.ResponseWriter, r *http.Request, p *Push, b Behaviour) bool {
	if s.Fail(r, b.Fault) {
		return false
	}
	switch b.Fault {
	case GoAway:
		goAway(sim.ConnOf(r))
		return false
	case Leave:
		w.Header().Set("Connection", "close") // the HTTP/2 server makes a GOAWAY of it
	}
	if b.Status == 0 || b.Status == http.StatusOK {
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
	body := []byte(b.Body)
	if b.Body == "" {
		answer := map[string]any{"reason": b.Reason}
		if !b.Timestamp.IsZero() {
			answer["timestamp"] = b.Timestamp.UnixMilli()
		}
		body, _ = json.Marshal(answer) // a string and a number
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(b.Status)
	_, _ = w.Write(body) // the client may have gone
}
