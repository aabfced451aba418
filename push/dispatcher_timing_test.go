package push_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

const benchInFlight = 128

// post is a Provider over HTTP/2, as light as a real one can be.
type post struct {
	client *http.Client
	url    string
}

func (p *post) Push(ctx context.Context, n *push.Notification) push.Reply {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(string(n.Payload)))
	if err != nil {
		return push.Reply{Reason: push.BadRequest}
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return push.Reply{Reason: push.Unavailable}
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return push.Reply{Reason: push.Accepted}
}

func (p *post) Close() { p.client.CloseIdleConnections() }

func newPost(b *testing.B) *post {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	b.Cleanup(s.Close)
	return &post{client: s.Client(), url: s.URL}
}

func benchDispatcher(b testing.TB, client push.Provider) *push.Dispatcher {
	d := push.NewDispatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	app := fcmApp(client, func(a *push.App) { a.Limits = push.Limits{InFlight: benchInFlight, Queue: 1 << 19} })
	if err := d.SetApps([]push.App{app}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Stop(context.Background()) })
	return d
}

func benchRequest() push.Request {
	r := aCall
	r.Provider, r.Deadline = "fcm", time.Now().Add(time.Hour)
	return r
}

// pushAll pushes b.N times, at most twice as many at once as may be in flight,
// and waits for all.
func pushAll(b *testing.B, d *push.Dispatcher, r push.Request) {
	room := make(chan struct{}, 2*benchInFlight)
	var wg sync.WaitGroup
	for b.Loop() {
		room <- struct{}{}
		wg.Add(1)
		d.Push(context.Background(), r, func(o push.Outcome) {
			if o.Reason != push.Accepted {
				b.Errorf("outcome %+v", o)
			}
			<-room
			wg.Done()
		})
	}
	wg.Wait()
}

// BenchmarkDispatcher is what the dispatcher itself costs.
func BenchmarkDispatcher(b *testing.B) {
	b.ReportAllocs()
	pushAll(b, benchDispatcher(b, answers(push.Accepted)), benchRequest())
}

// BenchmarkDispatcherHTTP2 is to be compared with BenchmarkBareHTTP2, the same
// requests without a dispatcher.
func BenchmarkDispatcherHTTP2(b *testing.B) {
	b.ReportAllocs()
	pushAll(b, benchDispatcher(b, newPost(b)), benchRequest())
}

func BenchmarkBareHTTP2(b *testing.B) {
	client := newPost(b)
	r := benchRequest()
	payload, err := push.DefaultTemplates(r.Provider).Payload(nil, &r, 4096)
	if err != nil {
		b.Fatal(err)
	}
	n := &push.Notification{Kind: r.Kind, Token: secret.NewToken(theToken), Payload: payload, Deadline: r.Deadline}
	b.ReportAllocs()
	work := make(chan struct{})
	var wg sync.WaitGroup
	for range benchInFlight {
		wg.Go(func() {
			for range work {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				if reply := client.Push(ctx, n); reply.Reason != push.Accepted {
					b.Errorf("reply %+v", reply)
				}
				cancel()
			}
		})
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
}
