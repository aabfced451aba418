// Package pushtest contains the tests that every provider of package push must pass.
package pushtest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// Service is a simulated push service and an app that pushes through it.
type Service struct {
	App push.App
	// Request is a push to the app, with a token; kind and deadline are set here.
	Request push.Request
	// Answer sets the service's answer to the next push of Request. The word is one
	// from the table, or the token itself if the table gives no word.
	Answer func(status int, word string)
	// Hidden are further secrets, beside the token, that must not appear in any
	// output.
	Hidden []string
}

// Answers makes a service give every answer of a provider's table, over the network.
// It fails if the resulting reason differs from the table, or if the token or another
// hidden text appears in the outcome, the log or the metrics. It calls start for each
// answer, and once more.
func Answers(t *testing.T, table []push.Answer, start func(t *testing.T) Service) {
	t.Helper()
	if s := start(t); s.App.Chain == nil && s.App.Provider != pnparam.WebPush { // which has no service of its own
		t.Error("the app does not watch until when its service is trusted")
	}
	for _, row := range table {
		for _, said := range row.Said {
			t.Run(strings.ReplaceAll(said, "*", "any"), func(t *testing.T) {
				s := start(t)
				s.Answer(parse(said, s.Request.Token.Reveal()))
				o, text := send(t, s)
				if o.Reason != row.Reason {
					t.Errorf("%s, want %s", o.Reason, row.Reason)
				}
				token := s.Request.Token.Reveal()
				for _, hidden := range append(s.Hidden, token, token[len(token)/2:]) {
					if strings.Contains(text, hidden) {
						t.Errorf("%q is in %s", hidden, text)
					}
				}
			})
		}
	}
}

// parse turns an answer of the table into one that a service can give.
func parse(said, token string) (status int, word string) {
	code, word, _ := strings.Cut(said, " ")
	if word == "*" {
		word = token
	}
	switch status, err := strconv.Atoi(code); {
	case err == nil && len(code) == 3: // otherwise it is the service's own number
		return status, word
	case code == "*":
		return http.StatusTeapot, token
	case strings.HasSuffix(code, "xx"):
		return int(code[0]-'0')*100 + 11, token
	}
	return http.StatusBadRequest, said
}

// send pushes once through a dispatcher and returns all output.
func send(t *testing.T, s Service) (o push.Outcome, text string) {
	t.Helper()
	log := &buffer{}
	reg := prometheus.NewRegistry()
	d := push.NewDispatcher(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), reg)
	s.App.Limits.Tries, s.App.Fingerprint = 1, ""
	if err := d.SetApps([]push.App{s.App}); err != nil {
		t.Fatal(err)
	}
	s.Request.Kind, s.Request.Deadline = push.Chat, time.Now().Add(time.Minute)
	done := make(chan push.Outcome, 1)
	d.Push(context.Background(), s.Request, func(o push.Outcome) { done <- o })
	o = <-done
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if err := d.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	return o, fmt.Sprintf("%+v %#v\n%s%s", o, o, log, w.Body)
}

// buffer is a log that several goroutines write to.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
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
