package apnssim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// Behaviour is how the server answers a push that is without fault. The zero
// Behaviour delivers it.
type Behaviour struct {
	// Status and Reason refuse it with Apple's JSON body.
	Status int
	Reason string
	// Timestamp is when the token died, for 410.
	Timestamp time.Time
	// RetryAfter is the header's value.
	RetryAfter string
	// Body replaces Apple's JSON, for answers of something on the way.
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
	Silence       // the stream is never answered
	Reset         // the stream is reset
	Drop          // the connection is closed
	GoAway        // GOAWAY that declares the push not processed, and the connection is closed
	Leave         // the push is delivered, and GOAWAY ends the connection afterwards
)

// Push is one push that was accepted or refused. Its Token prints as a hash.
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

// device is what the server knows of a token.
type device struct {
	onDeliver atomic.Pointer[func([]byte, http.Header)]

	mu     sync.Mutex
	script []Behaviour
	away   bool
	stored map[string]stored // by topic
}

// stored is a push for a device that is away. Apple keeps one for each topic.
type stored struct {
	body    []byte
	header  http.Header
	expires time.Time
}

// SetAway says whether the device of the token is out of reach: then the last push of
// each topic waits for it until its apns-expiration, and one with 0 is lost. What
// waits is delivered when the device is back, from the caller's goroutine.
func (s *Server) SetAway(token string, away bool) {
	s.AddToken(token)
	d := s.device(token)
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

// keep stores the push if the device is away, and reports whether it is.
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

func (s *Server) device(token string) *device {
	if d, ok := s.devices.Load(token); ok {
		return d.(*device)
	}
	if s.options.KnownTokens {
		return nil
	}
	d, _ := s.devices.LoadOrStore(token, new(device))
	return d.(*device)
}

// AddToken makes a token known.
func (s *Server) AddToken(token string) { s.devices.LoadOrStore(token, new(device)) }

// Behave sets how pushes to the token are answered: each takes the next
// behaviour, and the last one stays. None means delivery.
func (s *Server) Behave(token string, script ...Behaviour) {
	s.AddToken(token)
	s.device(token).behave(script)
}

// BehaveAll sets how pushes to the tokens that have no script of their own are
// answered, as Behave does for one.
func (s *Server) BehaveAll(script ...Behaviour) { s.all.behave(script) }

// OnDeliver has f called with each push that is delivered to the token, after
// the answer was sent and from the push's own goroutine. nil ends it.
func (s *Server) OnDeliver(token string, f func(payload []byte, header http.Header)) {
	s.AddToken(token)
	d := s.device(token)
	if f == nil {
		d.onDeliver.Store(nil)
		return
	}
	d.onDeliver.Store(&f)
}

func (d *device) behave(script []Behaviour) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script = script
}

// next is the script's next behaviour, and whether there is a script.
func (d *device) next() (b Behaviour, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.script) == 0 {
		return Behaviour{}, false
	}
	b = d.script[0]
	if len(d.script) > 1 {
		d.script = d.script[1:]
	}
	return b, true
}

// behaviour is that of the device, or of all.
func (s *Server) behaviour(d *device) Behaviour {
	if b, ok := d.next(); ok {
		return b
	}
	b, _ := s.all.next()
	return b
}

// act does what b says and reports whether the push is to be delivered.
func (s *Server) act(w http.ResponseWriter, r *http.Request, c *conn, p *Push, b Behaviour) bool {
	switch b.Fault {
	case Silence:
		s.silence(r)
		return false
	case Reset:
		panic(http.ErrAbortHandler)
	case Drop:
		_ = c.net.Close() // closed is closed
		return false
	case GoAway:
		c.goAway()
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
	s.record(*p)
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
	_, _ = w.Write(body) // the client may be gone
}

// record notes a push that was answered.
func (s *Server) record(p Push) {
	s.recorder.Add(p, p.Status == http.StatusOK)
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
