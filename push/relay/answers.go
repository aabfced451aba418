package relay

import "github.com/sipwake/sipwake/push"

// Answers lists what a relay may answer, other than accepting: the reason that its
// push ended with, or an HTTP status, to which JSON-RPC errors are mapped too.
func Answers() []push.Answer {
	return []push.Answer{
		{
			Said:  []string{"token_dead"},
			About: push.AboutToken, Reason: push.TokenDead,
		},
		{
			Said:  []string{"token_bad", "no_token"},
			About: push.AboutToken, Reason: push.TokenBad,
		},
		{
			Said:  []string{"credential", "401", "403", "407"},
			About: push.AboutCredential, Reason: push.Credential,
		},
		{
			Said:  []string{"throttled", "queue_full", "429"},
			About: push.AboutService, Reason: push.Throttled,
		},
		{
			Said:  []string{"unavailable", "breaker_open", "shut_down", "404", "405", "408", "425", "3xx", "5xx"},
			About: push.AboutService, Reason: push.Unavailable,
		},
		{
			Said:  []string{"timeout", "expired", "dropped"},
			About: push.AboutPush, Reason: push.Timeout,
		},
		{
			Said:  []string{"bad_request", "no_app", "policy", "denied", "4xx", "*"},
			About: push.AboutPush, Reason: push.BadRequest,
		},
	}
}
