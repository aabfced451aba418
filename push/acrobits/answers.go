package acrobits

import "github.com/sipwake/sipwake/push"

// Answers is what the mediator can answer beside 200: the code of its JSON body, or
// else the HTTP status.
func Answers() []push.Answer {
	return []push.Answer{
		{
			Said:  []string{"404", "410"},
			About: push.AboutToken, Reason: push.TokenDead,
		},
		{
			Said:  []string{"401", "403", "407"},
			About: push.AboutToken, Reason: push.TokenBad,
		},
		{
			Said:  []string{"429"},
			About: push.AboutService, Reason: push.Throttled,
		},
		{
			Said:  []string{"408", "425", "3xx", "5xx"},
			About: push.AboutService, Reason: push.Unavailable,
		},
		{
			Said:  []string{"400", "413", "*"},
			About: push.AboutPush, Reason: push.BadRequest,
		},
	}
}
