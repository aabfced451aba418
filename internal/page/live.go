package page

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"
)

// Limits of live updates.
const (
	liveEvery   = time.Second
	maxWatchers = 16
	liveFor     = 10 * time.Minute // then the browser reconnects and sends its password again
)

// live sends the overview to the browsers that watch it. It renders it once for all.
type live struct {
	render   func(context.Context) ([]byte, error)
	watchers chan struct{}

	mu   sync.Mutex
	at   time.Time
	text []byte
}

func newLive(render func(context.Context) ([]byte, error)) *live {
	return &live{render: render, watchers: make(chan struct{}, maxWatchers)}
}

// now returns the overview, at most liveEvery old.
func (l *live) now(ctx context.Context) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) >= liveEvery {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if text, err := l.render(ctx); err == nil {
			l.text, l.at = text, time.Now()
		}
	}
	return l.text
}

func (l *live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case l.watchers <- struct{}{}:
		defer func() { <-l.watchers }()
	default:
		http.Error(w, "too many browsers watch already: close one, or load the page by hand", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), liveFor)
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	c := http.NewResponseController(w)
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		// The server's own deadline is for one page.
		if err := c.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return
		}
		text := bytes.ReplaceAll(bytes.TrimSpace(l.now(ctx)), []byte("\n"), []byte("\ndata: "))
		if _, err := w.Write(append(append([]byte("data: "), text...), "\n\n"...)); err != nil || c.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
