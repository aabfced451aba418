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
	// maxOrigins bounds the push services that are remembered. There are a few
	// in the world; one of them has some dozen hosts.
	maxOrigins = 256
	// maxSilences is after how many requests in a row that got no answer in time a
	// push service counts as silent.
	maxSilences = 3
	// patience is how long a push waits for a slot at a silent push service.
	patience = 500 * time.Millisecond
)

// origins are the push services in use, each with a share of the requests under
// way and connections of its own, so that what one does is not felt by the
// others. Safe for concurrent use.
type origins struct {
	share  int // of requests under way, for each origin
	fresh  func() *http.Transport
	clocks *push.Clocks

	mu     sync.Mutex
	byName map[string]*list.Element
	recent list.List // of *origin, the latest used first
	closed bool
}

// origin is one push service.
type origin struct {
	name  string
	slots chan struct{} // one element for each request under way
	// silences counts the requests that got no answer in time since the last
	// answer.
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

// line is a transport and the requests that it has under way.
type line struct {
	transport *http.Transport

	// Guarded by origins.mu.
	requests int
	retired  bool
}

func newOrigins(share int, fresh func() *http.Transport, log *slog.Logger) *origins {
	return &origins{share: share, fresh: fresh, clocks: push.NewClocks(log, string(pnparam.WebPush)), byName: make(map[string]*list.Element)}
}

// enter returns the origin of that name, which stays until leave; nil if there
// are too many.
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

// forgetOldest lets go of the origin that was not used for the longest time, and
// reports whether there was one to let go. The caller holds the lock.
func (s *origins) forgetOldest() bool {
	for e := s.recent.Back(); e != nil; e = e.Prev() {
		if e.Value.(*origin).pushes == 0 {
			s.forget(e)
			return true
		}
	}
	return false
}

// forget lets go of an origin without pushes. The caller holds the lock.
func (s *origins) forget(e *list.Element) {
	o := s.recent.Remove(e).(*origin)
	delete(s.byName, o.name)
	if o.line != nil {
		o.line.transport.CloseIdleConnections()
	}
}

// close lets go of every origin as soon as it has no pushes.
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

// roundTrip sends the request once, over the origin's connections, and hands the
// answer to read. After a request without an answer others get new connections;
// those of before are closed when their last request has ended.
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
		_ = resp.Body.Close() // only ever read from
	}

	s.mu.Lock()
	l.requests--
	if err != nil && !errors.Is(req.Context().Err(), context.Canceled) { // else it says nothing about the connection
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

// take gets a slot, and reports whether it got one before ctx ended. It waits: a
// burst is no reason to fail any. But few wait at a service that is silent, for
// a push that waits is one that another service cannot have under way.
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

// give returns the slot of a request that ended by an answer, or with ctx, or
// with its connection.
func (o *origin) give(ctx context.Context, answered bool) {
	switch {
	case answered:
		o.silences.Store(0)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		o.silences.Add(1)
	}
	<-o.slots
}

// authorize returns the header's value for a push now.
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

// correct takes the service's time from an answer that refused the header, and tells
// whether there is another one to try.
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

// accepted notes that the service took a push with the header.
func (o *origin) accepted(text string) {
	o.auth.Lock()
	defer o.auth.Unlock()
	if o.auth.cur.text == text {
		o.auth.cur.accepted = true
	}
}

// trusts reports whether the service has taken a push with the header.
func (o *origin) trusts(text string) bool {
	o.auth.Lock()
	defer o.auth.Unlock()
	return o.auth.cur.text == text && o.auth.cur.accepted
}
