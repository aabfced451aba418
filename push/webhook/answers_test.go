package webhook_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/pushtest"
	"github.com/sipwake/sipwake/push/webhook"
)

// Every answer of the table has what it says there, and leaks no token. "*" is an
// answer that HTTP does not have.
func TestTableOfAnswers(t *testing.T) {
	table := webhook.Answers()
	for i := range table {
		if said := table[i].Said; said[len(said)-1] == "*" {
			table[i].Said = said[:len(said)-1]
		}
	}
	pushtest.Answers(t, table, simulated)
}

// A machine that has no more files is no reason to give a call up.
func TestStarved(t *testing.T) { pushtest.Starved(t, simulated(t)) }

// simulated is an app with the push service that the tests of all providers ask.
func simulated(t *testing.T) pushtest.Service {
	t.Helper()
	s, c := start(t)
	return pushtest.Service{
		App:     build(t, c)[0],
		Request: push.Request{Provider: "hms", App: "102345", Token: secret.NewToken(token), Values: push.Values{AOR: "bob@example.com"}},
		Answer: func(status int, word string) {
			s.answers(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"reason":%q,"id":%q}`, word, token)
			})
		},
		Hidden: []string{key},
	}
}
