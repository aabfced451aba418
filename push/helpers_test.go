package push_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a push service that answers as its function says. It honours the
// contract: Push returns when the context ends.
type service struct {
	answer func(ctx context.Context, n *push.Notification) push.Reply
	tries  atomic.Int64
	closed atomic.Int64
}

func (s *service) Push(ctx context.Context, n *push.Notification) push.Reply {
	s.tries.Add(1)
	return s.answer(ctx, n)
}

func (s *service) Close() { s.closed.Add(1) }

// answers gives each reason in turn, and the last one for ever.
func answers(reasons ...push.Reason) *service {
	var i atomic.Int64
	return &service{answer: func(context.Context, *push.Notification) push.Reply {
		n := int(i.Add(1)) - 1
		return push.Reply{Reason: reasons[min(n, len(reasons)-1)], Detail: "because"}
	}}
}

// silent never answers.
func silent() *service {
	return &service{answer: func(ctx context.Context, _ *push.Notification) push.Reply {
		<-ctx.Done()
		return push.Reply{Reason: push.Timeout}
	}}
}

// gated answers Accepted for each value that the gate gives, in order of the
// tries, whose payloads it sends to started first.
type gate struct {
	service
	started chan string
	open    chan struct{}
}

func gated() *gate {
	g := &gate{started: make(chan string, 10_000), open: make(chan struct{})}
	g.answer = func(ctx context.Context, n *push.Notification) push.Reply {
		g.started <- string(n.Kind)
		select {
		case <-g.open:
			return push.Reply{Reason: push.Accepted}
		case <-ctx.Done():
			return push.Reply{Reason: push.Timeout}
		}
	}
	return g
}

// rig is a dispatcher with what it tells the outside.
type rig struct {
	*push.Dispatcher
	t   *testing.T
	reg *prometheus.Registry
	log *buffer
}

func newRig(t *testing.T, apps ...push.App) *rig {
	t.Helper()
	r := &rig{t: t, reg: prometheus.NewRegistry(), log: &buffer{}}
	said := leak.Record("push")
	t.Cleanup(func() { said.Close() })
	log := slog.New(slog.NewTextHandler(io.MultiWriter(r.log, said), &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.Dispatcher = push.NewDispatcher(log, r.reg)
	if err := r.SetApps(apps); err != nil {
		t.Fatal(err)
	}
	return r
}

// stop stops the dispatcher, which must have nothing left to do.
func (r *rig) stop() {
	r.t.Helper()
	if err := r.Stop(context.Background()); err != nil {
		r.t.Errorf("Stop: %v", err)
	}
}

// send pushes and waits for the outcome.
func (r *rig) send(req push.Request) push.Outcome {
	done := make(chan push.Outcome, 1)
	r.Push(context.Background(), req, func(o push.Outcome) { done <- o })
	return <-done
}

// start pushes and returns where the outcome will come.
func (r *rig) start(ctx context.Context, req push.Request) <-chan push.Outcome {
	done := make(chan push.Outcome, 1)
	r.Push(ctx, req, func(o push.Outcome) { done <- o })
	return done
}

// metrics returns the exposition without comments.
func (r *rig) metrics() string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		r.t.Errorf("metrics: %s", w.Body)
	}
	return w.Body.String()
}

func (r *rig) wantMetric(line string) {
	r.t.Helper()
	if !strings.Contains(r.metrics(), line+"\n") {
		var near []string
		name, _, _ := strings.Cut(line, "{")
		for l := range strings.Lines(r.metrics()) {
			if strings.HasPrefix(l, name) {
				near = append(near, l)
			}
		}
		r.t.Errorf("metrics lack %s; there are\n%s", line, strings.Join(near, ""))
	}
}

const (
	theApp   = "com.example.phone"
	theToken = "a0b1c2d3e4f5"
)

func fcmApp(client push.Provider, change ...func(*push.App)) push.App {
	a := push.App{Provider: pnparam.FCM, Packages: []string{theApp}, Client: client}
	for _, c := range change {
		c(&a)
	}
	return a
}

// request is a push with a minute to live.
func request(kind push.Kind) push.Request {
	return push.Request{
		Kind: kind, Provider: pnparam.FCM, App: theApp, Token: secret.NewToken(theToken),
		Values:   push.Values{AOR: "bob@example.com", From: "sip:alice@example.com", User: "alice", CallID: "call-1"},
		Deadline: time.Now().Add(time.Minute),
	}
}

// buffer is a log that many goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// lines returns those that hold the text.
func (b *buffer) lines(text string) []string {
	var found []string
	for l := range strings.Lines(b.String()) {
		if strings.Contains(l, text) {
			found = append(found, l)
		}
	}
	return found
}
