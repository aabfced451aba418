package acrobits

import "github.com/sipwake/sipwake/push"

// Answers lists what the mediator may answer, other than HTTP 2xx with the code 200:
// an HTTP status and the code in its JSON body. An answer without a code comes not
// from the mediator but from an intermediary, which knows neither the token nor the
// app.
func Answers() []push.Answer {
	return []push.Answer{
		{
			Said:  []string{"200 404", "404 404", "200 410", "410 410"},
			About: push.AboutToken, Reason: push.TokenDead,
		},
		{
			Said:  []string{"200 401", "401 401", "200 403", "403 403", "200 407", "407 407"},
			About: push.AboutToken, Reason: push.TokenBad,
		},
		{
			Said:  []string{"200 429", "429"},
			About: push.AboutService, Reason: push.Throttled,
		},
		{
			Said:  []string{"200 400", "400", "200 413", "413"},
			About: push.AboutPush, Reason: push.BadRequest,
		},
		{
			Said:  []string{"*"},
			About: push.AboutService, Reason: push.Unavailable,
		},
	}
}
