package webhook

import (
	"net/http"

	"github.com/sipwake/sipwake/push"
)

// Answers lists what the operator's service may answer, other than accepting: a
// status, or a reason in its JSON body, which is more specific.
func Answers() []push.Answer {
	return []push.Answer{
		{
			Said:  []string{"token_dead", "410"},
			About: push.AboutToken, Reason: push.TokenDead,
		},
		{
			Said:  []string{"token_bad"},
			About: push.AboutToken, Reason: push.TokenBad,
		},
		{
			Said:  []string{"credential", "401", "403", "407"},
			About: push.AboutCredential, Reason: push.Credential,
		},
		{
			Said:  []string{"throttled", "429"},
			About: push.AboutService, Reason: push.Throttled,
		},
		{
			Said:  []string{"unavailable", "404", "405", "408", "425", "3xx", "5xx", "*"},
			About: push.AboutService, Reason: push.Unavailable,
		},
		{
			Said:  []string{"bad_request", "4xx"},
			About: push.AboutPush, Reason: push.BadRequest,
		},
	}
}

// outcome uses the service's own word, if it is one that a service may say.
func outcome(answers push.Answers, status int, word push.Reason) push.Answer {
	switch word {
	case push.TokenDead, push.TokenBad, push.Credential, push.BadRequest, push.Throttled, push.Unavailable:
		return answers.Find(status, string(word))
	}
	if status >= http.StatusOK && status < http.StatusMultipleChoices {
		return push.Answer{Reason: push.Accepted}
	}
	return answers.Find(status, "")
}
