package webpush

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

const (
	// maxOrigins limits the number of push services to remember. There are only a
	// few in the world; one of them has some dozen hosts.
	maxOrigins = 256
	// maxSilences is the number of consecutive requests without an answer in time
	// after which a push service counts as silent.
	maxSilences = 3
	// patience is how long a push waits for a slot at a silent push service.
	patience = 500 * time.Millisecond
)

// origins are the push services in use. Each has its own connections and a share of
// the requests in flight, so that none affects the others. Safe for concurrent use.
type origins struct {
	share  int // of requests in flight, for each origin
	fresh  func() *http.Transport
	clocks *push.Clocks

	mu     sync.Mutex
	byName map[string]*list.Element
	recent list.List // of *origin, the most recently used first
	closed bool
}

// origin is one push service.
type origin struct {
	name  string
	slots chan struct{} // one element per request in flight
	// silences counts the requests without an answer in time since the last answer.
	silences atomic.Int32

	auth struct {
		sync.Mutex
		cur  authorization
		skew *push.Skew
	}

	// Guarded by origins.mu.
	pushes int
	line   *line // nil until used
}

// line is a transport with its requests in flight.
type line struct {
	transport *http.Transport

	// Guarded by origins.mu.
	requests int
	retired  bool
}

func newOrigins(share int, fresh func() *http.Transport, log *slog.Logger) *origins {
	return &origins{share: share, fresh: fresh, clocks: push.NewClocks(log, string(pnparam.WebPush)), byName: make(map[string]*list.Element)}
}

// enter returns the origin of that name and keeps it until leave. It returns nil if
// there are too many.
func (s *origins) enter(name string) *origin {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byName[name]
	if e == nil {
		if s.recent.Len() >= maxOrigins && !s.forgetOldest() {
			return nil
		}
		o := &origin{name: name, slots: make(chan struct{}, s.share)}
		o.auth.skew = s.clocks.Skew(name)
		e = s.recent.PushFront(o)
		s.byName[name] = e
	}
	s.recent.MoveToFront(e)
	o := e.Value.(*origin)
	o.pushes++
	return o
}

func (s *origins) leave(o *origin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.pushes--
	if s.closed && o.pushes == 0 {
		s.forget(s.byName[o.name])
	}
}

// forgetOldest removes the least recently used origin, and reports whether there was
// one that could be removed. The caller holds the lock.
func (s *origins) forgetOldest() bool {
	for e := s.recent.Back(); e != nil; e = e.Prev() {
		if e.Value.(*origin).pushes == 0 {
			s.forget(e)
			return true
		}
	}
	return false
}

// forget removes an origin without pushes. The caller holds the lock.
func (s *origins) forget(e *list.Element) {
	o := s.recent.Remove(e).(*origin)
	delete(s.byName, o.name)
	if o.line != nil {
		o.line.transport.CloseIdleConnections()
	}
}

// close removes every origin as soon as it has no pushes.
func (s *origins) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for e := s.recent.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*origin).pushes == 0 {
			s.forget(e)
		}
		e = next
	}
}

// roundTrip sends the request once, over the origin's connections, and passes the
// answer to read. After a request without an answer, other requests get new
// connections. The old ones are closed when their last request has ended.
func (s *origins) roundTrip(o *origin, req *http.Request, read func(*http.Response)) error {
	s.mu.Lock()
	if o.line == nil {
		o.line = &line{transport: s.fresh()}
	}
	l := o.line
	l.requests++
	s.mu.Unlock()

	resp, err := l.transport.RoundTrip(req)
	if err == nil {
		read(resp)
		_ = resp.Body.Close() // only read from
	}

	s.mu.Lock()
	l.requests--
	if err != nil && !errors.Is(req.Context().Err(), context.Canceled) { // the connection may be bad
		l.retired = true
		if o.line == l {
			o.line = nil
		}
	}
	over := l.retired && l.requests == 0
	s.mu.Unlock()
	if over {
		l.transport.CloseIdleConnections()
	}
	return err
}

// take gets a slot, and reports whether it got one before ctx ended. It waits,
// because a burst is no reason to fail a push. But few may wait for a silent service,
// since a waiting push takes a place that another service could use.
func (o *origin) take(ctx context.Context) bool {
	select {
	case o.slots <- struct{}{}:
		return true
	default:
	}
	if o.silences.Load() >= maxSilences {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	select {
	case o.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// give returns the slot of a request that ended with an answer, with ctx, or with its
// connection.
func (o *origin) give(ctx context.Context, answered bool) {
	switch {
	case answered:
		o.silences.Store(0)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		o.silences.Add(1)
	}
	<-o.slots
}

// authorize returns the Authorization value for a push now.
func (o *origin) authorize(v *vapid, now time.Time) (string, error) {
	o.auth.Lock()
	defer o.auth.Unlock()
	now = o.auth.skew.At(now)
	if a := &o.auth.cur; a.text == "" || !now.Before(a.renewAt) || a.renewAt.Sub(now) > signedHold {
		next, err := v.sign(o.name, now)
		if err != nil {
			return "", err
		}
		*a = next
	}
	return o.auth.cur.text, nil
}

// correct takes the service's time from an answer that refused the header, and
// reports whether there is another header to try.
func (o *origin) correct(text string, answer http.Header, now time.Time) bool {
	o.auth.Lock()
	defer o.auth.Unlock()
	if o.auth.cur.text == text {
		if !o.auth.skew.Learn(answer.Get("Date"), now) {
			return false
		}
		o.auth.cur = authorization{}
	}
	return true
}

// accepted records that the service accepted a push with the header.
func (o *origin) accepted(text string) {
	o.auth.Lock()
	defer o.auth.Unlock()
	if o.auth.cur.text == text {
		o.auth.cur.accepted = true
	}
}

// trusts reports whether the service has accepted a push with the header.
func (o *origin) trusts(text string) bool {
	o.auth.Lock()
	defer o.auth.Unlock()
	return o.auth.cur.text == text && o.auth.cur.accepted
}
