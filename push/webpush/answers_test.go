package webpush_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/webpushsim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/pushtest"
	"github.com/sipwake/sipwake/push/webpush"
)

// Every answer of the table has what it says there, and leaks no push URI.
func TestTableOfAnswers(t *testing.T) {
	pushtest.Answers(t, webpush.Answers(), simulated)
}

// A machine that has no more files is no reason to give a call up.
func TestStarved(t *testing.T) { pushtest.Starved(t, simulated(t)) }

// simulated is an app with the push service that the tests of all providers ask.
func simulated(t *testing.T) pushtest.Service {
	t.Helper()
	sim, c := start(t, webpushsim.Options{})
	app := build(t, c)
	sub := subscribe(t, sim, c)
	return pushtest.Service{
		App:     app,
		Request: push.Request{Provider: pnparam.WebPush, Token: secret.NewToken(sub.URL), Values: push.Values{AOR: "bob@example.com"}},
		Answer: func(status int, word string) {
			if strings.HasPrefix(word, "to a signature") {
				word = ""
				if r := app.Client.Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.Accepted {
					t.Fatalf("before: %+v", r)
				}
			}
			b := webpushsim.Behaviour{Status: status, Reason: word}
			if word == "" {
				b.Body = sub.URL
			}
			sim.Behave(sub.URL, b)
		},
		Hidden: []string{"eyJ", "PRIVATE"},
	}
}
